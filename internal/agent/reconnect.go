package agent

import (
	"context"
	"errors"
	"time"
)

// reconnectLoop makes up for what was missed while NATS was disconnected: it extends leases, renews the presence, sends the
// newest acks again, and reads the chain of every job that is here, since a cancel may have been missed.
func (h *host) reconnectLoop(ctx context.Context) error {
	reconnected := h.q.Reconnected()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
		}
		reconnected = h.q.Reconnected() // before the work, so that a reconnect during it is not missed
		h.log.Info("NATS is connected again", "running", h.admission.busy())
		signal(h.extendNow)
		h.announce()
		for _, lease := range h.acked.recent(time.Now()) {
			h.ackLease(lease)
		}
		for _, r := range h.admission.all() {
			h.review(ctx, r)
		}
	}
}

// review applies the last event of a run's job. When it cannot be read, the attempt finds it when it appends next.
func (h *host) review(ctx context.Context, r *run) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	last, found, err := h.q.Last(ctx, r.tenant, r.job)
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.Warn("cannot read the events of a job; it goes on", "job", r.key, "error", err)
	}
	if err == nil && found {
		r.apply(last.Event)
	}
}
