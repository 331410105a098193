package route

import (
	"math"
	"slices"
	"time"
)

// Next returns the best ticket that a host may take now; false when there is none. It stays in the room until
// Remove. The host is not compared with other free ones (Pick does that), except that a job for which a warm host
// is free soon is left to that host.
func (r *Room) Next(f *Fleet, id HostID, now time.Time) (Ticket, bool) {
	r.sync(f, now)
	n, ok := f.numbers[id]
	if !ok || !f.free.has(n) && !f.spare.has(n) {
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
		case !f.leaves || f.assignable.has(n):
			r.askAgain(f.endsAt[n] - int64(PrefetchAhead))
		}
	})
	r.findAssignable(f)
}

// askAgain makes NextDue name a time after now, unless it names an earlier one.
func (r *Room) askAgain(at int64) {
	at = max(at, r.now+int64(time.Millisecond))
	if r.again == 0 || at < r.again {
		r.again = at
	}
}

// placeFrom is how many new groups of tickets there may be before PlaceNew puts them into pools.
const placeFrom = 256

// PlaceNew puts new tickets into pools when there are many of them. Call it between Puts when no decision is made for
// long: the requirements of a ticket's workflow are kept from then on, and may be forgotten before, once hashesKept
// other workflows have been used.
func (r *Room) PlaceNew(f *Fleet, now time.Time) {
	if len(r.unplaced) >= placeFrom {
		r.sync(f, now)
	}
}

// CatchUp applies a part of what has changed since the last decision, and reports whether there is more to apply, which can
// only be so with a Slice. Until all is applied, tickets may be passed over although a host could take them.
func (r *Room) CatchUp(f *Fleet, now time.Time) bool {
	r.sync(f, now)
	return r.unfinished
}

// Unfinished reports whether the last call has left something to do, since it was more than Slice. When that is a search for
// a ticket, it has named none, and goes on when it is called again.
func (r *Room) Unfinished() bool { return r.unfinished }

// lookAt applies the changes on which the order of tickets depends. Which hosts can take them does not matter for that.
func (r *Room) lookAt(f *Fleet, now time.Time) (more bool) {
	more = r.tick(now)
	r.levelNewcomers(f)
	if r.fleet != f {
		r.setFleet(f)
	}
	return more
}

// sync applies what has changed since the last decision, or a part of it when that is more than Slice.
func (r *Room) sync(f *Fleet, now time.Time) {
	more := r.lookAt(f, now)
	left := r.Slice
	if left <= 0 {
		left = math.MaxInt
	}
	left = r.refreshPools(f, left)
	left = r.placeUnplaced(f, left)
	left = r.placeChanged(f, left)
	left = r.placeRenewed(f, left)
	left = r.relaneSome(left)
	r.unfinished = more || left <= 0
}

// refreshPools brings the masks of pools up to date with the hosts that there are now.
func (r *Room) refreshPools(f *Fleet, left int) int {
	if r.version == f.version {
		return left
	}
	for range r.all {
		if left <= 0 {
			return 0
		}
		r.around = (r.around + 1) % len(r.all)
		if p := r.all[r.around]; p.seen != f.version {
			r.refresh(f, p)
			left--
		}
	}
	r.version = f.version
	return left
}

// placeUnplaced places the groups that have come since the last decision.
func (r *Room) placeUnplaced(f *Fleet, left int) int {
	n := 0
	for ; n < len(r.unplaced) && left > 0; n++ {
		if g := r.unplaced[n]; len(g.classes) > 0 {
			r.placeAgain(f, g)
			left--
		}
	}
	clear(r.unplaced[:n])
	if r.unplaced = r.unplaced[n:]; len(r.unplaced) == 0 {
		r.unplaced = nil
	}
	return left
}

// placeChanged places the groups of hashes whose blocks, requirements or affinity have changed.
func (r *Room) placeChanged(f *Fleet, left int) int {
	for x := range f.changed {
		if left <= 0 {
			return 0
		}
		delete(f.changed, x)
		for g := r.groups[x.hash]; g != nil; g = g.next {
			r.placeAgain(f, g)
			left--
		}
	}
	return left
}

