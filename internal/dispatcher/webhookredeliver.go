package dispatcher

import (
	"context"
	"errors"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// redeliverLook is how many stored events one call looks at.
const redeliverLook = 20_000

func (d *Dispatcher) apiWebhooksRedeliver(ctx context.Context, r jetstream.RedeliverRequest) (jetstream.RedeliverAnswer, error) {
	return d.redeliver(ctx, r, operatorBy(r.By))
}

func (d *Dispatcher) tenantWebhooksRedeliver(ctx context.Context, tenant job.Tenant, r jetstream.RedeliverRequest) (jetstream.RedeliverAnswer, error) {
	r.Tenant = tenant
	return d.redeliver(ctx, r, tenantBy(tenant, r.By))
}

// redeliver has stored events delivered again. An event that waits already is delivered once more than needed; its webhook-id tells the
// receiver.
func (d *Dispatcher) redeliver(ctx context.Context, r jetstream.RedeliverRequest, by string) (answer jetstream.RedeliverAnswer, err error) {
	w, err := d.webhook(ctx, r.Tenant, r.Name)
	if err != nil {
		return answer, err
	}
	if err := enabled(&w); err != nil {
		return answer, err
	}
	if (r.Sequence == 0) == (r.Since == "") {
		return answer, &jetstream.BadRequest{Message: `say which events are meant: give "since":"24h" for those of that time, or "sequence":N for one`}
	}
	if r.Sequence != 0 {
		answer.Count, err = d.redeliverOne(ctx, &w, r.Sequence)
	} else {
		answer, err = d.redeliverSince(ctx, &w, &r)
	}
	r.By = ""
	d.audit(ctx, queue.AuditRecord{Call: "webhooks.redeliver", By: by, Tenant: ownTenant(r.Tenant), Count: answer.Count}, &r, err)
	return answer, err
}

func (d *Dispatcher) redeliverOne(ctx context.Context, w *queue.WebhookSettings, sequence uint64) (int, error) {
	n, found, err := d.q.EventAt(ctx, sequence)
	if err != nil {
		return 0, err
	}
	if _, may := seesEvent(w, &n); !found || !may {
		return 0, &jetstream.NotFound{Message: "not found: no event that this webhook may receive is stored under this sequence"}
	}
	if err := d.addUndelivered(ctx, w, queue.Undelivered{Sequence: sequence, Time: n.Time, Again: true}); err != nil {
		return 0, err
	}
	return 1, nil
}

// seesEvent reports whether a webhook may receive an event, and the job that this is of.
func seesEvent(w *queue.WebhookSettings, n *jetstream.Note) (job.ID, bool) {
	typ, tenant, id, ok := queue.EventType(n.Subject)
	return id, ok && w.Sees(typ, tenant)
}

// addUndelivered tells the caller when too many events wait already.
func (d *Dispatcher) addUndelivered(ctx context.Context, w *queue.WebhookSettings, u queue.Undelivered) error {
	err := d.q.AddUndelivered(ctx, w.Owner, w.Name, u)
	if errors.Is(err, queue.ErrTooManyUndelivered) {
		return &jetstream.TooMany{Message: err.Error() + ": try again when some of them are delivered"}
	}
	return err
}

func (d *Dispatcher) redeliverSince(ctx context.Context, w *queue.WebhookSettings, r *jetstream.RedeliverRequest) (answer jetstream.RedeliverAnswer, err error) {
	since, err := sinceOf(r.Since, d.clock())
	if err != nil {
		return answer, err
	}
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	looked, full := 0, false
	var failed error
	next, err := d.q.EventsFor(ctx, w, r.After, since, func(n *jetstream.Note) bool {
		if looked++; looked > redeliverLook || answer.Count >= p.rows {
			full = true
			return false
		}
		again, err := d.missed(ctx, w, n, r.All)
		if err == nil && again {
			err = d.addUndelivered(ctx, w, queue.Undelivered{Sequence: n.Sequence, Time: n.Time, Again: true})
		}
		if failed = err; err != nil {
			return false
		}
		if again {
			answer.Count++
		}
		return true
	})
	if full {
		answer.Next = next
	}
	return answer, errors.Join(failed, err)
}

// missed reports whether a webhook is to receive an event and has not received it; with all, only whether it is to receive it.
func (d *Dispatcher) missed(ctx context.Context, w *queue.WebhookSettings, n *jetstream.Note, all bool) (bool, error) {
	id, may := seesEvent(w, n)
	typ, _, _, _ := queue.EventType(n.Subject)
	if !may || !w.Wants(typ) || w.Named && queue.NamedWebhook(n.Body) != w.Name {
		return false, nil
	}
	if all {
		return true, nil
	}
	delivered, err := d.q.WasDelivered(ctx, w.Owner, w.Name, id, n.Sequence)
	return !delivered, err
}
