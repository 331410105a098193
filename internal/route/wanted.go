package route

import (
	"math"
	"slices"
	"strings"
	"time"
)

// How many hosts a pool wants: those that are busy, and as many more as it takes to start every due job within the target.
// Jobs that no host may take now do not count, since more hosts of the same kind would not help: those that are
// blocked everywhere, scheduled, excluded, or over their tenant's cap. Jobs that only hosts can run which are not online do count,
// and without any host all due jobs do, so that a fleet can grow from none. A pool is known by the hosts that are present in it.

// unknownRun is the assumed time of a run of which nothing is known.
const unknownRun = 10 * time.Second

// poolDemand is what is counted for a pool.
type poolDemand struct {
	hosts int // that are present
	slots int // of online hosts
	online,
	busy int // hosts
	jobs  int       // that are due and could start here
	work  float64   // their run times, in seconds
	spare int       // free slots of busy hosts
	ends  []float64 // in how many seconds each run of a busy host is expected to end
}

// poolName is the pool of a host: the value of a label.
func (s *surveyor) poolName(h *host) string {
	if s.options.PoolLabel == "" {
		return ""
	}
	for _, label := range h.labels {
		if key, value, _ := strings.Cut(label, "="); key == s.options.PoolLabel {
			return value
		}
	}
	return ""
}

func (s *surveyor) pool(name string) *poolDemand {
	p := s.pools[name]
	if p == nil {
		p = &poolDemand{}
		s.pools[name] = p
	}
	return p
}

// notePool counts a host that is present.
func (s *surveyor) notePool(h *host) {
	p := s.pool(s.poolName(h))
	p.hosts++
	if h.state != Online {
		if h.used() > 0 {
			p.busy++
		}
		return
	}
	p.online++
	p.slots += h.slots
	if h.used() == 0 {
		return
	}
	p.busy++
	p.spare += max(h.slots-h.used(), 0)
	for _, list := range [2][]run{h.running, h.offered} {
		for i := range list {
			p.ends = append(p.ends, s.untilEnd(&list[i]))
		}
	}
}

// untilEnd is in how many seconds a run is expected to end.
func (s *surveyor) untilEnd(x *run) float64 {
	took := unknownRun
	if x.facts != nil && x.facts.expected() > 0 {
		took = x.facts.expected()
	}
	return max(took-s.now.Sub(x.Since), 0).Seconds()
}

// countDemand counts the due tickets that hosts may take, those of each class for the pools whose hosts can run it.
func (s *surveyor) countDemand() bool {
	left := map[Tenant]int{} // jobs that tenants with a cap may still start
	for c, reason := range s.reasons {
		n := len(c.waiting)
		if n > 0 {
			c.lane.resolveTenant(s.fleet)
		}
		switch {
		case n == 0 || reason != Turn && !s.away[c]:
			continue
		case c.lane.facts.maxRunning > 0:
			if _, known := left[c.lane.tenant]; !known {
				left[c.lane.tenant] = max(c.lane.facts.maxRunning-c.lane.facts.total, 0)
			}
			n = min(n, left[c.lane.tenant])
			left[c.lane.tenant] -= n
		}
		pools, took := s.poolsFor(c), s.runTime(c)
		for i, name := range pools { // equal parts, since each pool may be as large as it can be
			p, part := s.pool(name), (n+i)/len(pools)
			p.jobs += part
			p.work += float64(part) * took
		}
		if !s.pauseAfter(4) {
			return false
		}
	}
	return true
}

// runTime is how long a job of a class is expected to run, in seconds.
func (s *surveyor) runTime(c *class) float64 {
	switch {
	case c.group.facts != nil && c.group.facts.ran.value > 0:
		return c.group.facts.ran.value
	case c.lane.run.value > 0:
		return c.lane.run.value
	}
	return unknownRun.Seconds()
}

// poolsFor are the pools with hosts that can run a class, whether they are online or not.
func (s *surveyor) poolsFor(c *class) []string {
	if len(s.pools) < 2 {
		for name := range s.pools {
			return []string{name}
		}
		return []string{""}
	}
	ticket := s.room.ticket(c.waiting[0])
	w := ticket.Want()
	x, able := s.fleet.use(w.Hash), s.fleet.scratch.eligible
	able.copyFrom(s.fleet.capable(x))
	s.fleet.applyWishes(&w, x, able)
	var pools []string
	able.each(func(n int32) {
		if name := s.poolName(s.fleet.hosts[n]); !slices.Contains(pools, name) {
			pools = append(pools, name)
		}
	})
	if len(pools) == 0 {
		return []string{""}
	}
	slices.Sort(pools)
	return pools
}

func (s *surveyor) wanted() map[string]int {
	wanted := map[string]int{}
	for name, p := range s.pools {
		wanted[name] = p.wanted(s.options.Target.Seconds())
	}
	if len(wanted) == 0 {
		wanted[""] = 0
	}
	return wanted
}

// wanted is how many hosts start all jobs within the target. A slot that is free in r seconds starts floor((target-r)/run)+1 of them.
func (p *poolDemand) wanted(target float64) int {
	if p.jobs == 0 {
		return p.busy
	}
	took := max(p.work/float64(p.jobs), 1e-3)
	starts := func(free float64) int {
		if free > target {
			return 0
		}
		return int(math.Min((target-free)/took, math.MaxInt32)) + 1
	}
	left := p.jobs - p.spare*starts(0)
	for _, free := range p.ends {
		left -= starts(free)
	}
	if left <= 0 {
		return p.busy
	}
	slots := 1.0
	if p.online > 0 {
		slots = max(float64(p.slots)/float64(p.online), 1)
	}
	return p.busy + int(math.Ceil(float64(left)/(slots*float64(starts(0)))))
}
