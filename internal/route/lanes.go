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
	Share    float64   `json:"share"` // of the GPU-seconds used lately at this priority, 0 to 1
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

// Position is the place of a ticket among all that wait, from 1, and how many wait; 0 when it is not there. It
// counts as before it: lanes of higher priority, with age; of its own lane, lower sequences; of every other lane of
// its priority, as many as of its own, since lanes of equal weight take turns. Tickets that are not due come last.
func (r *Room) Position(f *Fleet, sequence uint64, now time.Time) (place, of int) {
	r.sync(f, now)
	i := r.records.find(sequence)
	if i < 0 {
		return 0, r.records.n
	}
	x := r.records.at(i)
	if x.at < 0 {
		return r.records.n, r.records.n
	}
	own, above, step := 0, 0, int64(r.ageStep())
	level := x.class.lane.level(r.now, step)
	others := map[*lane]int{}
	for _, c := range r.classes {
		switch {
		case len(c.waiting) == 0 || c.lane.level(r.now, step) < level:
		case c.lane.level(r.now, step) > level:
			above += len(c.waiting)
		case c.lane == x.class.lane:
			own += r.before(c, sequence)
		default:
			others[c.lane] += len(c.waiting)
		}
	}
	for _, depth := range others {
		above += min(depth, own)
	}
	return above + own + 1, r.records.n
}

// before is how many of a class have a lower sequence.
func (r *Room) before(c *class, sequence uint64) int {
	n := 0
	for _, i := range c.waiting {
		if r.records.at(i).sequence < sequence {
			n++
		}
	}
	return n
}

// ETA is when a ticket may be expected to start; zero when unknown. It is the work of those before it, by the
// usual run time of the ticket's own lane, spread over all slots that may take the ticket.
func (r *Room) ETA(f *Fleet, sequence uint64, now time.Time) time.Time {
	place, _ := r.Position(f, sequence, now)
	i := r.records.find(sequence)
	if i < 0 {
		return time.Time{}
	}
	x := r.records.at(i)
	t := x.ticket()
	w, facts := t.Want(), f.use(t.Hash)
	took := facts.ran.value
	if took == 0 {
		took = x.class.lane.run.value
	}
	if took == 0 || !f.eligible(&w, facts, now) {
		return time.Time{}
	}
	slots := 0
	f.scratch.eligible.each(func(n int32) { slots += f.hosts[n].slots })
	if slots == 0 {
		return time.Time{}
	}
	eta := now.Add(time.Duration(float64(place) / float64(slots) * took * float64(time.Second)))
	if t.NotBefore.After(eta) {
		return t.NotBefore
	}
	return eta
}
