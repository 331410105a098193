package jetstream

import (
	"context"
	"time"
)

// Webhook is an address to which dispatchers deliver events, signed as Standard Webhooks describes, with the state of its deliveries.
type Webhook struct {
	Tenant  Tenant     `json:"tenant"` // whose it is; * stands for the fleet, of which it gets all events
	Name    string     `json:"name"`
	URL     string     `json:"url"`
	Events  []string   `json:"events"`            // types of events, such as job.dead or job.*
	Named   bool       `json:"named,omitempty"`   // only events of jobs that name it
	Created time.Time  `json:"created"`           // events from before are not delivered
	Rotated *time.Time `json:"rotated,omitempty"` // until then deliveries are signed with the former secret too

	Disabled *time.Time `json:"disabled,omitempty"` // since when nothing is delivered
	Reason   string     `json:"reason,omitempty"`   // why it is disabled

	Pending int          `json:"pending"`          // events that were not delivered yet
	Oldest  *time.Time   `json:"oldest,omitempty"` // since when the oldest of them waits
	Tries   []WebhookTry `json:"tries,omitempty"`  // the last ones, newest first
}

// WebhookTry is one try to deliver an event to a webhook. The dispatcher that made it stores it as an event,
// on comfy.events.webhooks.<tenant>.<webhook>.<job>.<sequence>.<outcome>.
type WebhookTry struct {
	Tenant   Tenant     `json:"tenant"` // of the webhook; * is the fleet
	Webhook  string     `json:"webhook"`
	ID       string     `json:"id"`                 // the header webhook-id, the same in all tries of an event
	Type     string     `json:"type"`               // of the event, such as job.completed
	Sequence uint64     `json:"sequence,omitempty"` // of the event in COMFY_EVENTS; 0: a test
	Job      ID         `json:"job,omitempty"`      // of an event of a job
	Outcome  Outcome    `json:"outcome"`
	Status   int        `json:"status,omitempty"` // of the answer in HTTP; 0: there was none
	Error    string     `json:"error,omitempty"`  // why it failed
	Took     Duration   `json:"took"`
	Waited   Duration   `json:"waited"`         // from the event to this try
	Next     *time.Time `json:"next,omitempty"` // when it is tried again, at the earliest
	By       string     `json:"by"`             // the dispatcher
	Time     time.Time  `json:"time"`
}

// Outcome says what came of a try.
type Outcome string

const (
	Delivered Outcome = "delivered" // the answer was 2xx
	TryFailed Outcome = "failed"    // it is tried again
	GaveUp    Outcome = "gave_up"   // it failed for a day, and is not tried again
	Disabled  Outcome = "disabled"  // the answer was 410, or nothing was delivered for a day: the webhook is disabled
	Dropped   Outcome = "dropped"   // it was not tried, since the webhook has too many undelivered events
)

// Outcomes lists the closed set.
func Outcomes() []Outcome { return []Outcome{Delivered, TryFailed, GaveUp, Disabled, Dropped} }

// WebhooksRequest lists webhooks by tenant and name.
type WebhooksRequest struct {
	Tenant Tenant `json:"tenant,omitempty"` // * is the fleet; empty: all
	Name   string `json:"name,omitempty"`
	Tries  int    `json:"tries,omitempty"` // the most tries of each; 5 is the default, 20 the maximum
	After  string `json:"after,omitempty"` // only webhooks after this one: Next of the previous answer
	Limit  int    `json:"limit,omitempty"` // the most webhooks to list; 500 is the maximum and the default
}

// WebhooksAnswer is a page of webhooks.
type WebhooksAnswer struct {
	Webhooks []Webhook `json:"webhooks"`
	Next     string    `json:"next,omitempty"` // the After of the next page; empty on the last
}

// SetWebhookRequest makes a webhook, or changes what it names of one.
type SetWebhookRequest struct {
	Tenant  Tenant   `json:"tenant,omitempty"`
	Name    string   `json:"name"`
	URL     string   `json:"url,omitempty"`     // https; http only to an address that dispatchers allow
	Events  []string `json:"events,omitempty"`  // default job.completed, job.dead and job.cancelled
	Named   *bool    `json:"named,omitempty"`   // default false
	Disable *bool    `json:"disable,omitempty"` // true: nothing is delivered; false: events from now on are again
	By      string   `json:"by,omitempty"`      // who asks; at most 64 characters are kept
}

