package route

import "time"

// Next returns the best ticket that a host may take now; false when there is none. It stays in the room until
// Remove. The host is not compared with other free ones (Pick does that), except that a job for which a warm host
// is free soon is left to that host.
func (r *Room) Next(f *Fleet, id HostID, now time.Time) (Ticket, bool) {
	r.sync(f, now)
	n, ok := f.numbers[id]
	if !ok || !f.free.has(n) && !f.spare.has(n) || f.leaves && !f.home.has(n) {
		return Ticket{}, false
	}
	if !f.free.has(n) && !f.ripe(n, now) {
		r.askAgain(f.endsAt[n] - int64(PrefetchAhead))
		return Ticket{}, false
	}
	s := search{room: r, fleet: f, now: now, scale: r.scale(r.now), host: n}
	s.run(func() {
		for _, p := range r.wide {
			if p.mask.has(n) {
				s.consider(p)
			}
		}
		if int(n) < len(r.narrow) {
			for _, p := range r.narrow[n] {
				s.consider(p)
			}
		}
	})
	t, _, ok := s.result()
	return t, ok
}

// Pick returns the best ticket that any host may take now, and the host that Choose names for it. It stays in the
// room until Remove.
func (r *Room) Pick(f *Fleet, now time.Time) (Ticket, HostID, bool) {
	r.sync(f, now)
	r.findRoom(f, now)
	if !r.roomy.any() {
		return Ticket{}, "", false
	}
	s := search{room: r, fleet: f, now: now, scale: r.scale(r.now), host: -1}
	s.run(func() {
		for _, p := range r.wide {
			if p.mask.meets(r.roomy) {
				s.consider(p)
			}
		}
		r.roomy.each(func(n int32) {
			if int(n) < len(r.narrow) {
				for _, p := range r.narrow[n] {
					if p.mask.firstIn(r.roomy) == n {
						s.consider(p)
					}
				}
			}
		})
	})
	return s.result()
}

// findRoom sets roomy to the hosts that can be given a job: those with a slot that is free, or free soon.
func (r *Room) findRoom(f *Fleet, now time.Time) {
	r.roomy = append(r.roomy[:0], f.free...)
	for len(r.roomy) < len(f.spare) {
		r.roomy = append(r.roomy, 0)
	}
	f.spare.each(func(n int32) {
		switch {
		case f.ripe(n, now):
			r.roomy.add(n)
		case !f.leaves || f.home.has(n):
			r.askAgain(f.endsAt[n] - int64(PrefetchAhead))
		}
	})
	f.leaveTo(r.roomy)
}

// askAgain makes NextDue name a time after now, unless it names an earlier one.
func (r *Room) askAgain(at int64) {
	at = max(at, r.now+int64(time.Millisecond))
	if r.again == 0 || at < r.again {
		r.again = at
	}
}

// placeFrom is how many new groups of tickets there may be before PlaceNew puts them into pools.
const placeFrom = 1024

// PlaceNew puts new tickets into pools when there are many of them. Call it between Puts when no decision is made for
// long: the requirements of a ticket's workflow are kept from then on, and may be forgotten before, once hashesKept
// other workflows have been used.
func (r *Room) PlaceNew(f *Fleet, now time.Time) {
	if len(r.unplaced) >= placeFrom {
		r.sync(f, now)
	}
}

// sync applies what has changed since the last decision.
func (r *Room) sync(f *Fleet, now time.Time) {
	r.tick(now)
	r.levelNewcomers(f)
	switch {
	case r.fleet != f || r.version != f.version:
		r.setFleet(f)
		clear(f.changed)
		for _, g := range r.groups {
			for ; g != nil; g = g.next {
				r.place(f, g)
			}
		}
	case len(f.changed) > 0 || len(r.unplaced) > 0:
		for x := range f.changed {
			for g := r.groups[x.hash]; g != nil; g = g.next {
				r.place(f, g)
			}
		}
		clear(f.changed)
		for _, g := range r.unplaced {
			if len(g.classes) > 0 {
				r.place(f, g)
			}
		}
	}
	clear(r.unplaced)
	r.unplaced = r.unplaced[:0]
}

// setFleet makes f the fleet that the room chooses from.
func (r *Room) setFleet(f *Fleet) {
	old := r.fleet
	r.fleet, r.version = f, f.version
	if old == nil || old == f {
		return
	}
	for _, l := range r.lanes {
		l.forgetTenant()
	}
	for _, g := range r.groups {
		for ; g != nil; g = g.next {
			if g.facts != nil {
				old.unref(g.facts)
				g.facts = nil
			}
		}
	}
}

