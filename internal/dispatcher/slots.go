package dispatcher

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A tenant with max_running has so many slots, and none of its jobs is offered without one. Which are taken stands in
// COMFY_SLOTS, written by compare-and-set, so that no number of dispatchers takes more. That few of them try is the work
// of the tenant's home dispatcher: the others give it the tenant's jobs through the waiting room.
//
// A slot is taken before its job is offered, and free again when the job's chain says that it does not run any more,
// which the tenant's home looks for. Of a dispatcher that died before an agent had accepted the job it is free after
// one presence TTL.

const (
	slotLook  = time.Second            // between two looks at slots whose jobs no host names
	slotGrace = 3 * time.Second        // how long an offer may be under way
	slotPause = 200 * time.Millisecond // before a tenant that was found full is tried again
)

// slotTable is what the brain knows of tenants with a cap.
type slotTable struct {
	caps  map[route.Tenant]bool
	taken map[route.Tenant][]queue.Slot
	full  map[route.Tenant]bool // was found full a moment ago
	looks map[idKey]bool        // jobs whose slots are being looked at
}

func newSlotTable() slotTable {
	return slotTable{
		caps: map[route.Tenant]bool{}, taken: map[route.Tenant][]queue.Slot{},
		full: map[route.Tenant]bool{}, looks: map[idKey]bool{},
	}
}

func (b *brain) hearSlots(c queue.Change) {
	b.mirror(slotSource, c, func(c queue.Change, _ time.Time) {
		taken, ok := queue.SlotsOf(c)
		if !ok {
			b.odd.tell(b.d.log, names.SlotsBucket, c.Key, "it is no list of slots")
			return
		}
		b.putSlots(route.Tenant(c.Key), taken)
	}, func(c queue.Change, _ time.Time) {
		b.putSlots(route.Tenant(c.Key), nil)
	}, func() []string {
		keys := make([]string, 0, len(b.slots.taken))
		for tenant := range b.slots.taken {
			keys = append(keys, string(tenant))
		}
		return keys
	})
}

func (b *brain) putSlots(tenant route.Tenant, taken []queue.Slot) {
	if len(taken) == 0 {
		delete(b.slots.taken, tenant)
	} else {
		b.slots.taken[tenant] = taken
	}
	delete(b.slots.full, tenant)
	b.tellSlots(tenant)
	b.dirty, b.review = true, true
}

// putCap sets or, with 0, takes away a tenant's cap.
func (b *brain) putCap(tenant route.Tenant, most int) {
	delete(b.slots.caps, tenant)
	if most > 0 {
		b.slots.caps[tenant] = true
	}
	b.tellSlots(tenant)
}

// capsMost bounds the tenants without settings that are known to have the usual cap.
const capsMost = 1 << 16

// meet lets the usual cap hold for a tenant without settings that is seen for the first time.
func (b *brain) meet(tenant route.Tenant) {
	if b.d.cfg.MaxRunning == 0 || b.slots.caps[tenant] || b.tenants[string(tenant)] {
		return
	}
	if len(b.slots.caps) >= capsMost {
		maps.DeleteFunc(b.slots.caps, func(t route.Tenant, _ bool) bool { return !b.tenants[string(t)] })
	}
	b.putCap(tenant, b.d.cfg.MaxRunning)
}

// tellSlots tells the fleet which of a tenant's jobs it may give to hosts.
func (b *brain) tellSlots(tenant route.Tenant) {
	b.fleet.PutSlots(tenant, len(b.slots.taken[tenant]), b.slots.full[tenant] || !b.tenantHome(tenant))
}

// tenantHome reports whether this dispatcher gives the jobs of a tenant with a cap to hosts.
func (b *brain) tenantHome(tenant route.Tenant) bool { return b.isHome("tenant " + string(tenant)) }

// noSlot is told when a job got no slot although the brain thought so: the table says more than was heard of it.
func (b *brain) noSlot(o *owned, host string) {
	tenant := route.Tenant(o.job.Tenant)
	b.tell(func(now time.Time) {
		b.releaseNow(host, o)
		b.slots.full[tenant] = true
		b.tellSlots(tenant)
		b.at(now.Add(slotPause), func(time.Time) {
			delete(b.slots.full, tenant)
			b.tellSlots(tenant)
			b.dirty = true
		})
	})
}

// slotEnded looks at a slot as soon as its job is off the GPU. Its files may still be on their way.
func (b *brain) slotEnded(e *queue.EndedJob) {
	tenant := route.Tenant(e.Tenant)
	taken := b.slots.taken[tenant]
	i := slices.IndexFunc(taken, func(s queue.Slot) bool { return s.Job == e.Job })
	if i >= 0 && b.tenantHome(tenant) {
		b.lookAtSlot(e.Tenant, taken[i], true)
	}
}