// placeRenewed places all groups when other installations than before may be able to run them. It goes through the list
// from the end to the beginning: new groups are at the end, and one that goes is replaced by the last.
func (r *Room) placeRenewed(f *Fleet, left int) int {
	if r.renewed != f.renewed {
		r.renewed, r.placeAt = f.renewed, len(r.list)
	}
	for r.placeAt = min(r.placeAt, len(r.list)); r.placeAt > 0 && left > 0; r.placeAt-- {
		if g := r.list[r.placeAt-1]; g.renewed != f.renewed && g.facts != nil {
			r.placeAgain(f, g)
			left--
		}
	}
	return left
}

func (r *Room) placeAgain(f *Fleet, g *group) {
	g.renewed = f.renewed
	r.place(f, g)
}

// setFleet makes f the fleet that the room chooses from.
func (r *Room) setFleet(f *Fleet) {
	if old := r.fleet; old != nil {
		for _, l := range r.lanes {
			l.forgetTenant()
		}
		for _, g := range r.list {
			r.moveGroup(g, nil)
			if g.facts != nil {
				old.unref(g.facts)
				g.facts = nil
			}
		}
	}
	r.fleet, r.version, r.renewed, r.placeAt = f, f.version, f.renewed, 0
	r.unplaced = slices.Clone(r.list)
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
	aged  int
	rank  float64
	found int32 // host for the best class
	cut   bool  // too many classes were passed over: it is to go on in another search
}

// run searches once. When that finds only jobs that should wait for a warm host, it searches again for one that may load
// its models, since the free host would idle otherwise.
func (s *search) run(through func()) {
	s.passing = true
	through()
	if s.class == nil && s.passed && !s.cut {
		s.passing = false
		through()
	}
	s.setAside()
	s.room.unfinished = s.room.unfinished || s.cut
}

// consider compares the best class of each lane of a pool with the best class so far.
func (s *search) consider(p *pool) {
	step, assignable := int64(s.room.ageStep()), s.assignable(p)
	for _, place := range p.lanes {
		if s.cut {
			return
		}
		l := place.lane
		l.resolveTenant(s.fleet)
		if !assignable && !l.facts.hasCap() || l.facts.closed() || l.facts.liable() || !s.serves(p, l.tenant) {
			continue
		}
		aged := l.agedPriority(s.room.now, step)
		if s.class != nil && aged < s.aged {
			continue
		}
		rank := l.rank(s.scale)
		tie := s.class != nil && aged == s.aged
		if tie && rank > s.rank {
			continue
		}
		if c, n := s.first(place, tie && rank == s.rank); c != nil {
			s.class, s.aged, s.rank, s.found = c, aged, rank, n
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

// first returns the first class of a lane that can run. When the lane is equal to that of the best class so far, only
// a class that comes before that one counts. It reads the heap in order, and no further than necessary.
func (s *search) first(place *poolLane, tie bool) (*class, int32) {
	r := s.room
	walk := frontier{place.classes, byHead{r}}
	list := append(r.frontier[:0], 0)
	defer func() { r.frontier = list[:0] }()
	for len(list) > 0 && !s.cut {
		at := list[0]
		list = heapRemove(list, 0, walk)
		c := place.classes[at]
		if tie && !r.scarcer(c, s.class) {
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
			if d.host < 0 {
				s.passOver(c)
			}
			return d.host
		}
		s.noteWait(c, d)
		return -1
	}
	x := c.group.facts
	if !f.permits(&w, x, s.host) || !f.suits(&w, x, s.host, s.now) {
		s.passOver(c)
		return -1
	}
	if until := f.untilWarm(&w, x, s.host, s.now); !until.IsZero() {
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
	if s.class == nil || s.cut {
		return Ticket{}, "", false
	}
	p := s.class.lane.priority
	s.class.lane.since = s.room.now
	s.room.virtual[p] = max(s.room.virtual[p], s.rank)
	return s.room.ticket(s.class.waiting[0]), s.fleet.hosts[s.found].id, true
}