// search is one search for the best class.
type search struct {
	room  *Room
	fleet *Fleet
	now   time.Time
	scale float64
	host  int32 // that asks; -1 = any

	passing bool // jobs may be passed over in favour of others
	passed  bool // at least one was
	left    int  // classes that were left to other homes

	class *class // the best so far
	level int
	rank  float64
	found int32 // host for the best class
}

// run searches once. When that finds only jobs that should wait for a warm host, it searches again for one that may load
// its models, since the free host would idle otherwise.
func (s *search) run(through func()) {
	s.passing = true
	through()
	if s.class == nil && s.passed {
		s.passing = false
		through()
	}
}

// consider compares the best class of each lane of a pool with the best class so far.
func (s *search) consider(p *pool) {
	step := int64(s.room.ageStep())
	for _, place := range p.lanes {
		l := place.lane
		l.resolveTenant(s.fleet)
		if l.facts.closed() || l.facts.liable() || !s.serves(p, l.tenant) {
			continue
		}
		level := l.level(s.room.now, step)
		if s.class != nil && level < s.level {
			continue
		}
		rank := l.rank(s.scale)
		tie := s.class != nil && level == s.level
		if tie && rank > s.rank {
			continue
		}
		if c, n := s.first(place, tie && rank == s.rank); c != nil {
			s.class, s.level, s.rank, s.found = c, level, rank, n
		}
	}
}

// serves reports whether the tenant may have the host of this search, or, in a search for any host, one of the pool's
// hosts with room.
func (s *search) serves(p *pool, t Tenant) bool {
	if s.host < 0 {
		return s.fleet.given.serve(p.mask, s.room.roomy, t)
	}
	return !s.fleet.given.bar(s.host, t)
}

// first returns the first class of a lane that can run. When the lane is level with that of the best class so far, only
// a class that comes before that one counts. It reads the heap in order, and no further than necessary.
func (s *search) first(place *poolLane, tie bool) (*class, int32) {
	r := s.room
	walk := frontier{place.classes, byScarcity{r}}
	list := append(r.frontier[:0], 0)
	defer func() { r.frontier = list[:0] }()
	for len(list) > 0 {
		at := list[0]
		list = heapRemove(list, 0, walk)
		c := place.classes[at]
		if tie && !(byScarcity{r}).before(c, s.class) {
			return nil, -1
		}
		if n := s.hostFor(c); n >= 0 {
			return c, n
		}
		for k := 2*at + 1; k <= 2*at+2 && k < len(place.classes); k++ {
			list = heapPush(list, k, walk)
		}
	}
	return nil, -1
}

// frontier orders positions in a heap by the classes at these positions.
type frontier struct {
	classes []*class
	byScarcity
}

func (o frontier) before(i, k int) bool { return o.byScarcity.before(o.classes[i], o.classes[k]) }
func (frontier) moved(int, int)         {}

// hostFor returns the host that would take the first ticket of a class now, or -1.
func (s *search) hostFor(c *class) int32 {
	f := s.fleet
	w := Want{
		Hash: c.group.hash, Tenant: c.lane.tenant, Priority: c.published, Size: c.size,
		Wishes: c.group.wishes.Wishes, AvoidUntil: moment(c.avoidUntil), Since: moment(c.passed), passing: s.passing,
	}
	if s.host < 0 {
		d := s.chooseFor(c, &w)
		if d.host < 0 && d.until.IsZero() || d.host >= 0 && (!d.warm || !s.passing) {
			return d.host
		}
		s.noteWait(c, d)
		return -1
	}
	x := c.group.facts
	if !f.permits(&w, x, s.host) || !f.suits(&w, x, s.host, s.now) {
		return -1
	}
	if until := f.patient(&w, x, s.host, s.now); !until.IsZero() {
		s.noteWait(c, decision{until: until, warm: true})
		return -1
	}
	return s.host
}

// noteWait records that a class waits for a warm host, or for a time.
func (s *search) noteWait(c *class, d decision) {
	if d.warm {
		s.passed = true
		if c.passed == 0 {
			c.passed = s.room.now
		}
	}
	s.room.askAgain(d.until.UnixNano())
}

func (s *search) result() (Ticket, HostID, bool) {
	if s.class == nil {
		return Ticket{}, "", false
	}
	p := s.class.lane.priority
	s.class.lane.since = s.room.now
	s.room.virtual[p] = max(s.room.virtual[p], s.rank)
	return s.room.ticket(s.class.waiting[0]), s.fleet.hosts[s.found].id, true
}
