package route

import (
	"cmp"
	"slices"
	"time"
)

// LaneStat describes a lane in answers of the API.
type LaneStat struct {
	Tenant   Tenant    `json:"tenant"`
	Priority int       `json:"priority"` // as published
	Depth    int       `json:"depth"`    // tickets, due or not
	Oldest   time.Time `json:"oldest,omitzero"`
	Running  int       `json:"running"`
	Share    float64   `json:"share"`               // of the GPU-seconds used lately at the priority that it counts as, 0 to 1
	CountsAs *int      `json:"counts_as,omitempty"` // the priority that decides its turn, when the tenant's ceiling is below its own
	Place    int       `json:"place,omitempty"`     // of a job that would come now; only in answers to a tenant
}

// published is the tickets of a lane that were published with one priority.
type published struct {
	priority   int
	due, later ranks // the sequences of those that are due, and of those that are not or have expired
	n          int   // of both
}

// publishedWith gives the tickets that were published with a priority: usually it is the lane's own.
func (l *lane) publishedWith(priority int) *published {
	for _, p := range l.published {
		if p.priority == priority {
			return p
		}
	}
	p := &published{priority: priority}
	l.published = append(l.published, p)
	return p
}

// dueBelow is how many of the lane's due tickets have a lower sequence.
func (l *lane) dueBelow(sequence uint64) (n int) {
	for _, p := range l.published {
		n += p.due.below(sequence)
	}
	return n
}

// oldest is the lowest sequence; 0 when there is none.
func (p *published) oldest() uint64 {
	a, b := p.due.first(), p.later.first()
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Lanes lists the lanes in which jobs wait or run, the priority that counts highest first, and within it first in turn
// first. It reads what is counted of each lane, and no ticket but the oldest.
func (r *Room) Lanes(f *Fleet, now time.Time) []LaneStat {
	r.lookAt(f, now)
	r.addRunningLanes(f)
	scale := r.scale(r.now)
	var sums [priorities]float64
	for _, l := range r.lanes {
		sums[l.priority] += l.used
	}
	var list []rankedLane
	for _, l := range r.lanes {
		l.resolveTenant(f)
		rank := l.rank(scale)
		for p := range priorities {
			if s, some := r.statOf(l, p); some {
				if sums[l.priority] > 0 {
					s.Share = l.used / sums[l.priority]
				}
				list = append(list, rankedLane{s, l.priority, rank})
			}
		}
	}
	slices.SortFunc(list, func(a, b rankedLane) int {
		return cmp.Or(cmp.Compare(b.counts, a.counts), cmp.Compare(a.rank, b.rank), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(b.Priority, a.Priority))
	})
	stats := make([]LaneStat, 0, len(list))
	for i := range list {
		stats = append(stats, list[i].LaneStat)
	}
	return stats
}

// rankedLane is a part of a lane with what decides its place in a list.
type rankedLane struct {
	LaneStat
	counts int // the lane's priority
	rank   float64
}

// statOf counts what waits and runs of a lane that was published with a priority, and reports whether there is any.
func (r *Room) statOf(l *lane, priority int) (s LaneStat, some bool) {
	s = LaneStat{Tenant: l.tenant, Priority: priority}
	if k := slices.IndexFunc(l.published, func(p *published) bool { return p.priority == priority }); k >= 0 {
		s.Depth = l.published[k].n
		if i := r.records.find(l.published[k].oldest()); i >= 0 {
			s.Oldest = moment(r.records.at(i).received)
		}
	}
	// When the tenant's ceiling was set below this lane's priority meanwhile, the jobs count in another lane.
	if l.priority == priority && priority <= l.ceiling || l.priority == l.ceiling && priority > l.ceiling {
		s.Running = int(l.facts.running[priority])
	}
	some = s.Depth > 0 || s.Running > 0
	if some && priority > l.priority {
		counts := l.priority
		s.CountsAs = &counts
	}
	return s, some
}

// addRunningLanes adds the lanes of jobs that run and never waited.
func (r *Room) addRunningLanes(f *Fleet) {
	for tenant, facts := range f.tenants {
		for priority, running := range facts.running {
			if running > 0 {
				r.lane(tenant, priority)
			}
		}
	}
}
