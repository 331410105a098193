package route_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// world is the slow and plain reading of the rules: maps and loops. What Fleet and Room decide is compared with
// it on random worlds.
type world struct {
	hosts    map[route.HostID]route.HostState
	offered  map[route.HostID][]route.Run
	lacks    map[route.HostID]int // number of the model that the host lacks; 0 = capability unknown
	needs    map[workflow.Hash][]int
	blocks   map[[2]string]route.Block
	strikes  map[[2]string]route.Strikes
	prefer   map[workflow.Hash][]string
	exclude  map[workflow.Hash][]string
	caps     map[route.Tenant]int
	weights  map[route.Tenant]float64
	tickets  map[uint64]route.Ticket
	used     map[[2]string]float64 // by tenant and priority
	fresh    map[[2]string]bool
	virtual  map[int]float64 // rank of the lane that was served last, by priority
	runTimes map[[2]string][]float64
	since    map[[2]string]time.Time // a lane was served or got its first job
	withheld map[[2]string]bool      // by tenant and hash
	given    map[route.HostID][]route.Tenant
}

func newWorld() *world {
	return &world{
		hosts: map[route.HostID]route.HostState{}, offered: map[route.HostID][]route.Run{}, lacks: map[route.HostID]int{},
		needs: map[workflow.Hash][]int{}, blocks: map[[2]string]route.Block{}, strikes: map[[2]string]route.Strikes{},
		prefer: map[workflow.Hash][]string{}, exclude: map[workflow.Hash][]string{}, caps: map[route.Tenant]int{},
		weights: map[route.Tenant]float64{}, tickets: map[uint64]route.Ticket{}, used: map[[2]string]float64{},
		fresh: map[[2]string]bool{}, virtual: map[int]float64{}, runTimes: map[[2]string][]float64{},
		since: map[[2]string]time.Time{}, withheld: map[[2]string]bool{}, given: map[route.HostID][]route.Tenant{},
	}
}

func (w *world) runs(id route.HostID) []route.Run {
	return append(slices.Clone(w.hosts[id].Running), w.offered[id]...)
}

func (w *world) load(id route.HostID) int {
	return len(w.hosts[id].Running) + len(w.offered[id]) + w.hosts[id].Foreign
}

func (w *world) running(match func(route.Run) bool) int {
	n := 0
	for id, h := range w.hosts {
		for _, runs := range [][]route.Run{h.Running, w.offered[id]} {
			for _, r := range runs {
				if match(r) {
					n++
				}
			}
		}
	}
	return n
}

func (w *world) stands(id route.HostID, terms []string) bool {
	return slices.ContainsFunc(terms, func(t string) bool { return t == string(id) || slices.Contains(w.hosts[id].Labels, t) })
}

func (w *world) capable(id route.HostID, hash workflow.Hash) bool {
	needs, known := w.needs[hash]
	return !known || w.lacks[id] == 0 || !slices.Contains(needs, w.lacks[id])
}

// right says whether a host is right for the job, however busy it is and whatever it is avoided for.
func (w *world) right(id route.HostID, j route.Want) bool {
	b, blocked := w.blocks[[2]string{string(id), string(j.Hash)}]
	blocked = blocked && b.HoldsFor(j.Tenant, j.Size)
	tenants, given := w.given[id]
	return (!given || slices.Contains(tenants, j.Tenant)) && w.hosts[id].State == route.Online && w.capable(id, j.Hash) && !blocked &&
		(len(j.Only) == 0 || w.stands(id, j.Only)) && !w.stands(id, j.Exclude) && !w.stands(id, w.exclude[j.Hash])
}

