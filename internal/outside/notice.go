package outside

import (
	"context"
	"errors"
	"slices"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// notice stores for each webhook that wants an event that it is to be delivered. After a crash in between NATS delivers the event again, and
// those webhooks for which it was stored are left out by NATS, which recognizes the same delivery for two minutes.
func (w *Webhooks) notice(ctx context.Context, n *jetstream.Note) error {
	typ, tenant, id, ok := queue.EventType(n.Subject)
	if !ok {
		return nil
	}
	named := ""
	if id != "" {
		named = queue.NamedWebhook(n.Body)
	}
	hooks, err := w.wanting(ctx, tenant, named)
	if err != nil {
		return err
	}
	for i := range hooks {
		h := &hooks[i]
		if !h.Receives(typ, tenant, named, n.Time) {
			continue
		}
		err := w.q.AddUndelivered(ctx, h.Owner, h.Name, queue.Undelivered{Sequence: n.Sequence, Time: n.Time})
		if errors.Is(err, queue.ErrTooManyUndelivered) {
			w.record(ctx, &jetstream.WebhookTry{
				Tenant: h.Owner, Webhook: h.Name, ID: eventID(n), Type: typ, Sequence: n.Sequence, Job: id, Outcome: jetstream.Dropped, Error: err.Error(),
			})
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wanting are the webhooks that may want an event. One that its job names is read from NATS when it is not known yet.
func (w *Webhooks) wanting(ctx context.Context, tenant job.Tenant, named string) ([]queue.WebhookSettings, error) {
	hooks := w.known.of(tenant)
	isNamed := func(h queue.WebhookSettings) bool { return h.Owner == tenant && h.Name == named }
	if !job.ValidHost(named) || slices.ContainsFunc(hooks, isNamed) {
		return hooks, nil
	}
	h, found, err := w.q.Webhook(ctx, tenant, named)
	if found {
		hooks = append(hooks, h)
	}
	return hooks, err
}
