package route

import (
	"slices"
	"strings"
)

// narrowPool is the most hosts of a pool that is listed with each of its hosts (Room.narrow). Larger pools are in one list
// (Room.wide), which is read as a whole.
const narrowPool = 8

// pool is the tickets that the same hosts can take. When none of these hosts has room, a decision skips the whole pool.
//
// Which hosts these are follows from the pool's key, which does not name hosts: so a host that comes or goes changes the
// masks of the pools, and no ticket. In the pool of such a key, its base, hosts that are blocked for some of its
// tickets are included, and blocks are checked for each ticket. Tickets that are blocked on some of them in any case are
// in a pool without these: those that only a few unblocked hosts can take, and those that were passed over since the
// hosts with room are blocked for them.
type pool struct {
	key    poolKey
	limits limits
	minus  set   // hosts that are not in mask since they are blocked
	base   *pool // the pool of the same key without minus; nil = this one
	mask   set
	count  int    // of a base: hosts that can take its tickets, blocked or not
	refs   int    // groups and classes that are in it, and pools whose base it is
	seen   uint64 // Fleet.version that mask follows from
	at     int    // place in Room.all
	wideAt int    // place in Room.wide; -1 = it is listed with its hosts
	lanes  []*poolLane
	byLane map[*lane]*poolLane
}

// poolKey is equal for groups that the same hosts can take, whichever hosts there are.
type poolKey struct {
	reach  *reach
	limits string
	minus  uint64 // contentKey; 0 = none
}

// limitsKey is equal for equal limits.
func limitsKey(l limits) string {
	if len(l.only)+len(l.exclude)+len(l.unlike) == 0 {
		return ""
	}
	var b strings.Builder
	for _, list := range [...][]string{l.only, l.exclude, l.unlike} {
		for _, term := range list {
			b.WriteString(term)
			b.WriteByte(0)
		}
		b.WriteByte(1)
	}
	return b.String()
}

// poolLane is the classes of one lane in a pool.
type poolLane struct {
	pool    *pool
	lane    *lane
	at      int      // place in pool.lanes
	classes []*class // heap: first come first
}

// byHead is the order of the classes of a lane in a pool. All of them have the same number of capable hosts.
type byHead struct{ r *Room }

func (o byHead) before(a, b *class) bool { return o.r.head(a).before(o.r.head(b)) }
func (byHead) moved(c *class, at int)    { c.at = at }

// scarcer is the order of the classes of a lane in several pools: fewest capable hosts first, then first come.
func (r *Room) scarcer(a, b *class) bool {
	if x, y := a.poolLane.pool.hosts(), b.poolLane.pool.hosts(); x != y {
		return x < y
	}
	return byHead{r}.before(a, b)
}

// hosts is how many hosts can take the pool's tickets, blocked or not.
func (p *pool) hosts() int {
	if p.base != nil {
		return p.base.count
	}
	return p.count
}

// addToPool puts a class that has a waiting ticket into its pool.
func (r *Room) addToPool(c *class) {
	p := c.pool
	if p == nil {
		p = c.group.pool
	}
	if p == nil {
		return
	}
	l := p.byLane[c.lane]
	if l == nil {
		l = &poolLane{pool: p, lane: c.lane, at: len(p.lanes)}
		p.lanes = append(p.lanes, l)
		p.byLane[c.lane] = l
	}
	c.poolLane = l
	l.classes = heapPush(l.classes, c, byHead{r})
}

// removeFromPool removes a class from its pool. Its first ticket may be gone already, so the class is not compared with others
// to find it.
func (r *Room) removeFromPool(c *class) {
	l := c.poolLane
	if l == nil {
		return
	}
	c.poolLane = nil
	at, last := c.at, len(l.classes)-1
	heapSwap(l.classes, at, last, byHead{r})
	c.at = -1
	l.classes[last] = nil
	l.classes = l.classes[:last]
	if at < last {
		heapFix(l.classes, at, byHead{r})
	}
	if last > 0 {
		return
	}
	list := l.pool.lanes
	list[l.at] = list[len(list)-1]
	list[l.at].at = l.at
	list[len(list)-1] = nil
	l.pool.lanes = list[:len(list)-1]
	delete(l.pool.byLane, l.lane)
}

// place puts a group into the pool of the hosts that can take it.
func (r *Room) place(f *Fleet, g *group) {
	if g.facts == nil {
		g.facts = f.use(g.hash)
		f.ref(g.facts)
	}
	x := g.facts
	l := limitsOf(&g.wishes.Wishes, x.affinity)
	key := poolKey{reach: f.reachOf(x), limits: limitsKey(l)}
	p := r.poolOf(f, key, l, nil)
	p.refs++ // it is kept until the group is in it, or in one that is made from it
	next := p
	if x.everyone.n > 0 {
		exact := f.scratch.eligible
		exact.copyFrom(p.mask)
		x.everyone.removeFrom(exact)
		if exact.count() <= narrowPool {
			clear(f.scratch.term)
			x.everyone.addTo(f.scratch.term)
			next = r.poolOf(f, key, l, f.scratch.term)
		}
	}
	r.moveGroup(g, next)
	r.release(p)
}

