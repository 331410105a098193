package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// handTime is how long a job waits in hand before it is parked.
const handTime = 100 * time.Millisecond

// hand is the jobs that wait here with their delivery, since hosts are merely busy: most of them get one within
// moments, and need no ticket. They are in the waiting room's order like tickets.
type hand struct {
	room     *route.Room
	pressure *backpressure

	jobs    map[uint64]*owned  // by sequence
	tenants map[job.Tenant]int // how many each has
}

func newHand(room *route.Room, pressure *backpressure) *hand {
	return &hand{room: room, pressure: pressure, jobs: map[uint64]*owned{}, tenants: map[job.Tenant]int{}}
}

func (h *hand) len() int { return len(h.jobs) }

func (h *hand) has(sequence uint64) bool { return h.jobs[sequence] != nil }

// put takes a job in hand, where it stays until take. Its delivery must count as under way already.
func (h *hand) put(o *owned, now time.Time) {
	o.taken = now
	h.jobs[o.job.Sequence] = o
	h.count(o, 1)
	h.room.Put(handTicket(o))
}

// take takes a job out of the hand; nil when it is not there.
func (h *hand) take(sequence uint64) *owned {
	o := h.jobs[sequence]
	if o == nil {
		return nil
	}
	h.count(o, -1)
	delete(h.jobs, sequence)
	h.room.Remove(sequence)
	h.pressure.exit()
	return o
}

func (h *hand) count(o *owned, by int) {
	h.pressure.inHand(o.job.Priority, by)
	if h.tenants[o.job.Tenant] += by; h.tenants[o.job.Tenant] == 0 {
		delete(h.tenants, o.job.Tenant)
	}
}

// takeForOther takes out the newest job of the tenant that has most in hand, so that there is room for a job of a tenant
// that has fewer; nil when none has.
func (h *hand) takeForOther(tenant job.Tenant) *owned {
	most := tenant
	for t, n := range h.tenants {
		if n > h.tenants[most] {
			most = t
		}
	}
	if h.tenants[most] <= h.tenants[tenant]+1 {
		return nil
	}
	var newest *owned
	for _, o := range h.jobs {
		if o.job.Tenant == most && (newest == nil || o.job.Sequence > newest.job.Sequence) {
			newest = o
		}
	}
	return h.take(newest.job.Sequence)
}

// takeLate takes out what has waited for too long: handTime, or ten times that while many jobs leave the hand.
func (h *hand) takeLate(now time.Time) []*owned {
	timeout := handTime
	if h.pressure.placedLately(now) > manyPlaced {
		timeout = 10 * handTime
	}
	var late []*owned
	for sequence, o := range h.jobs {
		if now.Sub(o.taken) >= timeout {
			late = append(late, h.take(sequence))
		}
	}
	return late
}

// takeAll empties the hand.
func (h *hand) takeAll() []*owned {
	all := make([]*owned, 0, len(h.jobs))
	for sequence := range h.jobs {
		all = append(all, h.take(sequence))
	}
	return all
}

// handTicket is the ticket of a job in hand. It has no revision, so that a ticket from the watch always replaces it.
func handTicket(o *owned) route.Ticket {
	w := wantOf(o)
	return route.Ticket{
		Sequence: o.job.Sequence, Priority: w.Priority, Tenant: w.Tenant, Job: route.JobID(o.job.ID), Hash: w.Hash, Size: w.Size,
		Wishes: w.Wishes, AvoidUntil: w.AvoidUntil, Attempt: o.attempt, NotBefore: o.notBefore, Expires: o.job.Expires(), Received: o.job.Received,
	}
}
