package route

import (
	"slices"
)

// narrowPool is the most hosts of a pool that is listed with each of its hosts (Room.narrow). Larger pools are in one list
// (Room.wide), which is read as a whole.
const narrowPool = 8

// pool is the groups of tickets that the same hosts can take. When none of these hosts has room, a decision skips the whole
// pool. A group that only a few unblocked hosts can take is in a pool of exactly these hosts; in the pools of the other
// groups blocked hosts are included, and blocks are checked for each ticket.
type pool struct {
	mask   set
	key    uint64
	groups int
	lanes  []*poolLane
	byLane map[*lane]*poolLane
}

// poolLane is the classes of one lane in a pool.
type poolLane struct {
	pool    *pool
	lane    *lane
	at      int      // place in pool.lanes
	classes []*class // heap: fewest capable hosts, then first come
}

// byScarcity is the order of the classes of a lane: fewest capable hosts first, then first come.
type byScarcity struct{ r *Room }

func (o byScarcity) before(a, b *class) bool {
	if a.group.count != b.group.count {
		return a.group.count < b.group.count
	}
	return o.r.head(a).before(o.r.head(b))
}
func (byScarcity) moved(c *class, at int) { c.at = at }

// addToPool puts a class that has a waiting ticket into the pool of its group.
func (r *Room) addToPool(c *class) {
	p := c.group.pool
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
	l.classes = heapPush(l.classes, c, byScarcity{r})
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
	heapSwap(l.classes, at, last, byScarcity{r})
	c.at = -1
	l.classes[last] = nil
	l.classes = l.classes[:last]
	if at < last {
		heapFix(l.classes, at, byScarcity{r})
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
	f.build(x)
	exact, wide := f.scratch.eligible, f.scratch.chosen
	wide.copyFrom(x.capable)
	f.applyWishes(&Want{Wishes: g.wishes.Wishes}, x, wide)
	count := wide.count()
	exact.copyFrom(wide)
	x.everyone.removeFrom(exact)
	left := exact.count()
	var p *pool
	switch {
	case left == 0:
	case left <= narrowPool:
		p = r.poolOf(exact)
	default:
		p = r.poolOf(wide)
	}
	if p == g.pool && count == g.count {
		return
	}
	for _, c := range g.classes {
		r.removeFromPool(c)
	}
	g.count = count
	r.repool(g, p)
	for _, c := range g.classes {
		if len(c.waiting) > 0 {
			r.addToPool(c)
		}
	}
}

// repool moves a group to another pool; its classes are in no pool at this moment.
func (r *Room) repool(g *group, p *pool) {
	old := g.pool
	g.pool = p
	if p != nil {
		p.groups++
	}
	if old == nil {
		return
	}
	if old.groups--; old.groups == 0 {
		r.removePool(old)
	}
}

// poolOf returns the pool of a set of hosts, making it when there is none.
func (r *Room) poolOf(mask set) *pool {
	mask = mask[:trimmed(mask)]
	key := contentKey(mask)
	for r.pools[key] != nil && !slices.Equal(r.pools[key].mask, mask) {
		key++
	}
	p := r.pools[key]
	if p != nil {
		return p
	}
	p = &pool{mask: slices.Clone(mask), key: key, byLane: map[*lane]*poolLane{}}
	r.pools[key] = p
	if p.mask.count() > narrowPool {
		r.wide = append(r.wide, p)
		return p
	}
	p.mask.each(func(n int32) {
		for int(n) >= len(r.narrow) {
			r.narrow = append(r.narrow, nil)
		}
		r.narrow[n] = append(r.narrow[n], p)
	})
	return p
}

func (r *Room) removePool(p *pool) {
	delete(r.pools, p.key)
	if k := slices.Index(r.wide, p); k >= 0 {
		r.wide = slices.Delete(r.wide, k, k+1)
		return
	}
	p.mask.each(func(n int32) {
		k := slices.Index(r.narrow[n], p)
		r.narrow[n] = slices.Delete(r.narrow[n], k, k+1)
	})
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
