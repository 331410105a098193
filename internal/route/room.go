package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Ticket stands for a parked job.
type Ticket struct {
	Sequence uint64 // in COMFY_JOBS; names the ticket
	Revision uint64 // of its key
	Priority int
	Tenant   Tenant
	Job      JobID
	Hash     workflow.Hash
	Size     int64
	Wishes
	AvoidUntil time.Time
	Attempt    int
	Lease      string
	NotBefore  time.Time // zero = at once
	Expires    time.Time // zero = never
	Received   time.Time
}

// Want is the ticket as far as choosing a host is concerned.
func (t *Ticket) Want() Want {
	return Want{
		Hash: t.Hash, Tenant: t.Tenant, Priority: t.Priority, Size: t.Size,
		Wishes: t.Wishes, AvoidUntil: t.AvoidUntil, NotBefore: t.NotBefore,
	}
}

// Room is the waiting room.
type Room struct {
	tickets map[uint64]*Ticket
	shares  map[laneKey]float64
}

type laneKey struct {
	tenant   Tenant
	priority int
}

// NewRoom returns an empty room.
func NewRoom() *Room { return &Room{tickets: map[uint64]*Ticket{}, shares: map[laneKey]float64{}} }

// Put takes a ticket in, in place of a former one of its sequence with a lower revision.
func (r *Room) Put(t Ticket) {
	if old := r.tickets[t.Sequence]; old != nil && old.Revision > t.Revision {
		return
	}
	r.tickets[t.Sequence] = &t
}

// Remove takes a ticket out and reports whether it was there.
func (r *Room) Remove(sequence uint64) bool {
	_, found := r.tickets[sequence]
	delete(r.tickets, sequence)
	return found
}

// Get returns a ticket.
func (r *Room) Get(sequence uint64) (Ticket, bool) {
	if t := r.tickets[sequence]; t != nil {
		return *t, true
	}
	return Ticket{}, false
}

// ByJob returns a job's ticket.
func (r *Room) ByJob(tenant Tenant, job JobID) (Ticket, bool) {
	for _, t := range r.tickets {
		if t.Tenant == tenant && t.Job == job {
			return *t, true
		}
	}
	return Ticket{}, false
}

// Len is how many tickets wait.
func (r *Room) Len() int { return len(r.tickets) }

// Charge adds GPU-seconds to what a tenant has used at a priority.
func (r *Room) Charge(t Tenant, priority int, gpuSeconds float64, now time.Time) {
	r.shares[laneKey{t, priority}] += gpuSeconds
}

// Next returns the best ticket that a host may take now.
func (r *Room) Next(f *Fleet, id HostID, now time.Time) (Ticket, bool) {
	for _, t := range r.order(f, now) {
		w := t.Want()
		if f.May(w, id, now) {
			return *t, true
		}
	}
	return Ticket{}, false
}

// Pick returns the best ticket that any host may take now, and the host.
func (r *Room) Pick(f *Fleet, now time.Time) (Ticket, HostID, bool) {
	for _, t := range r.order(f, now) {
		if id, ok := f.Choose(t.Want(), now); ok {
			return *t, id, true
		}
	}
	return Ticket{}, "", false
}

func (r *Room) order(f *Fleet, now time.Time) []*Ticket {
	var list []*Ticket
	for _, t := range r.tickets {
		if !now.Before(t.NotBefore) {
			list = append(list, t)
		}
	}
	share := func(t *Ticket) float64 { return r.shares[laneKey{t.Tenant, t.Priority}] / f.weight(t.Tenant) }
	slices.SortFunc(list, func(a, b *Ticket) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(share(a), share(b)), cmp.Compare(a.Sequence, b.Sequence))
	})
	return list
}

// NextDue is when Pick may find more by the passing of time alone; zero = never.
func (r *Room) NextDue() time.Time {
	var due time.Time
	for _, t := range r.tickets {
		for _, at := range []time.Time{t.NotBefore, t.Expires, t.AvoidUntil} {
			if !at.IsZero() && (due.IsZero() || at.Before(due)) {
				due = at
			}
		}
	}
	return due
}

// Expired lists the tickets whose time is over.
func (r *Room) Expired(now time.Time) []Ticket {
	var list []Ticket
	for _, t := range r.tickets {
		if !t.Expires.IsZero() && !now.Before(t.Expires) {
			list = append(list, *t)
		}
	}
	slices.SortFunc(list, func(a, b Ticket) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return list
}
