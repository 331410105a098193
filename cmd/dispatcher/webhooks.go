package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// webhooksCmd is about webhooks.
type webhooksCmd struct {
	List      webhooksListCmd      `cmd:"" default:"withargs" help:"List webhooks with what came of the last deliveries; dispatcher webhooks does the same."`
	Set       webhooksSetCmd       `cmd:"" help:"Make or change a webhook."`
	Remove    webhooksRemoveCmd    `cmd:"" help:"Remove a webhook with all that was not delivered to it."`
	Rotate    webhooksRotateCmd    `cmd:"" help:"Give a webhook another secret."`
	Test      webhooksTestCmd      `cmd:"" help:"Deliver a test to a webhook, and show what came of it."`
	Redeliver webhooksRedeliverCmd `cmd:"" help:"Deliver stored events again."`
}

// Help is shown after the flags.
func (*webhooksCmd) Help() string {
	return `Examples:
  dispatcher webhooks
  dispatcher webhooks set orders --url https://shop.example.com/hooks`
}

// hookFlags name one webhook.
type hookFlags struct {
	tenantFlags
	Fleet   bool   `help:"A webhook of the fleet, which may receive the events of all tenants, blocks and hosts."`
	Webhook string `arg:"" help:"Name of the webhook."`
}

// Validate refuses a wrong name.
func (f *hookFlags) Validate() error {
	switch {
	case !job.ValidHost(f.Webhook):
		return fmt.Errorf("%q is not the name of a webhook; give 1 to 64 of A-Z a-z 0-9 _ -", f.Webhook)
	case f.Fleet && f.Tenant != "":
		return errors.New("give --fleet or --tenant, and not both")
	}
	return nil
}

// owner is whose the webhook is.
func (f *hookFlags) owner() (job.Tenant, error) {
	if f.Fleet {
		return names.Fleet, nil
	}
	return f.whose()
}

// hookCall makes a call about a webhook: a tenant's own, or an operator's when the webhook is the fleet's.
func hookCall[Answer, Request any](ctx context.Context, c *daemon.Console, f *hookFlags, name string, request *Request, own func(*jetstream.Client, context.Context, Request) (Answer, error)) (answer Answer, err error) {
	err = hookCalls(ctx, c, f, name, request, own, func(page *Answer) bool {
		answer = *page
		return false
	})
	return answer, err
}

func hookCalls[Answer, Request any](ctx context.Context, c *daemon.Console, f *hookFlags, name string, request *Request, own func(*jetstream.Client, context.Context, Request) (Answer, error), keep func(*Answer) bool) error {
	owner, err := f.owner()
	if err != nil {
		return err
	}
	if owner == names.Fleet {
		owner = ""
	}
	ask, _, done, err := listing[Answer, Request]{name: "webhooks." + name, own: own, request: request}.asker(ctx, c, &f.client, string(owner))
	if err != nil {
		return err
	}
	defer done()
	return eachPage(ask, keep)
}

type webhooksSetCmd struct {
	hookFlags
	URL     string   `name:"url" placeholder:"URL" help:"Where events are delivered, as https://shop.example.com/hooks; needed for a new webhook."`
	Events  []string `placeholder:"TYPE" unset:"job.completed, job.dead, job.cancelled" help:"Types of events that are delivered, as job.failed or job.*, repeatable."`
	Named   *bool    `negatable:"" help:"Deliver only events of jobs that name the webhook."`
	Disable bool     `help:"Deliver nothing until it is enabled again."`
	Enable  bool     `help:"Deliver events again, from now on."`
	JSON    bool     `help:"Print the answer as a JSON object."`
}

// Help is shown after the flags.
func (*webhooksSetCmd) Help() string {
	return `Examples:
  dispatcher webhooks set orders --url https://shop.example.com/hooks
  dispatcher webhooks set orders --events job.completed --events job.dead --named
  dispatcher webhooks set alerts --fleet --url https://pager.example.com/x --events 'block.*' --events host.unhealthy
  dispatcher webhooks set orders --enable`
}

// Run makes or changes it.
func (w *webhooksSetCmd) Run(ctx context.Context, c *daemon.Console) error {
	if w.Disable && w.Enable {
		return errors.New("give --enable or --disable, and not both")
	}
	owner, err := w.owner()
	if err != nil {
		return err
	}
	request := jetstream.SetWebhookRequest{Tenant: owner, Name: w.Webhook, URL: w.URL, Events: w.Events, Named: w.Named, By: by()}
	if w.Disable || w.Enable {
		request.Disable = &w.Disable
	}
	answer, err := hookCall(ctx, c, &w.hookFlags, "set", &request, (*jetstream.Client).SetWebhook)
	if err != nil {
		return err
	}
	return tellSecret(c, &answer, w.JSON)
}