// lookForSlots looks at the slots whose jobs no host says it runs.
func (b *brain) lookForSlots(now time.Time) {
	for tenant, taken := range b.slots.taken {
		if !b.tenantHome(tenant) {
			continue
		}
		for _, s := range taken {
			if now.Sub(s.Time) >= slotGrace && !b.runsOn(job.Tenant(tenant), s) {
				b.lookAtSlot(job.Tenant(tenant), s, false)
			}
		}
	}
}

// runsOn reports whether the host of a slot says that it runs its job.
func (b *brain) runsOn(tenant job.Tenant, s queue.Slot) bool {
	h := b.hosts[s.Host]
	return h != nil && slices.ContainsFunc(h.state.Running, func(r queue.RunningJob) bool {
		return r.Job == s.Job && r.Tenant == tenant
	})
}

func (b *brain) lookAtSlot(tenant job.Tenant, s queue.Slot, patient bool) {
	key := idKey{tenant, s.Job}
	if b.slots.looks[key] {
		return
	}
	b.slots.looks[key] = true
	b.walk(func(ctx context.Context) {
		if err := b.d.freeSlot(ctx, tenant, s, patient); err != nil {
			b.d.log.Debug("look at a slot", "tenant", tenant, "job", s.Job, "error", err)
		}
		b.tell(func(time.Time) { delete(b.slots.looks, key) })
	})
}

// takeSlot takes a slot for a job that is about to be offered to a host; false when its tenant has no more. A job that
// has one already, of an offer that nobody answered, keeps it.
func (d *Dispatcher) takeSlot(ctx context.Context, o *owned, s *spot) (bool, error) {
	if s.most == 0 {
		return true, nil
	}
	mine := queue.Slot{Job: o.job.ID, Host: s.host, By: d.cfg.Name, Time: d.clock().UTC()}
	for {
		taken, revision, err := d.q.Slots(ctx, o.job.Tenant)
		if err != nil {
			return false, err
		}
		taken = slices.DeleteFunc(taken, func(s queue.Slot) bool { return s.Job == o.job.ID })
		if len(taken) >= s.most {
			if taken, err = d.standing(ctx, o.job.Tenant, taken); err != nil || len(taken) >= s.most {
				return false, err
			}
		}
		stored, err := d.q.PutSlots(ctx, o.job.Tenant, append(taken, mine), revision)
		if stored {
			o.slot = mine.Time
		}
		if err != nil || stored {
			return stored, err
		}
	}
}

// standing leaves out the slots whose jobs do not run any more.
func (d *Dispatcher) standing(ctx context.Context, tenant job.Tenant, taken []queue.Slot) ([]queue.Slot, error) {
	var left []queue.Slot
	for _, s := range taken {
		over, err := d.slotOver(ctx, tenant, &s)
		if err != nil {
			return nil, err
		}
		if !over {
			left = append(left, s)
		}
	}
	return left, nil
}

// slotOver reports whether a slot is free: its job has ended, or its attempt has, or it was never started by whoever it
// was offered to.
func (d *Dispatcher) slotOver(ctx context.Context, tenant job.Tenant, s *queue.Slot) (bool, error) {
	last, found, err := d.q.Last(ctx, tenant, s.Job)
	switch {
	case err != nil:
		return false, err
	case found && last.EventKind == job.Started:
		return false, nil
	case found && (last.EventKind == job.Failed || last.EventKind.Terminal()):
		return true, nil
	}
	return d.clock().Sub(s.Time) > d.q.PresenceTTL(), nil
}

// freeSlot frees a slot whose job does not run any more; patiently it waits some time for that.
func (d *Dispatcher) freeSlot(ctx context.Context, tenant job.Tenant, s queue.Slot, patient bool) error {
	for pause := 4 * time.Millisecond; ; pause *= 2 {
		over, err := d.slotOver(ctx, tenant, &s)
		if err != nil {
			return err
		}
		if over {
			return d.giveSlot(ctx, tenant, s.Job, s.Time)
		}
		if !patient || pause > slotLook || ctx.Err() != nil {
			return ctx.Err()
		}
		sleep(ctx, pause)
	}
}

// dropSlot gives back the slot of a job that no agent has accepted.
func (d *Dispatcher) dropSlot(ctx context.Context, o *owned) {
	if o.slot.IsZero() {
		return
	}
	if err := d.giveSlot(ctx, o.job.Tenant, o.job.ID, o.slot); err != nil {
		d.log.Debug("give a slot back", "tenant", o.job.Tenant, "job", o.job.ID, "error", err)
	}
	o.slot = time.Time{}
}

// giveSlot frees the slot that was taken at a time, unless it was taken anew meanwhile.
func (d *Dispatcher) giveSlot(ctx context.Context, tenant job.Tenant, id job.ID, at time.Time) error {
	for {
		taken, revision, err := d.q.Slots(ctx, tenant)
		if err != nil {
			return err
		}
		before := len(taken)
		taken = slices.DeleteFunc(taken, func(s queue.Slot) bool { return s.Job == id && s.Time.Equal(at) })
		if len(taken) == before {
			return nil
		}
		stored, err := d.q.PutSlots(ctx, tenant, taken, revision)
		if err != nil || stored {
			return err
		}
	}
}
