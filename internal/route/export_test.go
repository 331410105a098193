package route

import (
	"fmt"
	"time"
)

// May reports whether a host may take the job now, by the rules of Choose, whichever host would be the best.
func (f *Fleet) May(w Want, id HostID, now time.Time) bool {
	n, ok := f.numbers[id]
	if !ok || f.tenantWaits(&w) {
		return false
	}
	x := f.use(w.Hash)
	return f.permits(&w, x, n) && (f.free.has(n) || f.ripe(n, now)) && f.suits(&w, x, n, now)
}

// Left counts what the fleet keeps, by sort; sorts of which there is nothing are left out.
func (f *Fleet) Left() map[string]int {
	left := map[string]int{
		"numbers": len(f.numbers), "numbers in use": len(f.hosts) - len(f.unused), "labels": len(f.labels), "memory sizes": len(f.memory),
		"installations": len(f.installations), "blocks in force": f.blockCount, "tenants with grants": len(f.given.of), "restricted": f.given.restricted.count(),
		"online": f.online.count(), "free": f.free.count(), "spare": f.spare.count(), "home": f.home.count(), "unknown": f.unknown.count(),
		"vacant": f.vacant, "kept": f.kept, "hashes not idle": len(f.hashes) - f.idle.n,
	}
	for i := range f.load {
		left["loaded"] += f.load[i].count()
	}
	for _, h := range f.hosts {
		if h != nil {
			left["hosts"]++
		}
	}
	for _, t := range f.tenants {
		left["jobs of tenants"] += t.total
		left["hosts down"] += t.down
		for _, n := range t.running {
			left["running"] += int(n)
		}
	}
	for _, m := range f.models {
		left["hosts of models"] += m.hosts.n
		left["uses of models"] += m.refs
	}
	for _, x := range f.hashes {
		left["uses of models"] -= len(x.models)
		left["references"] += x.refs
		left["hosts of hashes"] += x.everyone.n + x.incapable.n + x.probation.n + x.struck.n + x.running.n
		left["blocks"] += len(x.blocks)
		left["rules of hashes"] += len(x.tenants) + len(x.sized) + len(x.whole) + len(x.withheld)
		for i := range x.warm {
			left["warm hosts"] += x.warm[i].n
		}
		if x.affinity != nil {
			left["affinities"]++
		}
	}
	return without0(left)
}

// Left counts what the room keeps, by sort; sorts of which there is nothing are left out. Lanes are kept for what they have used.
func (r *Room) Left() map[string]int {
	left := map[string]int{
		"records": r.records.n, "sequences": len(r.records.bySequence), "jobs": len(r.records.byJob),
		"records in use": len(r.records.chunks)*chunk - len(r.records.unused),
		"classes":        len(r.classes), "groups": len(r.groups), "wishes": len(r.wishes), "pools": len(r.pools), "wide pools": len(r.wide),
		"unplaced": len(r.unplaced), "newcomers": len(r.newcomers), "overdue": len(r.overdue),
	}
	for _, pools := range r.narrow {
		left["narrow pools"] += len(pools)
	}
	for _, l := range r.lanes {
		left["due in lanes"] += l.depth
		left["members of lanes"] += l.members
	}
	return without0(left)
}

func without0(counts map[string]int) map[string]int {
	for name, n := range counts {
		if n == 0 {
			delete(counts, name)
		}
	}
	return counts
}

// TenantsKept and LanesKept are how many the fleet and the room remember.
func (f *Fleet) TenantsKept() int { return len(f.tenants) }
func (r *Room) LanesKept() int    { return len(r.lanes) }

// Heap is a heap of numbers that are told their places.
type Heap struct{ list []*number }

type number struct{ value, at int }

type byValue struct{}

func (byValue) before(a, b *number) bool { return a.value < b.value }
func (byValue) moved(n *number, at int)  { n.at = at }

// NewHeap returns an empty heap.
func NewHeap() *Heap { return &Heap{} }

// Push adds a number.
func (h *Heap) Push(value int) { h.list = heapPush(h.list, &number{value: value}, byValue{}) }

// Remove removes one that is equal to a number, from where it was told to stand.
func (h *Heap) Remove(value int) {
	for _, n := range h.list {
		if n.value == value {
			h.list = heapRemove(h.list, n.at, byValue{})
			return
		}
	}
}

// Pop removes the first.
func (h *Heap) Pop() int {
	first := h.list[0].value
	h.list = heapRemove(h.list, 0, byValue{})
	return first
}

// Len is how many there are.
func (h *Heap) Len() int { return len(h.list) }

// Ranks is a set of sequences that says how many are lower than one.
type Ranks struct{ ranks }

// Add adds a sequence.
func (r *Ranks) Add(sequence uint64) { r.add(sequence) }

// Remove takes out a sequence.
func (r *Ranks) Remove(sequence uint64) { r.remove(sequence) }

// Below is how many are lower.
func (r *Ranks) Below(sequence uint64) int { return r.below(sequence) }

// TimersKept is how many times of tickets the room keeps.
func (r *Room) TimersKept() int { return len(r.timers.heap) }

// Depths is how many tickets stand in each lane that has some, by tenant and the priority that it counts as.
func (r *Room) Depths() map[string]int {
	depths := map[string]int{}
	for key, l := range r.lanes {
		depths[fmt.Sprintf("%s %d", key.tenant, key.priority)] = l.members
	}
	return without0(depths)
}