func tellSecret(c *daemon.Console, answer *jetstream.SetWebhookAnswer, asJSON bool) error {
	if asJSON {
		return c.JSON(answer)
	}
	if err := tellWebhooks(c, []jetstream.Webhook{answer.Webhook}, time.Time{}); err != nil {
		return err
	}
	if answer.Secret != "" {
		c.Say("the receiver verifies deliveries by this secret, which is not shown again:")
		c.Print("%s", answer.Secret)
	}
	return nil
}

type webhooksRemoveCmd struct{ hookFlags }

// Help is shown after the flags.
func (*webhooksRemoveCmd) Help() string {
	return `Examples:
  dispatcher webhooks remove orders`
}

// Run removes it.
func (w *webhooksRemoveCmd) Run(ctx context.Context, c *daemon.Console) error {
	owner, err := w.owner()
	if err != nil {
		return err
	}
	request := jetstream.RemoveWebhookRequest{Tenant: owner, Name: w.Webhook, By: by()}
	if _, err := hookCall(ctx, c, &w.hookFlags, "remove", &request, (*jetstream.Client).RemoveWebhook); err != nil {
		return err
	}
	c.Print("webhook %s is removed", w.Webhook)
	return nil
}

type webhooksRotateCmd struct {
	hookFlags
	Overlap time.Duration `placeholder:"DURATION" default:"24h" range:"0s..168h" help:"How long deliveries are signed with the former secret too."`
	JSON    bool          `help:"Print the answer as a JSON object."`
}

// Help is shown after the flags.
func (*webhooksRotateCmd) Help() string {
	return `Examples:
  dispatcher webhooks rotate orders
  dispatcher webhooks rotate orders --overlap 1h --json`
}

// Run makes another secret.
func (w *webhooksRotateCmd) Run(ctx context.Context, c *daemon.Console) error {
	owner, err := w.owner()
	if err != nil {
		return err
	}
	overlap := job.Duration(w.Overlap)
	request := jetstream.RotateWebhookRequest{Tenant: owner, Name: w.Webhook, Overlap: &overlap, By: by()}
	answer, err := hookCall(ctx, c, &w.hookFlags, "rotate", &request, (*jetstream.Client).RotateWebhook)
	if err != nil {
		return err
	}
	return tellSecret(c, &answer, w.JSON)
}

type webhooksTestCmd struct{ hookFlags }

const (
	testWait = 20 * time.Second // longer than a request may take
	testLook = 250 * time.Millisecond
)

// Help is shown after the flags.
func (*webhooksTestCmd) Help() string {
	return `Examples:
  dispatcher webhooks test orders`
}

// Run has a test delivered and waits for what comes of it.
func (w *webhooksTestCmd) Run(ctx context.Context, c *daemon.Console) error {
	owner, err := w.owner()
	if err != nil {
		return err
	}
	request := jetstream.TestWebhookRequest{Tenant: owner, Name: w.Webhook, By: by()}
	answer, err := hookCall(ctx, c, &w.hookFlags, "test", &request, (*jetstream.Client).TestWebhook)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, testWait)
	defer cancel()
	for ctx.Err() == nil {
		hooks, _, err := w.list(ctx, c, &jetstream.WebhooksRequest{Tenant: owner, Name: w.Webhook, Tries: 20})
		if err != nil {
			return err
		}
		for _, hook := range hooks {
			for _, try := range hook.Tries {
				if try.ID == answer.ID {
					return tellTest(c, &try)
				}
			}
		}
		queue.Pause(ctx, testLook)
	}
	return fmt.Errorf("the test %s was not tried within %s; is a dispatcher running? `dispatcher webhooks list` shows what came of it later", answer.ID, testWait)
}

func tellTest(c *daemon.Console, try *jetstream.WebhookTry) error {
	if try.Outcome != jetstream.Delivered {
		return fmt.Errorf("the test was not delivered: %s", daemon.Printable(try.Error))
	}
	c.Print("delivered in %s: the receiver answered %d", time.Duration(try.Took).Round(time.Millisecond), try.Status)
	return nil
}

type webhooksRedeliverCmd struct {
	hookFlags
	Since    since  `placeholder:"DURATION|TIME" help:"Events that were stored since then, as 6h or 2026-12-01T08:00:00Z, and were not delivered."`
	All      bool   `help:"Also those that were delivered."`
	Sequence uint64 `placeholder:"N" help:"One event, by its sequence, whether it was delivered or not."`
}

