package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// leaseLoop extends every lease each third of its AckWait. It stops doing so for prompts of a ComfyUI that does
// not answer: a frozen host must not keep its jobs for ever.
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

// extend loses an extension that cannot be sent: the connection is closed for good then.
func (h *host) extend(lease jetstream.Lease) {
	if err := h.q.Extend(lease); err != nil {
		h.log.Debug("cannot extend a lease", "error", err)
		return
	}
	h.meters.extensions.Inc()
}