// moveGroup puts all classes of a group into a pool.
func (r *Room) moveGroup(g *group, p *pool) {
	if g.pool == p && g.aside == 0 {
		return
	}
	if p != nil {
		p.refs++ // before its classes leave their own pools, of which it may be one
	}
	for _, c := range g.classes {
		r.removeFromPool(c)
		r.leaveOwnPool(c)
	}
	old := g.pool
	if g.pool = p; p != nil {
		for _, c := range g.classes {
			if len(c.waiting) > 0 {
				r.addToPool(c)
			}
		}
	}
	r.release(old)
}

// leaveOwnPool returns a class to the pool of its group. Call it while the class is in no list of a pool.
func (r *Room) leaveOwnPool(c *class) {
	if c.pool != nil {
		r.release(c.pool)
		c.pool = nil
		c.group.aside--
	}
}

// setAside moves a class to the pool that has none of the hosts with room which are blocked for it. It is back in the pool
// of its group as soon as a block of its workflow changes.
func (r *Room) setAside(f *Fleet, c *class, host int32) {
	if c.poolLane == nil {
		return
	}
	p := c.poolLane.pool
	minus := f.scratch.chosen
	if !r.blockedWithRoom(f, c, host, minus) {
		return
	}
	for i, w := range p.minus {
		if i < len(minus) {
			minus[i] |= w
		}
	}
	next := r.poolOf(f, p.key, p.limits, minus)
	next.refs++ // before the class leaves its own pool
	r.removeFromPool(c)
	r.leaveOwnPool(c)
	c.pool = next
	c.group.aside++
	r.addToPool(c)
}

// blockedWithRoom fills into with the hosts of a class's pool that have room and are blocked for it: of one host, or of all
// when host is -1. It reports whether there are any.
func (r *Room) blockedWithRoom(f *Fleet, c *class, host int32, into set) bool {
	x, mask := c.group.facts, c.poolLane.pool.mask
	clear(into)
	if host >= 0 {
		if !mask.has(host) || !x.blocked(host, c.lane.tenant, c.size) {
			return false
		}
		into.add(host)
		return true
	}
	left := f.scratch.term
	left.copyFrom(mask)
	left.and(r.roomy)
	into.copyFrom(left)
	x.removeBlocked(left, c.lane.tenant, c.size)
	into.andNot(left)
	return into.any()
}

// poolOf returns the pool of a key and of hosts that are left out, making it when there is none.
func (r *Room) poolOf(f *Fleet, key poolKey, l limits, minus set) *pool {
	minus = minus[:trimmed(minus)]
	if key.minus = 0; len(minus) > 0 {
		key.minus = contentKey(minus)
	}
	for r.pools[key] != nil && !slices.Equal(r.pools[key].minus, minus) {
		key.minus++
	}
	if p := r.pools[key]; p != nil {
		return p
	}
	p := &pool{key: key, limits: l, minus: slices.Clone(minus), byLane: map[*lane]*poolLane{}, at: len(r.all), wideAt: -1}
	key.reach.refs++
	r.pools[key] = p
	r.all = append(r.all, p)
	if len(minus) > 0 {
		base := key
		p.base = r.poolOf(f, base, l, nil)
		p.base.refs++
	}
	r.refresh(f, p)
	return p
}

// refresh finds out which hosts can take a pool's tickets.
func (r *Room) refresh(f *Fleet, p *pool) {
	p.seen = f.version
	mask := f.scratch.planes[0]
	mask.copyFrom(f.hostsIn(p.key.reach))
	f.limit(mask, p.limits)
	p.count = mask.count()
	mask.andNot(p.minus)
	mask = mask[:trimmed(mask)]
	if slices.Equal(mask, p.mask) {
		return
	}
	r.unlist(p)
	p.mask = append(p.mask[:0], mask...)
	r.enlist(p)
}

// enlist adds a pool to the lists in which decisions find it.
func (r *Room) enlist(p *pool) {
	if p.mask.count() > narrowPool {
		p.wideAt = len(r.wide)
		r.wide = append(r.wide, p)
		return
	}
	p.mask.each(func(n int32) {
		for int(n) >= len(r.narrow) {
			r.narrow = append(r.narrow, nil)
		}
		r.narrow[n] = append(r.narrow[n], p)
	})
}

func (r *Room) unlist(p *pool) {
	if p.wideAt >= 0 {
		last := len(r.wide) - 1
		r.wide[p.wideAt] = r.wide[last]
		r.wide[p.wideAt].wideAt = p.wideAt
		r.wide[last] = nil
		r.wide, p.wideAt = r.wide[:last], -1
		return
	}
	p.mask.each(func(n int32) {
		k := slices.Index(r.narrow[n], p)
		r.narrow[n] = slices.Delete(r.narrow[n], k, k+1)
	})
}

// release removes a pool that nothing is in any more.
func (r *Room) release(p *pool) {
	if p == nil {
		return
	}
	if p.refs--; p.refs > 0 {
		return
	}
	r.unlist(p)
	delete(r.pools, p.key)
	last := len(r.all) - 1
	r.all[p.at] = r.all[last]
	r.all[p.at].at = p.at
	r.all[last] = nil
	r.all = r.all[:last]
	r.fleet.releaseReach(p.key.reach)
	r.release(p.base)
}

func trimmed(s set) int {
	n := len(s)
	for n > 0 && s[n-1] == 0 {
		n--
	}
	return n
}

func contentKey(s set) uint64 {
	h := uint64(len(s))
	for k, w := range s {
		if w != 0 {
			h = mix(h^w*0x9e3779b97f4a7c15) + uint64(k)
		}
	}
	return mix(h) | 1
}

func mix(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}