// Help is shown after the flags.
func (*webhooksRedeliverCmd) Help() string {
	return `Examples:
  dispatcher webhooks redeliver orders --since 6h
  dispatcher webhooks redeliver orders --sequence 1842`
}

// Run has events delivered again.
func (w *webhooksRedeliverCmd) Run(ctx context.Context, c *daemon.Console) error {
	owner, err := w.owner()
	if err != nil {
		return err
	}
	request := jetstream.RedeliverRequest{Tenant: owner, Name: w.Webhook, Sequence: w.Sequence, Since: w.Since.String(), All: w.All, By: by()}
	count := 0
	err = hookCalls(ctx, c, &w.hookFlags, "redeliver", &request, (*jetstream.Client).RedeliverWebhook, func(page *jetstream.RedeliverAnswer) bool {
		count += page.Count
		return following(&request.After, page.Next)
	})
	if err != nil {
		return err
	}
	c.Print("%d events will be delivered", count)
	return nil
}

type webhooksListCmd struct {
	client
	Tenant string `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only webhooks of this tenant."`
	Tries  int    `placeholder:"N" default:"1" range:"1..20" help:"How many of the last tries of each are shown."`
	JSON   bool   `help:"Print one JSON object a line."`
}

// Help is shown after the flags.
func (*webhooksListCmd) Help() string {
	return `Examples:
  dispatcher webhooks
  dispatcher webhooks list --tenant acme --tries 20 --json`
}

// Run lists.
func (w *webhooksListCmd) Run(ctx context.Context, c *daemon.Console) error {
	hooks, now, err := listWebhooks(ctx, c, &w.client, w.Tenant, &jetstream.WebhooksRequest{Tries: w.Tries})
	if err != nil {
		return err
	}
	if w.JSON {
		for i := range hooks {
			if err := c.JSON(&hooks[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(hooks) == 0 {
		c.Say("there are no webhooks; `dispatcher webhooks set NAME --url URL` makes one")
		return nil
	}
	return tellWebhooks(c, hooks, now)
}

// list lists the webhooks of the owner that the flags name.
func (f *hookFlags) list(ctx context.Context, c *daemon.Console, request *jetstream.WebhooksRequest) ([]jetstream.Webhook, time.Time, error) {
	if f.Fleet {
		return listWebhooks(ctx, c, &f.client, "", request)
	}
	owner, err := f.owner()
	if err != nil {
		return nil, time.Time{}, err
	}
	return listWebhooks(ctx, c, &f.client, string(owner), request)
}

func listWebhooks(ctx context.Context, c *daemon.Console, f *client, tenant string, request *jetstream.WebhooksRequest) (all []jetstream.Webhook, at time.Time, err error) {
	ask, now, done, err := listing[jetstream.WebhooksAnswer, jetstream.WebhooksRequest]{name: "webhooks", own: (*jetstream.Client).Webhooks, request: request}.
		asker(ctx, c, f, tenant)
	if err != nil {
		return nil, at, err
	}
	defer done()
	err = eachPage(ask, func(page *jetstream.WebhooksAnswer) bool {
		all = append(all, page.Webhooks...)
		return following(&request.After, page.Next)
	})
	return all, now(), err
}

// tellWebhooks prints them; at the zero time without what came of deliveries.
func tellWebhooks(c *daemon.Console, hooks []jetstream.Webhook, now time.Time) error {
	rows := [][]string{{"WEBHOOK", "STATE", "URL", "EVENTS", "WAITING", "LAST TRIES"}}
	for i := range hooks {
		h := &hooks[i]
		rows = append(rows, []string{
			string(h.Tenant) + "/" + h.Name, hookState(h), daemon.Short(h.URL, 60), strings.Join(h.Events, " "), hookBacklog(h, now), triesWord(h.Tries, now),
		})
	}
	return c.Table(rows)
}

func hookState(h *jetstream.Webhook) string {
	switch {
	case h.Disabled != nil:
		return "disabled: " + daemon.Short(cmp.Or(h.Reason, "by hand"), 60)
	case h.Named:
		return "for jobs that name it"
	}
	return "enabled"
}

func hookBacklog(h *jetstream.Webhook, now time.Time) string {
	if h.Oldest == nil || now.IsZero() {
		return count(h.Pending)
	}
	return count(h.Pending) + " since " + daemon.Ago(*h.Oldest, now)
}

func triesWord(tries []jetstream.WebhookTry, now time.Time) string {
	var words []string
	for i := range tries {
		t := &tries[i]
		word := string(t.Outcome)
		if t.Error != "" {
			word += " (" + t.Error + ")"
		}
		words = append(words, fmt.Sprintf("%s %s %s", t.Type, word, daemon.Ago(t.Time, now)))
	}
	return strings.Join(words, "; ")
}
