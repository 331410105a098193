package route

import "time"

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
	b := turn{room: r, fleet: f, now: now, scale: r.scale(r.now), host: n}
	b.search(func() {
		for _, p := range r.wide {
			if p.mask.has(n) {
				b.look(p)
			}
		}
		if int(n) < len(r.narrow) {
			for _, p := range r.narrow[n] {
				b.look(p)
			}
		}
	})
	t, _, ok := b.take()
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
	b := turn{room: r, fleet: f, now: now, scale: r.scale(r.now), host: -1}
	b.search(func() {
		for _, p := range r.wide {
			if p.mask.meets(r.roomy) {
				b.look(p)
			}
		}
		r.roomy.each(func(n int32) {
			if int(n) < len(r.narrow) {
				for _, p := range r.narrow[n] {
					if p.mask.firstIn(r.roomy) == n {
						b.look(p)
					}
				}
			}
		})
	})
	return b.take()
}

// findRoom sets roomy to the hosts that can be given a job: a slot is free, or may be soon.
func (r *Room) findRoom(f *Fleet, now time.Time) {
	r.roomy = append(r.roomy[:0], f.free...)
	for len(r.roomy) < len(f.spare) {
		r.roomy = append(r.roomy, 0)
	}
	f.spare.each(func(n int32) {
		if f.ripe(n, now) {
			r.roomy.add(n)
			return
		}
		r.askAgain(f.endsAt[n] - int64(PrefetchAhead))
	})
}

// askAgain makes NextDue name a time after now, unless it names an earlier one.
func (r *Room) askAgain(at int64) {
	at = max(at, r.now+int64(time.Millisecond))
	if r.again == 0 || at < r.again {
		r.again = at
	}
}

// settleFrom is how many kinds of tickets may be put before Settle takes them in.
const settleFrom = 1024

// Settle takes in many tickets that were put while nothing is decided yet. What the workflow of a ticket needs is kept
// from then on; before, it is forgotten when that of hashesKept others has come.
func (r *Room) Settle(f *Fleet, now time.Time) {
	if len(r.unplaced) >= settleFrom {
		r.sync(f, now)
	}
}

// sync takes in what has changed since the last decision.
func (r *Room) sync(f *Fleet, now time.Time) {
	r.tick(now)
	r.greet(f)
	switch {
	case r.fleet != f || r.version != f.version:
		r.join(f)
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

// join makes f the fleet that the room decides for.
func (r *Room) join(f *Fleet) {
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
				old.drop(g.facts)
				g.facts = nil
			}
		}
	}
}

// turn is the search for the best class.
type turn struct {
	room  *Room
	fleet *Fleet
	now   time.Time
	scale float64
	host  int32 // that asks; -1 = any

	passing bool // jobs may be passed over in favour of others
	passed  bool // one was

	class *class // the best so far
	level int
	rank  float64
	found int32 // host for it
}

// search runs a search, and when it found nothing but jobs that had better wait for a warm host, once more, now
// that the alternative is an idle GPU.
func (b *turn) search(through func()) {
	b.passing = true
	through()
	if b.class == nil && b.passed {
		b.passing = false
		through()
	}
}

// look compares the best class of each of a pool's lanes with the best so far.
func (b *turn) look(p *pool) {
	step := int64(b.room.ageStep())
	for _, bay := range p.bays {
		l := bay.lane
		l.know(b.fleet)
		if l.facts.closed() || l.facts.liable() || !b.serves(p, l.tenant) {
			continue
		}
		level := l.level(b.room.now, step)
		if b.class != nil && level < b.level {
			continue
		}
		rank := l.rank(b.scale)
		tie := b.class != nil && level == b.level
		if tie && rank > b.rank {
			continue
		}
		if c, n := b.first(bay, tie && rank == b.rank); c != nil {
			b.class, b.level, b.rank, b.found = c, level, rank, n
		}
	}
}

// serves reports whether a host that asks, and that jobs of the pool can take, is not given to other tenants.
func (b *turn) serves(p *pool, t Tenant) bool {
	if b.host < 0 {
		return b.fleet.given.serve(p.mask, b.room.roomy, t)
	}
	return !b.fleet.given.bar(b.host, t)
}

// first returns the first class of a bay that can run; when its lane ties with that of the best so far, it must
// come before that. It walks the heap in its order, as far as it must.
func (b *turn) first(bay *bay, tie bool) (*class, int32) {
	r := b.room
	walk := frontier{bay.classes, inBay{r}}
	list := append(r.frontier[:0], 0)
	defer func() { r.frontier = list[:0] }()
	for len(list) > 0 {
		at := list[0]
		list = heapRemove(list, 0, walk)
		c := bay.classes[at]
		if tie && !(inBay{r}).before(c, b.class) {
			return nil, -1
		}
		if n := b.runs(c); n >= 0 {
			return c, n
		}
		for k := 2*at + 1; k <= 2*at+2 && k < len(bay.classes); k++ {
			list = heapPush(list, k, walk)
		}
	}
	return nil, -1
}

// frontier orders places of a heap by what stands there.
type frontier struct {
	classes []*class
	inBay
}

func (o frontier) before(i, k int) bool { return o.inBay.before(o.classes[i], o.classes[k]) }
func (frontier) moved(int, int)         {}

// runs returns the host that would take the class's head now, or -1.
func (b *turn) runs(c *class) int32 {
	f := b.fleet
	w := Want{
		Hash: c.group.hash, Tenant: c.lane.tenant, Priority: c.published, Size: c.size,
		Wishes: c.group.wishes.Wishes, AvoidUntil: moment(c.avoidUntil), Since: moment(c.passed), passing: b.passing,
	}
	if b.host < 0 {
		d := f.choose(&w, b.now)
		if d.host < 0 && d.until.IsZero() || d.host >= 0 && (!d.warm || !b.passing) {
			return d.host
		}
		b.pass(c, d)
		return -1
	}
	x := c.group.facts
	if !f.permits(&w, x, b.host) || !f.suits(&w, x, b.host, b.now) {
		return -1
	}
	if until := f.patient(&w, x, b.host, b.now); !until.IsZero() {
		b.pass(c, decision{until: until, warm: true})
		return -1
	}
	return b.host
}

// pass notes that a class waits for a time.
func (b *turn) pass(c *class, d decision) {
	if d.warm {
		b.passed = true
		if c.passed == 0 {
			c.passed = b.room.now
		}
	}
	b.room.askAgain(d.until.UnixNano())
}

func (b *turn) take() (Ticket, HostID, bool) {
	if b.class == nil {
		return Ticket{}, "", false
	}
	p := b.class.lane.priority
	b.class.lane.since = b.room.now
	b.room.virtual[p] = max(b.room.virtual[p], b.rank)
	return b.room.ticket(b.class.waiting[0]), b.fleet.hosts[b.found].id, true
}
