package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A tenant with max_running has so many slots, and none of its jobs is offered without one. Which are taken is in
// COMFY_SLOTS, written by compare-and-set, so that no number of dispatchers takes more. So that few of them try, only the
// tenant's home dispatcher gives the tenant's jobs to hosts: it gets them from the others through the waiting room.
//
// A slot is taken before its job is offered, and free again when the job's chain says that it does not run any more,
// which the tenant's home looks for. When the dispatcher dies before an agent has accepted the job, the slot is free
// after one presence TTL.

const (
	slotLook  = time.Second            // between two looks at slots whose jobs no host names
	slotGrace = 3 * time.Second        // how long an offer may be under way
	slotPause = 200 * time.Millisecond // before a tenant that was found full is tried again
)

// tenantSlots holds which slots of tenants with a cap are taken.
type tenantSlots struct {
	fleet   *route.Fleet
	peers   *peers
	changes *changes
	alarms  *alarms
	runs    func(tenant job.Tenant, s queue.Slot) bool       // whether a slot's host says that it runs its job
	look    func(tenant job.Tenant, s queue.Slot, wait bool) // frees a slot whose job does not run, and calls looked

	reads slotReads

	caps  map[route.Tenant]bool
	taken map[route.Tenant][]queue.Slot
	full  map[route.Tenant]bool // was found full a moment ago
	looks map[idKey]bool        // jobs whose slots are being looked at
}

func newTenantSlots(s tenantSlots) *tenantSlots {
	s.caps, s.taken = map[route.Tenant]bool{}, map[route.Tenant][]queue.Slot{}
	s.full, s.looks = map[route.Tenant]bool{}, map[idKey]bool{}
	s.reads.under, s.reads.at = map[route.Tenant]bool{}, map[route.Tenant]time.Time{}
	return &s
}

// put takes in which slots of a tenant are taken.
func (s *tenantSlots) put(tenant route.Tenant, taken []queue.Slot) {
	if len(taken) == 0 {
		delete(s.taken, tenant)
	} else {
		s.taken[tenant] = taken
	}
	delete(s.full, tenant)
	s.apply(tenant)
	s.changes.all()
}

func (s *tenantSlots) keys() []string {
	keys := make([]string, 0, len(s.taken))
	for tenant := range s.taken {
		keys = append(keys, string(tenant))
	}
	return keys
}

// setCap gives a tenant a cap, or with 0 takes it away.
func (s *tenantSlots) setCap(tenant route.Tenant, most int) {
	delete(s.caps, tenant)
	if most > 0 {
		s.caps[tenant] = true
	}
	s.apply(tenant)
}

func (s *tenantSlots) capped(tenant route.Tenant) bool { return s.caps[tenant] }

// capsMost bounds the tenants that are known to have a cap.
const capsMost = 1 << 16

// makeRoom forgets the caps of some tenants when there are too many.
func (s *tenantSlots) makeRoom(forgettable func(route.Tenant) bool) {
	if len(s.caps) >= capsMost {
		maps.DeleteFunc(s.caps, func(t route.Tenant, _ bool) bool { return forgettable(t) })
	}
}

// rehome finds out again of which tenants this dispatcher is the home.
func (s *tenantSlots) rehome(pause func() bool) {
	for tenant := range s.caps {
		s.apply(tenant)
		if _, read := s.reads.at[tenant]; !read {
			s.mayHaveChanged(tenant)
		}
		if !pause() {
			return
		}
	}
}

// apply tells the fleet how many slots of a tenant are taken, and whether its jobs are given to hosts here.
func (s *tenantSlots) apply(tenant route.Tenant) {
	s.fleet.PutSlots(tenant, len(s.taken[tenant]), s.full[tenant] || !s.peers.isTenantHome(tenant))
}

// wasFull takes in that a job got no slot although one was thought to be free: the watch has not reported yet all that is
// in the bucket.
func (s *tenantSlots) wasFull(tenant route.Tenant, now time.Time) {
	s.full[tenant] = true
	s.apply(tenant)
	s.alarms.at(now.Add(slotPause), func(time.Time) {
		delete(s.full, tenant)
		s.apply(tenant)
		s.changes.jobs = true
	})
}

// jobEnded looks at a slot as soon as its job has left the GPU. The job's files may still be on their way.
func (s *tenantSlots) jobEnded(e *queue.EndedJob) {
	tenant := route.Tenant(e.Tenant)
	taken := s.taken[tenant]
	i := slices.IndexFunc(taken, func(slot queue.Slot) bool { return slot.Job == e.Job })
	if i >= 0 && s.peers.isTenantHome(tenant) {
		s.lookAt(e.Tenant, taken[i], true)
	}
}

// lookAround looks at the slots whose jobs no host says it runs, until pause returns false.
func (s *tenantSlots) lookAround(now time.Time, pause func() bool) {
	for tenant, taken := range s.taken {
		if !s.peers.isTenantHome(tenant) {
			taken = nil
		}
		for _, slot := range taken {
			if now.Sub(slot.Time) >= slotGrace && !s.runs(job.Tenant(tenant), slot) {
				s.lookAt(job.Tenant(tenant), slot, false)
			}
			if !pause() {
				return
			}
		}
		if !pause() {
			return
		}
	}
}

