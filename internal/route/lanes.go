package route

import (
	"cmp"
	"slices"
	"time"
)

// LaneStat is what the API tells of a lane.
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

// published is the jobs of a lane that were published with one priority.
type published struct {
	lane     *lane
	priority int
}

// Lanes lists the lanes in which jobs wait or run, the priority that counts highest first, and within it first in turn
// first.
func (r *Room) Lanes(f *Fleet, now time.Time) []LaneStat {
	r.sync(f, now)
	r.addRunningLanes(f)
	scale := r.scale(r.now)
	var sums [priorities]float64
	stats := r.waitingLanes()
	for _, l := range r.lanes {
		sums[l.priority] += l.used
		l.resolveTenant(f)
		if l.priority > l.ceiling {
			continue // the tenant's ceiling was set below it since: its jobs count in another lane
		}
		for p := l.priority; p < priorities && (p == l.priority || l.priority == l.ceiling); p++ {
			if running := int(l.facts.running[p]); running > 0 {
				statOf(stats, published{l, p}).Running = running
			}
		}
	}
	order := make([]published, 0, len(stats))
	for lane := range stats {
		order = append(order, lane)
	}
	slices.SortFunc(order, func(a, b published) int {
		return cmp.Or(cmp.Compare(b.lane.priority, a.lane.priority), cmp.Compare(a.lane.rank(scale), b.lane.rank(scale)),
			cmp.Compare(a.lane.tenant, b.lane.tenant), cmp.Compare(b.priority, a.priority))
	})
	list := make([]LaneStat, 0, len(order))
	for _, key := range order {
		s, l := stats[key], key.lane
		s.Tenant, s.Priority = l.tenant, key.priority
		if sums[l.priority] > 0 {
			s.Share = l.used / sums[l.priority]
		}
		if key.priority > l.priority {
			counts := l.priority
			s.CountsAs = &counts
		}
		list = append(list, *s)
	}
	return list
}

func statOf(stats map[published]*LaneStat, lane published) *LaneStat {
	s := stats[lane]
	if s == nil {
		s = &LaneStat{}
		stats[lane] = s
	}
	return s
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

// waitingLanes counts the tickets of each lane.
func (r *Room) waitingLanes() map[published]*LaneStat {
	stats := map[published]*LaneStat{}
	for _, list := range r.records.chunks {
		for k := range list {
			x := &list[k]
			if x.class == nil {
				continue
			}
			s := statOf(stats, published{x.class.lane, x.class.published})
			s.Depth++
			if at := moment(x.received); s.Oldest.IsZero() || at.Before(s.Oldest) {
				s.Oldest = at
			}
		}
	}
	return stats
}