// candidates are the hosts that may take the job now.
func (w *world) candidates(j route.Want, now time.Time) []route.HostID {
	if limit := w.caps[j.Tenant]; limit > 0 && w.running(func(r route.Run) bool { return r.Tenant == j.Tenant }) >= limit {
		return nil
	}
	if w.down(j.Tenant) > 1 || w.withheld[[2]string{string(j.Tenant), string(j.Hash)}] {
		return nil
	}
	var right, fresh []route.HostID
	for id := range w.hosts {
		if w.right(id, j) {
			right = append(right, id)
			if !w.stands(id, j.Avoid) {
				fresh = append(fresh, id)
			}
		}
	}
	if len(fresh) > 0 {
		right = fresh
	} else if now.Before(j.AvoidUntil) && len(j.Avoid) > 0 {
		return nil
	}
	for _, held := range []bool{false, true} {
		var able []route.HostID
		for _, id := range right {
			h := w.hosts[id]
			limit := h.Slots
			if held {
				limit += h.Prefetch
			}
			probe := w.strikes[[2]string{string(id), string(j.Hash)}].OnProbation() &&
				slices.ContainsFunc(w.runs(id), func(r route.Run) bool { return r.Hash == j.Hash })
			if w.load(id) < limit && !probe {
				able = append(able, id)
			}
		}
		if len(able) > 0 {
			return able
		}
	}
	return nil
}

// down is how many hosts are unhealthy because of a tenant.
func (w *world) down(t route.Tenant) int {
	n := 0
	for _, h := range w.hosts {
		if h.State == route.Unhealthy && h.Blame.Tenant == t {
			n++
		}
	}
	return n
}

// best are the hosts between which only the rendezvous decides.
func (w *world) best(j route.Want, now time.Time) []route.HostID {
	c := w.candidates(j, now)
	keep := func(value func(id route.HostID) int) {
		top := 0
		for i, id := range c {
			if v := value(id); i == 0 || v > top {
				top = v
			}
		}
		c = slices.DeleteFunc(c, func(id route.HostID) bool { return value(id) != top })
	}
	yes := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	keep(func(id route.HostID) int { return yes(w.stands(id, j.Prefer)) })
	keep(func(id route.HostID) int { return yes(w.stands(id, w.prefer[j.Hash])) })
	keep(func(id route.HostID) int { return yes(w.hosts[id].Memory > w.tooSmall(j) && w.tooSmall(j) > 0) })
	keep(func(id route.HostID) int { return -w.coldness(id, j.Hash) })
	keep(func(id route.HostID) int { return w.shared(id, j.Hash) })
	keep(func(id route.HostID) int { return -w.load(id) * 8 / max(w.hosts[id].Slots, 1) })
	keep(func(id route.HostID) int { return yes(w.hosts[id].Home) })
	return c
}

// tooSmall is the most memory that a job of this hash and size ran out of.
func (w *world) tooSmall(j route.Want) int64 {
	most := int64(0)
	for _, b := range w.blocks {
		if b.Hash == j.Hash && b.Kind == failure.OutOfMemory && b.HoldsFor(j.Tenant, j.Size) {
			most = max(most, w.hosts[b.Host].Memory)
		}
	}
	return most
}

func (w *world) warm(id route.HostID) []workflow.Hash {
	var list []workflow.Hash
	runs := w.runs(id)
	for i := range runs {
		list = append(list, runs[len(runs)-1-i].Hash)
	}
	var warm []workflow.Hash
	for _, h := range append(list, w.hosts[id].Recent[:min(4, len(w.hosts[id].Recent))]...) {
		if len(warm) < 4 && !slices.Contains(warm, h) {
			warm = append(warm, h)
		}
	}
	return warm
}

func (w *world) coldness(id route.HostID, hash workflow.Hash) int {
	if i := slices.Index(w.warm(id), hash); i >= 0 {
		return i
	}
	return 99
}

func (w *world) shared(id route.HostID, hash workflow.Hash) int {
	models := map[int]bool{}
	for _, h := range w.warm(id) {
		for _, m := range w.needs[h] {
			models[m] = true
		}
	}
	n := 0
	for _, m := range w.needs[hash] {
		if models[m] {
			n++
		}
	}
	return n
}

func lane(t route.Tenant, priority int) [2]string {
	return [2]string{string(t), strconv.Itoa(priority)}
}