func (s *tenantSlots) lookAt(tenant job.Tenant, slot queue.Slot, wait bool) {
	key := idKey{tenant, slot.Job}
	if s.looks[key] {
		return
	}
	s.looks[key] = true
	s.look(tenant, slot, wait)
}

func (s *tenantSlots) looked(key idKey) { delete(s.looks, key) }

// lookAtSlot frees a slot whose job does not run any more; with wait it waits some time for that.
func (d *Dispatcher) lookAtSlot(ctx context.Context, tenant job.Tenant, s queue.Slot, wait bool) {
	if err := d.freeTenantSlot(ctx, tenant, s, wait); err != nil {
		d.log.Debug("cannot look at a slot", "tenant", tenant, "job", s.Job, "error", err)
	}
	d.loop.tell(func(time.Time) { d.loop.slots.looked(idKey{tenant, s.Job}) })
}

// takeSlot takes a slot for a job that is about to be offered to a host; false when its tenant has no more. A job that
// has one already, of an offer without an answer, keeps it.
func (d *Dispatcher) takeSlot(ctx context.Context, o *owned, s *spot) (bool, error) {
	if s.most == 0 {
		return true, nil
	}
	mine := queue.Slot{Job: o.job.ID, Host: s.host, By: d.cfg.Name, Time: d.clock().UTC()}
	took, err := d.changeSlots(ctx, o.job.Tenant, func(taken []queue.Slot) (_ []queue.Slot, changed bool, err error) {
		taken = slices.DeleteFunc(taken, func(s queue.Slot) bool { return s.Job == o.job.ID })
		if len(taken) >= s.most {
			if taken, err = d.stillRunning(ctx, o.job.Tenant, taken); err != nil || len(taken) >= s.most {
				return nil, false, err
			}
		}
		return append(taken, mine), true, nil
	})
	if took {
		o.slot = mine.Time
	}
	return took, err
}

// changeSlots stores what change makes of a tenant's taken slots, unless it changes nothing. When another dispatcher
// writes them meanwhile, change is called again.
func (d *Dispatcher) changeSlots(ctx context.Context, tenant job.Tenant, change func([]queue.Slot) ([]queue.Slot, bool, error)) (changed bool, err error) {
	err = queue.RetryConflict(ctx, fmt.Sprintf("change the slots of tenant %s", tenant), func() (bool, error) {
		taken, revision, err := d.q.Slots(ctx, tenant)
		if err != nil {
			return false, err
		}
		if taken, changed, err = change(taken); err != nil || !changed {
			return err == nil, err
		}
		return d.q.PutSlots(ctx, tenant, taken, revision)
	})
	if changed && d.loop.sources.wants.Load() { // only in a large fleet
		d.loop.tell(func(time.Time) { d.loop.slots.mayHaveChanged(route.Tenant(tenant)) })
	}
	return changed && err == nil, err
}

// stillRunning leaves out the slots whose jobs do not run any more.
func (d *Dispatcher) stillRunning(ctx context.Context, tenant job.Tenant, taken []queue.Slot) ([]queue.Slot, error) {
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

// slotOver reports whether a slot is free: its job has ended, or its attempt has, or the agent that it was
// offered to never started it.
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

// freeTenantSlot frees a slot of a tenant with a cap whose job does not run any more; with wait it waits some time for that.
func (d *Dispatcher) freeTenantSlot(ctx context.Context, tenant job.Tenant, s queue.Slot, wait bool) error {
	for pause := 4 * time.Millisecond; ; pause *= 2 {
		over, err := d.slotOver(ctx, tenant, &s)
		if err != nil {
			return err
		}
		if over {
			return d.returnSlot(ctx, tenant, s.Job, s.Time)
		}
		if !wait || pause > slotLook || ctx.Err() != nil {
			return ctx.Err()
		}
		queue.Pause(ctx, pause)
	}
}

// returnOwnSlot gives back the slot of a job that no agent has accepted.
func (d *Dispatcher) returnOwnSlot(ctx context.Context, o *owned) {
	if o.slot.IsZero() {
		return
	}
	if err := d.returnSlot(ctx, o.job.Tenant, o.job.ID, o.slot); err != nil {
		d.log.Debug("cannot give a slot back", "tenant", o.job.Tenant, "job", o.job.ID, "error", err)
	}
	o.slot = time.Time{}
}

// returnSlot frees the slot that was taken at a time, unless it was taken anew meanwhile.
func (d *Dispatcher) returnSlot(ctx context.Context, tenant job.Tenant, id job.ID, at time.Time) error {
	_, err := d.changeSlots(ctx, tenant, func(taken []queue.Slot) ([]queue.Slot, bool, error) {
		before := len(taken)
		taken = slices.DeleteFunc(taken, func(s queue.Slot) bool { return s.Job == id && s.Time.Equal(at) })
		return taken, len(taken) < before, nil
	})
	return err
}
