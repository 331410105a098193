package route

import (
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// class holds the tickets that are alike for every decision: same lane, hash, wishes and size. The first of them is the head
// of the class, and a decision compares only the heads.
type class struct {
	group      *group
	lane       *lane
	published  int // the priority that the jobs were published with
	size       int64
	avoidUntil int64
	waiting    []int32 // heap of records that are due
	members    int     // records that name the class, due or not

	pool     *pool // that has none of some hosts that are blocked for it; nil = that of the group
	poolLane *poolLane
	at       int   // place in poolLane.classes; -1 = none
	passed   int64 // since when the head waits for a warm host; 0 = it does not
	left     int64 // since when the head is left to another home; 0 = it is not
}

type classKey struct {
	group      *group
	lane       *lane
	published  int
	size       int64
	avoidUntil int64
}

// group is the classes of one hash with the same wishes. The same hosts can take them, except for blocks of one tenant
// or size.
type group struct {
	hash    workflow.Hash
	wishes  *wishes
	next    *group // of the same hash
	classes []*class
	pool    *pool  // nil before the first decision
	facts   *facts // of the hash, held while jobs of it wait; nil before the first decision
	renewed uint64 // Fleet.renewed when it was placed
	aside   int    // classes with a pool of their own
	at      int    // place in Room.list
}

// wishes is one set of Wishes, stored once for all tickets that have it.
type wishes struct {
	Wishes
	key  string
	refs int
}

func wishesKey(w *Wishes) string {
	if len(w.Prefer)+len(w.Only)+len(w.Exclude)+len(w.Avoid) == 0 {
		return ""
	}
	var b strings.Builder
	for _, list := range [][]string{w.Prefer, w.Only, w.Exclude, w.Avoid} {
		for _, term := range list {
			b.WriteString(term)
			b.WriteByte(0)
		}
		b.WriteByte(1)
	}
	return b.String()
}

func (r *Room) intern(w *Wishes) *wishes {
	key := wishesKey(w)
	kept := r.wishes[key]
	if kept == nil {
		kept = &wishes{key: key, Wishes: Wishes{
			Prefer: slices.Clone(w.Prefer), Only: slices.Clone(w.Only),
			Exclude: slices.Clone(w.Exclude), Avoid: slices.Clone(w.Avoid),
		}}
		r.wishes[key] = kept
	}
	return kept
}

// classOf returns the class of a ticket, making it when there is none.
func (r *Room) classOf(t *Ticket) *class {
	w := r.intern(&t.Wishes)
	g := r.groups[t.Hash]
	for g != nil && g.wishes != w {
		g = g.next
	}
	if g == nil {
		g = &group{hash: workflow.Hash(strings.Clone(string(t.Hash))), wishes: w, at: len(r.list)}
		r.list = append(r.list, g)
		if first := r.groups[t.Hash]; first != nil {
			g.hash = first.hash
			first.next, g.next = g, first.next
		} else {
			r.groups[g.hash] = g
		}
		w.refs++
		r.unplaced = append(r.unplaced, g)
	}
	key := classKey{g, r.lane(t.Tenant, t.Priority), clampPriority(t.Priority), t.Size, nanos(t.AvoidUntil)}
	if len(t.Avoid) == 0 {
		key.avoidUntil = 0
	}
	c := r.classes[key]
	if c == nil {
		c = &class{group: g, lane: key.lane, published: key.published, size: key.size, avoidUntil: key.avoidUntil, at: -1}
		r.classes[key] = c
		g.classes = append(g.classes, c)
	}
	return c
}

// discard removes a class without tickets, and its group and wishes when no other class has them.
func (r *Room) discard(c *class) {
	g := c.group
	delete(r.classes, classKey{g, c.lane, c.published, c.size, c.avoidUntil})
	r.leaveOwnPool(c)
	k := slices.Index(g.classes, c)
	g.classes = slices.Delete(g.classes, k, k+1)
	if len(g.classes) > 0 {
		return
	}
	r.moveGroup(g, nil)
	if g.facts != nil {
		r.fleet.unref(g.facts)
	}
	last := len(r.list) - 1
	r.list[g.at] = r.list[last]
	r.list[g.at].at = g.at
	r.list[last] = nil
	r.list = r.list[:last]
	if g.wishes.refs--; g.wishes.refs == 0 {
		delete(r.wishes, g.wishes.key)
	}
	first := r.groups[g.hash]
	switch {
	case first == g && g.next == nil:
		delete(r.groups, g.hash)
	case first == g:
		r.groups[g.hash] = g.next
	default:
		for first.next != g {
			first = first.next
		}
		first.next = g.next
	}
}

func (r *Room) head(c *class) *record { return r.records.at(c.waiting[0]) }

// byArrival is the order of the tickets within a class.
type byArrival struct{ r *records }

func (o byArrival) before(a, b int32) bool { return o.r.at(a).before(o.r.at(b)) }
func (o byArrival) moved(i int32, at int)  { o.r.at(i).at = int32(at) }

// enqueue adds a due record to the waiting ones of its class.
func (r *Room) enqueue(i int32) {
	x := r.records.at(i)
	c := x.class
	c.waiting = heapPush(c.waiting, i, byArrival{&r.records})
	r.countDue(c.lane, x.dueSince())
	c.lane.publishedWith(c.published).due.add(x.sequence)
	r.headChanged(c, x.at == 0)
}

// dequeue removes a record from the waiting ones of its class, where it is.
func (r *Room) dequeue(i int32) {
	x := r.records.at(i)
	c, wasHead := x.class, x.at == 0
	c.waiting = heapRemove(c.waiting, int(x.at), byArrival{&r.records})
	if cap(c.waiting) > 64 && len(c.waiting) < cap(c.waiting)/4 {
		c.waiting = slices.Clip(slices.Clone(c.waiting))
	}
	c.lane.depth--
	c.lane.publishedWith(c.published).due.remove(x.sequence)
	r.headChanged(c, wasHead)
}

// fallDue adds a record that has become due to the waiting ones of its class.
func (r *Room) fallDue(i int32) {
	r.later(i).remove(r.records.at(i).sequence)
	r.enqueue(i)
}

// expire takes a record that has expired from the waiting ones of its class.
func (r *Room) expire(i int32) {
	if r.records.at(i).at >= 0 {
		r.dequeue(i)
		r.later(i).add(r.records.at(i).sequence)
	}
}

// later gives the sequences that are not due or have expired, of the record's lane and of the priority that it was published with.
func (r *Room) later(i int32) *ranks {
	c := r.records.at(i).class
	return &c.lane.publishedWith(c.published).later
}

// headChanged moves the class to the place that follows from its new head.
func (r *Room) headChanged(c *class, changed bool) {
	if !changed {
		return
	}
	c.passed, c.left = 0, 0
	r.removeFromPool(c)
	if len(c.waiting) > 0 {
		r.addToPool(c)
	}
}

// dueSince is when a record could first have run.
func (x *record) dueSince() int64 {
	if x.times != nil {
		return max(x.received, x.times.notBefore)
	}
	return x.received
}
