package outside

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// concludeTime is how long the record of a try and the removal of its delivery may take when the process stops.
const concludeTime = 3 * time.Second

// delivery is one try to deliver an event.
type delivery struct {
	*queue.Handed
	hook queue.WebhookSettings
	typ  string
	job  job.ID
	message
}

// eventID is the webhook-id of an event: its time distinguishes it from one of the same sequence in a stream that was made again.
func eventID(n *jetstream.Note) string {
	return "evt_" + strconv.FormatInt(n.Time.Unix(), 36) + "_" + strconv.FormatUint(n.Sequence, 10)
}

// try makes one try, records it and removes the delivery or has it come again.
func (w *Webhooks) try(ctx context.Context, h *queue.Handed) tryOutcome {
	d, why, err := w.prepare(ctx, h)
	switch {
	case err != nil:
		w.failed("prepare a try of a webhook")(err)
		return tryOutcome{}
	case d == nil:
		w.log.Debug("nothing is delivered", "webhook", h.Name, "owner", h.Owner, "sequence", h.Sequence, "reason", why)
		w.logFailed(h.Done())
		return tryOutcome{}
	}
	fleet, err := w.q.Secret(ctx, queue.WebhooksSecret)
	if err != nil {
		w.failed("read the secret of webhooks")(err)
		return tryOutcome{}
	}
	begun := time.Now()
	result := w.send.post(ctx, d.hook.URL, &d.message, d.hook.Secrets(fleet, w.q.Now()), w.q.Now())
	if ctx.Err() != nil && result.err != nil {
		w.logFailed(h.Later(0)) // this process stops: another one tries
		return tryOutcome{}
	}
	took := time.Since(begun)
	w.metrics.took.Observe(took.Seconds())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), concludeTime)
	defer cancel()
	return w.conclude(ctx, d, &result, took)
}

// conclude takes in what came of the request.
func (w *Webhooks) conclude(ctx context.Context, d *delivery, result *sent, took time.Duration) tryOutcome {
	try := jetstream.WebhookTry{
		Tenant: d.Owner, Webhook: d.Name, ID: d.id, Type: d.typ, Sequence: d.Sequence, Job: d.job, Outcome: jetstream.Delivered, Status: result.status,
		Took: job.Duration(took.Round(time.Microsecond)), Waited: job.Duration(w.q.Now().Sub(d.Time).Round(time.Millisecond)),
	}
	if result.delivered() {
		w.record(ctx, &try)
		w.logFailed(d.Done())
		return tryOutcome{tried: true}
	}
	try.Error = result.words(w.cfg.Timeout)
	w.log.Debug("a delivery failed", "webhook", d.Name, "owner", d.Owner, "status", result.status, "error", result.err)
	if result.status == http.StatusGone {
		w.disable(ctx, d, &try, "the receiver answered 410 (Gone)")
		return tryOutcome{tried: true}
	}
	rest, again := schedule(w.cfg.Schedule).next(w.q.Now().Sub(d.Stored))
	if !again || d.Test != "" {
		w.giveUp(ctx, d, &try)
		return tryOutcome{tried: true, failed: true}
	}
	rest = max(rest, result.rest)
	next := w.q.Now().Add(rest).UTC()
	try.Outcome, try.Next = jetstream.TryFailed, &next
	w.record(ctx, &try)
	w.logFailed(d.Later(rest))
	return tryOutcome{tried: true, failed: true, rest: result.rest}
}

// logFailed logs that a delivery could not be removed or put off: it comes again.
func (w *Webhooks) logFailed(err error) {
	if err != nil {
		w.failed("remove or put off a delivery")(err)
	}
}

// giveUp ends a delivery that has failed at each age of the schedule. When nothing was delivered to the webhook in all that time, the webhook is disabled.
func (w *Webhooks) giveUp(ctx context.Context, d *delivery, try *jetstream.WebhookTry) {
	last, err := w.q.LastDelivered(ctx, d.Owner, d.Name)
	if err == nil && d.Test == "" && last.Before(d.Stored) {
		whole := w.cfg.Schedule[len(w.cfg.Schedule)-1]
		w.disable(ctx, d, try, fmt.Sprintf("nothing was delivered for %s, the last time since: %s", whole, try.Error))
		return
	}
	try.Outcome = jetstream.GaveUp
	w.record(ctx, try)
	w.logFailed(d.Done())
}

// disable ends all deliveries to a webhook.
func (w *Webhooks) disable(ctx context.Context, d *delivery, try *jetstream.WebhookTry, why string) {
	err := queue.RetryConflict(ctx, "disable webhook "+d.Name, func() (bool, error) {
		hook, found, err := w.q.Webhook(ctx, d.Owner, d.Name)
		if err != nil || !found || hook.Disabled != nil || hook.URL != d.hook.URL {
			return err == nil, err // another process was first, or somebody has changed the address
		}
		now := w.q.Now().UTC()
		hook.Disabled, hook.Reason = &now, why
		return w.q.PutWebhook(ctx, &hook)
	})
	if err != nil {
		w.failed("disable a webhook")(err)
		return
	}
	w.log.Warn("a webhook is disabled", "webhook", d.Name, "owner", d.Owner, "reason", why)
	try.Outcome = jetstream.Disabled
	w.record(ctx, try)
	w.logFailed(d.Done())
	w.logFailed(w.q.ForgetUndelivered(ctx, d.Owner, d.Name))
}

// record stores a try. When that fails the try is missing in lists, and nothing else depends on it.
func (w *Webhooks) record(ctx context.Context, try *jetstream.WebhookTry) {
	try.Time, try.By = w.q.Now().UTC(), w.cfg.Name
	w.metrics.tries.WithLabelValues(string(try.Outcome)).Inc()
	if err := w.q.AppendTry(ctx, try, "comfyherd/webhooks/"+w.cfg.Name); err != nil {
		w.log.Warn("a try to deliver an event could not be recorded", "webhook", try.Webhook, "owner", try.Tenant, "outcome", try.Outcome, "error", err)
	}
}

// prepare reads the webhook and the event. Without either, or when the event is not for this webhook, there is nothing to deliver.
func (w *Webhooks) prepare(ctx context.Context, h *queue.Handed) (d *delivery, why string, err error) {
	hook, found, err := w.q.Webhook(ctx, h.Owner, h.Name)
	if err != nil || !found || hook.Disabled != nil {
		return nil, "the webhook was removed or is disabled", err
	}
	if h.Test != "" {
		body, err := payload(queue.TestType, h.Time, fmt.Appendf(nil, `{"tenant":%q,"webhook":%q}`, h.Owner, h.Name))
		return &delivery{Handed: h, hook: hook, typ: queue.TestType, message: message{h.Test, body}}, "", err
	}
	n, found, err := w.q.EventAt(ctx, h.Sequence)
	if err != nil || !found {
		return nil, "the event is not stored any more", err
	}
	typ, tenant, id, ok := queue.EventType(n.Subject)
	if !ok || !hook.Sees(typ, tenant) {
		return nil, "the webhook may not receive the event", nil
	}
	body, err := payload(typ, n.Time, n.Body)
	if err != nil {
		return nil, "the event is no JSON", nil //nolint:nilerr // another program has written it
	}
	return &delivery{Handed: h, hook: hook, typ: typ, job: id, message: message{eventID(&n), body}}, "", nil
}

// payload is what is sent. The same event gives the same bytes each time.
func payload(typ string, at time.Time, data json.RawMessage) ([]byte, error) {
	body, err := json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{typ, at.UTC(), data})
	if err != nil {
		return nil, fmt.Errorf("encode the event %s: %w", typ, err)
	}
	return body, nil
}
