package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// In a large fleet no dispatcher watches COMFY_SLOTS, where two writes of each job of a tenant with a cap would be delivered to all of
// them. Only a tenant's home needs to know which of its slots are taken, and it writes them itself. So it reads them when it becomes the
// home, after each of its writes, and once in a while, in case another dispatcher has written them: one that was the home before. What
// is known may be old. The cap holds nevertheless, since a slot is taken by compare-and-set.

// slotReads is which tenants' slots are read.
type slotReads struct {
	needed func() bool                // slots are not watched
	read   func(tenant route.Tenant)  // reads those of a tenant, and calls wereRead
	pause  time.Duration              // between two reads of a tenant
	under  map[route.Tenant]bool      // a read is under way; true: the slots have changed since it began
	at     map[route.Tenant]time.Time // when they were read last
}

// mayHaveChanged has the slots of a tenant read, if this dispatcher is its home and does not watch them.
func (s *tenantSlots) mayHaveChanged(tenant route.Tenant) {
	if !s.reads.needed() || !s.peers.isTenantHome(tenant) {
		return
	}
	_, under := s.reads.under[tenant]
	s.reads.under[tenant] = under
	if !under {
		s.reads.read(tenant)
	}
}

// wereRead takes in what a read has found, or that it failed. Reads of a tenant follow one another, so each has found something newer.
func (s *tenantSlots) wereRead(tenant route.Tenant, taken []queue.Slot, err error, now time.Time) {
	again := s.reads.under[tenant]
	delete(s.reads.under, tenant)
	if err == nil && s.reads.needed() {
		s.reads.at[tenant] = now
		s.put(tenant, taken)
	}
	if again {
		s.mayHaveChanged(tenant)
	}
}

// readOld has the slots read that were not for some time, until pause returns false.
func (s *tenantSlots) readOld(now time.Time, pause func() bool) {
	if !s.reads.needed() {
		clear(s.reads.at)
		return
	}
	for tenant := range s.caps {
		if !s.peers.isTenantHome(tenant) {
			delete(s.reads.at, tenant)
		} else if now.Sub(s.reads.at[tenant]) >= s.reads.pause {
			s.mayHaveChanged(tenant)
		}
		if !pause() {
			return
		}
	}
}

// readSlots reads the taken slots of a tenant for the loop.
func (d *Dispatcher) readSlots(ctx context.Context, tenant route.Tenant) {
	taken, _, err := d.q.Slots(ctx, job.Tenant(tenant))
	if err != nil {
		d.log.Debug("cannot read the slots of a tenant; they are read again in a second", "tenant", tenant, "error", err)
	}
	d.loop.tell(func(now time.Time) { d.loop.slots.wereRead(tenant, taken, err, now) })
}
