package dispatcher

import (
	"cmp"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// restingJob is a job that rests in the stream without a ticket, since its tenant has as many as it may. It is no ticket, since no
// host is chosen for it and it cannot be claimed: it has only what is needed to call it back.
type restingJob struct {
	lane     job.Lane
	id       job.ID
	sequence uint64
	lease    queue.Lease
	due      bool
	until    time.Time // NATS delivers it again then, to any dispatcher
}

// resting are the jobs that this dispatcher lets rest, so that it can call them back when there is room. No job
// depends on it: one that is forgotten is delivered again when its rest is over.
type resting struct {
	lanes      map[job.Lane][]*restingJob // those that are due, by sequence; the others come back when they are
	bySequence map[uint64]*restingJob
	byJob      map[idKey]*restingJob
	tenants    map[job.Tenant]int    // how many of each that are due
	tried      map[job.Tenant]uint64 // the last that was called back for a free slot
}

const (
	restingMost = 1 << 16 // resting jobs that are remembered, some 250 bytes each
	restingLook = 1 << 11 // that are looked at in a go, for those whose rest is over

	restingPause = time.Second // between two looks
)

func newResting() resting {
	return resting{
		lanes: map[job.Lane][]*restingJob{}, bySequence: map[uint64]*restingJob{}, byJob: map[idKey]*restingJob{},
		tenants: map[job.Tenant]int{}, tried: map[job.Tenant]uint64{},
	}
}

// add remembers a job, in place of what was known of its sequence.
func (r *resting) add(x *restingJob) {
	r.remove(x.sequence)
	if len(r.bySequence) >= restingMost {
		return
	}
	r.bySequence[x.sequence], r.byJob[idKey{x.lane.Tenant, x.id}] = x, x
	if !x.due {
		return
	}
	list := r.lanes[x.lane]
	at, _ := slices.BinarySearchFunc(list, x.sequence, bySequence)
	r.lanes[x.lane] = slices.Insert(list, at, x)
	r.tenants[x.lane.Tenant]++
}

func bySequence(x *restingJob, sequence uint64) int { return cmp.Compare(x.sequence, sequence) }

// remove forgets a job and gives it; nil when it is not known.
func (r *resting) remove(sequence uint64) *restingJob {
	x := r.bySequence[sequence]
	if x == nil {
		return nil
	}
	delete(r.bySequence, sequence)
	if key := (idKey{x.lane.Tenant, x.id}); r.byJob[key] == x {
		delete(r.byJob, key)
	}
	if !x.due {
		return x
	}
	list := r.lanes[x.lane]
	at, _ := slices.BinarySearchFunc(list, sequence, bySequence)
	if list = slices.Delete(list, at, at+1); len(list) == 0 {
		delete(r.lanes, x.lane)
	} else {
		r.lanes[x.lane] = list
	}
	if r.tenants[x.lane.Tenant]--; r.tenants[x.lane.Tenant] == 0 {
		delete(r.tenants, x.lane.Tenant)
		delete(r.tried, x.lane.Tenant)
	}
	return x
}

// before reports whether a job of the lane that is due rests, and was published before a sequence.
func (r *resting) before(lane job.Lane, sequence uint64) bool {
	list := r.lanes[lane]
	return len(list) > 0 && list[0].sequence < sequence
}

// forgetOver forgets jobs that NATS has delivered again by now. It looks at a part of them, each time another one.
func (r *resting) forgetOver(now time.Time) {
	looked := 0
	for sequence, x := range r.bySequence {
		if looked++; looked > restingLook {
			return
		}
		if !now.Before(x.until) {
			r.remove(sequence)
		}
	}
}

// forgetGone forgets the jobs of lanes that have none in the stream any more. Those that are not due it leaves to
// forgetOver.
func (r *resting) forgetGone(stored map[job.Lane]uint64) {
	for lane, list := range r.lanes {
		if stored[lane] > 0 {
			continue
		}
		delete(r.lanes, lane) // the whole list at once: to remove one after the other takes long
		for _, x := range list {
			x.due = false
			r.remove(x.sequence)
		}
		if r.tenants[lane.Tenant] -= len(list); r.tenants[lane.Tenant] <= 0 {
			delete(r.tenants, lane.Tenant)
			delete(r.tried, lane.Tenant)
		}
	}
}

// due lists jobs of a tenant that may run, the highest priority first and within it the oldest first. most(p, given) is how
// many jobs of priority p may follow the given ones that are listed already.
func (r *resting) due(tenant job.Tenant, most func(p job.Priority, given int) int) []*restingJob {
	var list []*restingJob
	for p := job.Priority(9); p.Valid(); p-- {
		lane := r.lanes[job.Lane{Tenant: tenant, Priority: p}]
		list = append(list, lane[:max(min(most(p, len(list)), len(lane)), 0)]...)
	}
	return list
}

// next gives up to most jobs of a tenant that may run, each time those after the ones that it gave before, and begins
// anew at the end.
func (r *resting) next(tenant job.Tenant, most int) []*restingJob {
	var list []*restingJob
	for p := job.Priority(0); p.Valid(); p++ {
		lane := r.lanes[job.Lane{Tenant: tenant, Priority: p}]
		at, _ := slices.BinarySearchFunc(lane, r.tried[tenant]+1, bySequence)
		list = append(list, lane[at:min(at+most, len(lane))]...)
	}
	slices.SortFunc(list, func(x, y *restingJob) int { return cmp.Compare(x.sequence, y.sequence) })
	if list = list[:min(most, len(list))]; len(list) == 0 {
		delete(r.tried, tenant)
		return nil
	}
	r.tried[tenant] = list[len(list)-1].sequence
	return list
}
