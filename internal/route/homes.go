package route

import "time"

const (
	// LeaveTime is how long a waiting job is left to the home of the host that is best for it.
	LeaveTime = time.Second
	// leftMost is how many classes one search leaves to other homes. Then it looks at hosts that are at home here only,
	// so that it does not go through all classes while other homes have the better hosts.
	leftMost = 32
)

// LeaveToHomes has waiting jobs given only to hosts whose home is this dispatcher. Then, of several dispatchers with the
// same tickets, few claim the same one. Hosts at home elsewhere are still compared: a job for which one of them is best is left to
// its home, for LeaveTime at most, since that dispatcher may have a reason not to use it which is unknown here. The jobs of
// a tenant with a cap, which one dispatcher gives to hosts, go to any host, and so do all jobs to a host that is open (HostState.Open). Choose
// is not affected.
func (f *Fleet) LeaveToHomes(on bool) { f.leaves = on }

// HasSlots reports whether a host has a slot for each of its jobs, those that are being offered to it included.
func (f *Fleet) HasSlots(id HostID) bool {
	n, ok := f.numbers[id]
	return ok && f.hosts[n].used() <= f.hosts[n].slots
}

// findAssignable sets assignable to the hosts of roomy that are at home here.
func (r *Room) findAssignable(f *Fleet) {
	if f.leaves {
		r.assignable = append(r.assignable[:0], r.roomy...)
		r.assignable.and(f.assignable)
	}
}

// assignable reports whether this dispatcher may give the waiting jobs of any tenant to a host of a pool that the search is about.
func (s *search) assignable(p *pool) bool {
	switch {
	case !s.fleet.leaves:
		return true
	case s.host >= 0:
		return s.fleet.assignable.has(s.host)
	}
	return p.mask.meets(s.room.assignable)
}

func (t *tenantFacts) hasCap() bool { return t.maxRunning > 0 }

// chooseFor is the choice of a host for the first ticket of a class, in a search for any host.
func (s *search) chooseFor(c *class, w *Want) decision {
	f := s.fleet
	if !f.leaves || c.lane.facts.hasCap() {
		return f.choose(w, s.now)
	}
	if s.left < leftMost && (c.left == 0 || s.room.now-c.left < int64(LeaveTime)) {
		d := f.choose(w, s.now)
		if d.host < 0 || f.assignable.has(d.host) {
			return d
		}
		s.leave(c)
		return decision{host: -1}
	}
	f.onlyHome = true
	defer func() { f.onlyHome = false }()
	return f.choose(w, s.now)
}

// leave notes that a class is left to another dispatcher, and has the room looked at again when its time is over.
func (s *search) leave(c *class) {
	s.left++
	if c.left == 0 {
		c.left = s.room.now
	}
	s.room.askAgain(c.left + int64(LeaveTime))
}
