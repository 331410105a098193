package route

import (
	"slices"
)

// narrow is the most hosts of a pool that is found by host; a pool of more is found by looking at all such pools.
const narrow = 8

// pool is the groups that the same hosts can take. When none of these hosts has room, no job of the pool is
// looked at. Jobs that only few hosts can take, blocks considered, are in pools of exactly these hosts; of the
// others, blocks are considered one by one.
type pool struct {
	mask   set
	key    uint64
	groups int
	bays   []*bay
	find   map[*lane]*bay
}

// bay is a pool's classes of one lane.
type bay struct {
	pool    *pool
	lane    *lane
	at      int      // place in pool.bays
	classes []*class // heap: fewest capable hosts, then lowest sequence
}

// inBay is the order within a bay.
type inBay struct{ r *Room }

func (o inBay) before(a, b *class) bool {
	if a.group.count != b.group.count {
		return a.group.count < b.group.count
	}
	return o.r.head(a).sequence < o.r.head(b).sequence
}
func (inBay) moved(c *class, at int) { c.at = at }

// bayIn puts a class with a head into the bay it belongs to.
func (r *Room) bayIn(c *class) {
	p := c.group.pool
	if p == nil {
		return
	}
	b := p.find[c.lane]
	if b == nil {
		b = &bay{pool: p, lane: c.lane, at: len(p.bays)}
		p.bays = append(p.bays, b)
		p.find[c.lane] = b
	}
	c.bay = b
	b.classes = heapPush(b.classes, c, inBay{r})
}

// unbay takes a class out of its bay. Its head may have gone already, so its place is found without comparing it.
func (r *Room) unbay(c *class) {
	b := c.bay
	if b == nil {
		return
	}
	c.bay = nil
	at, last := c.at, len(b.classes)-1
	heapSwap(b.classes, at, last, inBay{r})
	c.at = -1
	b.classes[last] = nil
	b.classes = b.classes[:last]
	if at < last {
		heapFix(b.classes, at, inBay{r})
	}
	if last > 0 {
		return
	}
	list := b.pool.bays
	list[b.at] = list[len(list)-1]
	list[b.at].at = b.at
	list[len(list)-1] = nil
	b.pool.bays = list[:len(list)-1]
	delete(b.pool.find, b.lane)
}

// place finds the pool of a group.
func (r *Room) place(f *Fleet, g *group) {
	if g.facts == nil {
		g.facts = f.use(g.hash)
		f.hold(g.facts)
	}
	x := g.facts
	f.build(x)
	exact, wide := f.scratch.eligible, f.scratch.chosen
	wide.copyFrom(x.capable)
	f.wishes(&Want{Wishes: g.wishes.Wishes}, x, wide)
	count := wide.count()
	exact.copyFrom(wide)
	x.everyone.takeFrom(exact)
	left := exact.count()
	var p *pool
	switch {
	case left == 0:
	case left <= narrow:
		p = r.poolOf(exact)
	default:
		p = r.poolOf(wide)
	}
	if p == g.pool && count == g.count {
		return
	}
	for _, c := range g.classes {
		r.unbay(c)
	}
	g.count = count
	r.repool(g, p)
	for _, c := range g.classes {
		if len(c.waiting) > 0 {
			r.bayIn(c)
		}
	}
}

// repool moves a group, none of whose classes is in a bay.
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
		r.close(old)
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
	p = &pool{mask: slices.Clone(mask), key: key, find: map[*lane]*bay{}}
	r.pools[key] = p
	if p.mask.count() > narrow {
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

func (r *Room) close(p *pool) {
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
