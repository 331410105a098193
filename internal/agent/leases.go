package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// leaseLoop extends the lease of every run every third of the shortest AckWait. The lease of a run that another attempt has
// superseded is left out.
func (h *host) leaseLoop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-h.extendNow:
		}
		held, shortest := h.admission.leases()
		for _, lease := range held {
			h.extend(lease)
		}
		if shortest == 0 {
			shortest = h.q.AckWait()
		}
		h.extendEvery.Store(int64(shortest / 3))
		timer.Reset(shortest / 3)
	}
}

// extend does not try again: an extension that cannot be sent means that the connection is closed for good.
func (h *host) extend(lease queue.Lease) {
	if err := h.q.Extend(lease); err != nil {
		h.log.Debug("cannot extend a lease", "error", err)
		return
	}
	h.meters.extensions.Inc()
}
