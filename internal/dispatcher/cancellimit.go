package dispatcher

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// unseenMost is how many jobs a tenant may cancel that have no events yet: each cancel is stored as an event, under an id
// that the tenant may have invented. Calls under way at the same moment may exceed it.
const unseenMost = 1000

// mayCancelUnseen refuses a forced cancel of a job without events to a tenant that has cancelled too many of them.
func (d *Dispatcher) mayCancelUnseen(ctx context.Context, tenant job.Tenant, id job.ID) error {
	if _, found, err := d.q.Last(ctx, tenant, id); err != nil || found {
		return err
	}
	n, err := d.history.unseen(ctx, tenant)
	if err != nil || n < unseenMost {
		return err
	}
	return &jetstream.TooMany{Message: fmt.Sprintf("job %s was never seen, and tenant %s has cancelled %d such jobs beforehand, which is the most: cancel it when it is there, "+
		"or wait until events of the others are older than %s and gone", id, tenant, n, d.q.EventsAge())}
}

// unseen counts the jobs that a tenant has cancelled before they had any event.
func (h *jobHistory) unseen(ctx context.Context, tenant job.Tenant) (int, error) {
	if err := h.caughtUp(ctx); err != nil {
		return 0, err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.fold.Unseen(tenant), nil
}