// SetWebhookAnswer has the webhook as it is now.
type SetWebhookAnswer struct {
	Webhook Webhook `json:"webhook"`
	Secret  string  `json:"secret,omitempty"` // by which the receiver verifies deliveries; only when it is new, and never again
}

// RemoveWebhookRequest removes a webhook with all that was not delivered.
type RemoveWebhookRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Name   string `json:"name"`
	By     string `json:"by,omitempty"`
}

// RemoveWebhookAnswer says whether there was one.
type RemoveWebhookAnswer struct {
	Count int `json:"count"`
}

// RotateWebhookRequest gives a webhook another secret.
type RotateWebhookRequest struct {
	Tenant  Tenant    `json:"tenant,omitempty"`
	Name    string    `json:"name"`
	Overlap *Duration `json:"overlap,omitempty"` // how long deliveries are signed with the former secret too; default 24h, at most 168h
	By      string    `json:"by,omitempty"`
}

// TestWebhookRequest has a test delivered.
type TestWebhookRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Name   string `json:"name"`
	By     string `json:"by,omitempty"`
}

// TestWebhookAnswer names the test. What came of it is among the tries of the webhook soon.
type TestWebhookAnswer struct {
	ID string `json:"id"` // the header webhook-id
}

// RedeliverRequest has stored events delivered again: one, or all since a time. Deliveries of one event have the same webhook-id, so
// a receiver recognizes those that it has got.
type RedeliverRequest struct {
	Tenant   Tenant `json:"tenant,omitempty"`
	Name     string `json:"name"`
	Sequence uint64 `json:"sequence,omitempty"` // of one event in COMFY_EVENTS, which is delivered again also if it was before
	Since    string `json:"since,omitempty"`    // a time, or a duration before now
	All      bool   `json:"all,omitempty"`      // with since: also those that were delivered
	After    uint64 `json:"after,omitempty"`    // only events after this one: Next of the previous answer
	Limit    int    `json:"limit,omitempty"`    // the most events to deliver; 500 is the maximum and the default
	By       string `json:"by,omitempty"`
}

// RedeliverAnswer counts the events that will be delivered. While there is a Next, ask again with it as After.
type RedeliverAnswer struct {
	Count int    `json:"count"`
	Next  uint64 `json:"next,omitempty"` // more may follow after it; 0 at the end
}

// Webhooks lists the tenant's webhooks, each with its last tries.
func (c *Client) Webhooks(ctx context.Context, r WebhooksRequest) (WebhooksAnswer, error) {
	return answerTo[WebhooksAnswer](ctx, c, "webhooks", r)
}

// SetWebhook makes a webhook, or changes one. The secret of a new one is only in this answer. A wrong address is a BadRequest.
func (c *Client) SetWebhook(ctx context.Context, r SetWebhookRequest) (SetWebhookAnswer, error) {
	return answerTo[SetWebhookAnswer](ctx, c, "webhooks.set", r)
}

// RemoveWebhook removes a webhook.
func (c *Client) RemoveWebhook(ctx context.Context, r RemoveWebhookRequest) (RemoveWebhookAnswer, error) {
	return answerTo[RemoveWebhookAnswer](ctx, c, "webhooks.remove", r)
}

// RotateWebhook gives a webhook another secret. For a time deliveries are signed with both, so that the receiver can change over
// without missing one.
func (c *Client) RotateWebhook(ctx context.Context, r RotateWebhookRequest) (SetWebhookAnswer, error) {
	return answerTo[SetWebhookAnswer](ctx, c, "webhooks.rotate", r)
}

// TestWebhook has a test delivered; Webhooks shows what came of it.
func (c *Client) TestWebhook(ctx context.Context, r TestWebhookRequest) (TestWebhookAnswer, error) {
	return answerTo[TestWebhookAnswer](ctx, c, "webhooks.test", r)
}

// RedeliverWebhook has stored events delivered again, at most 500 at a time: while the answer's Next is not 0, ask again with it as
// After.
func (c *Client) RedeliverWebhook(ctx context.Context, r RedeliverRequest) (RedeliverAnswer, error) {
	return answerTo[RedeliverAnswer](ctx, c, "webhooks.redeliver", r)
}