func (w *world) weight(t route.Tenant) float64 {
	if w.weights[t] > 0 {
		return w.weights[t]
	}
	return 1
}

func (w *world) put(t route.Ticket) {
	delete(w.tickets, t.Sequence)
	empty := true
	for _, k := range w.tickets {
		empty = empty && lane(k.Tenant, k.Priority) != lane(t.Tenant, t.Priority)
	}
	if empty {
		l := lane(t.Tenant, t.Priority)
		w.fresh[l] = true
		if t.Received.After(w.since[l]) {
			w.since[l] = t.Received
		}
	}
	w.tickets[t.Sequence] = t
}

func (w *world) charge(t route.Tenant, priority int, seconds float64) {
	l := lane(t, priority)
	w.used[l] += seconds
	w.runTimes[l] = append(w.runTimes[l], seconds)
}

// rank is what a lane has used and is using, per weight. The half-life does not matter: no time passes in a world.
func (w *world) rank(t route.Tenant, priority int) float64 {
	l := lane(t, priority)
	cost := 1.0
	if times := w.runTimes[l]; len(times) > 0 {
		cost = 0
		for i, v := range times {
			cost += (v - cost) / float64(min(i+1, 12))
		}
	}
	running := w.running(func(r route.Run) bool { return r.Tenant == t && r.Priority == priority })
	return (w.used[l] + cost*float64(running)) / w.weight(t)
}

// turn is the ticket that Next (host given) or Pick (host "") must name; false when none.
func (w *world) turn(host route.HostID, now time.Time) (route.Ticket, bool) {
	starts := maps.Clone(w.virtual)
	for _, t := range w.tickets {
		if !w.fresh[lane(t.Tenant, t.Priority)] {
			starts[t.Priority] = min(starts[t.Priority], w.rank(t.Tenant, t.Priority))
		}
	}
	for l := range w.fresh {
		w.used[l] = max(w.used[l], starts[int(l[1][0]-'0')]*w.weight(route.Tenant(l[0])))
	}
	clear(w.fresh)
	var list []route.Ticket
	for _, t := range w.tickets {
		list = append(list, t)
	}
	level := func(t route.Ticket) int {
		return min(9, t.Priority+int(now.Sub(w.since[lane(t.Tenant, t.Priority)])/route.AgeStep))
	}
	able := func(t route.Ticket) int {
		n := 0
		for id := range w.hosts {
			j := t.Want()
			if w.capable(id, t.Hash) && (len(j.Only) == 0 || w.stands(id, j.Only)) && !w.stands(id, j.Exclude) && !w.stands(id, w.exclude[t.Hash]) {
				n++
			}
		}
		return n
	}
	type place struct {
		level, able int
		rank        float64
	}
	places, ranks := map[uint64]*place{}, map[[2]string]float64{}
	for _, t := range list {
		l := lane(t.Tenant, t.Priority)
		rank, ranked := ranks[l]
		if !ranked {
			rank = w.rank(t.Tenant, t.Priority)
			ranks[l] = rank
		}
		places[t.Sequence] = &place{level(t), able(t), rank}
	}
	slices.SortFunc(list, func(a, b route.Ticket) int {
		p, q := places[a.Sequence], places[b.Sequence]
		return cmp.Or(cmp.Compare(q.level, p.level), cmp.Compare(p.rank, q.rank), cmp.Compare(p.able, q.able), cmp.Compare(a.Sequence, b.Sequence))
	})
	for _, t := range list {
		c := w.candidates(t.Want(), now)
		if host == "" && len(c) > 0 || host != "" && slices.Contains(c, host) {
			w.since[lane(t.Tenant, t.Priority)] = now
			w.virtual[t.Priority] = max(w.virtual[t.Priority], w.rank(t.Tenant, t.Priority))
			return t, true
		}
	}
	return route.Ticket{}, false
}

// pick is one of a list, or the zero value once in a while.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }
