package agent

import (
	"context"
	"errors"
	"time"
)

// reconnectLoop makes up for what was missed while NATS was away: leases are extended, the presence is renewed, and
// the chain of every job that is here is looked at, since its cancel may have been told to nobody.
func (h *host) reconnectLoop(ctx context.Context) error {
	reconnected := h.q.Reconnected()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
		}
		reconnected = h.q.Reconnected() // before the work, so that another one meanwhile is not missed
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

// review leaves a job alone whose chain cannot be read: what the walk appends next meets the truth.
func (h *host) review(ctx context.Context, r *run) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	last, found, err := h.q.Last(ctx, r.tenant, r.job)
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.Warn("cannot read a job's chain", "job", r.key, "error", err)
	}
	if err == nil && found {
		r.apply(last.Event)
	}
}
