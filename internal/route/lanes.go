package route

import (
	"cmp"
	"slices"
	"time"
)

// LaneStat is a lane as people ask for it.
type LaneStat struct {
	Tenant   Tenant    `json:"tenant"`
	Priority int       `json:"priority"`
	Depth    int       `json:"depth"` // tickets, due or not
	Oldest   time.Time `json:"oldest,omitzero"`
	Running  int       `json:"running"`
	Share    float64   `json:"share"`           // of the GPU-seconds used lately at this priority, 0 to 1
	Place    int       `json:"place,omitempty"` // that a job would have which comes now; only in what a tenant is told
}

// Lanes lists the lanes in which jobs wait or run, highest priority first, and within it first in turn first.
func (r *Room) Lanes(f *Fleet, now time.Time) []LaneStat {
	r.sync(f, now)
	r.meet(f)
	scale := r.scale(r.now)
	var sums [priorities]float64
	for _, l := range r.lanes {
		sums[l.priority] += l.used
		l.know(f)
	}
	oldest := r.oldest()
	lanes := make([]*lane, 0, len(r.lanes))
	for _, l := range r.lanes {
		if l.members > 0 || l.facts.running[l.priority] > 0 {
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, func(a, b *lane) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.rank(scale), b.rank(scale)), cmp.Compare(a.tenant, b.tenant))
	})
	list := make([]LaneStat, 0, len(lanes))
	for _, l := range lanes {
		s := LaneStat{Tenant: l.tenant, Priority: l.priority, Depth: l.members, Oldest: moment(oldest[l]), Running: int(l.facts.running[l.priority])}
		if sums[l.priority] > 0 {
			s.Share = l.used / sums[l.priority]
		}
		list = append(list, s)
	}
	return list
}

// meet makes lanes of those whose jobs run and have never waited.
func (r *Room) meet(f *Fleet) {
	for tenant, facts := range f.tenants {
		for priority, running := range facts.running {
			if running > 0 {
				r.lane(tenant, priority)
			}
		}
	}
}

func (r *Room) oldest() map[*lane]int64 {
	oldest := map[*lane]int64{}
	for _, list := range r.records.chunks {
		for k := range list {
			if x := &list[k]; x.class != nil {
				if at, ok := oldest[x.class.lane]; !ok || x.received < at {
					oldest[x.class.lane] = x.received
				}
			}
		}
	}
	return oldest
}
