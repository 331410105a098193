package dispatcher

import (
	"container/heap"
	"iter"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// pair is a host and a hash.
type pair struct {
	host string
	hash workflow.Hash
}

// key is the pair's key in COMFY_BLOCKS and COMFY_STRIKES.
func (p pair) key() string { return p.host + "." + string(p.hash) }

func (p pair) compare(q pair) int {
	if c := strings.Compare(p.host, q.host); c != 0 {
		return c
	}
	return strings.Compare(string(p.hash), string(q.hash))
}

// blocks holds which pairs are blocked, which have strikes, and which have just failed. All but the last are kept in the fleet,
// since there may be very many.
type blocks struct {
	fleet   *route.Fleet
	peers   *peers
	changes *changes
	alarms  *alarms

	incapable map[string]map[workflow.Hash]time.Time // by host: blocks because it lacks something, and since when
	halted    map[pair]bool                          // have a block in the fleet that is not in the bucket
}

func newBlocks(b blocks) *blocks {
	b.halted, b.incapable = map[pair]bool{}, map[string]map[workflow.Hash]time.Time{}
	return &b
}

// put takes in a block that was written at a time.
func (b *blocks) put(block *route.Block, at time.Time) {
	p := pair{string(block.Host), block.Hash}
	delete(b.halted, p)
	b.removeIncapable(p)
	if block.Kind.Verdict().Strike == failure.UntilCapable {
		if b.incapable[p.host] == nil {
			b.incapable[p.host] = map[workflow.Hash]time.Time{}
		}
		b.incapable[p.host][p.hash] = at
	}
	b.fleet.PutBlock(*block)
	b.changes.reasons = true
}

// remove takes in that a block has ended. A pair with strikes is on probation: one job may run there. So that not every
// dispatcher sends one, jobs are given to a host whose home is elsewhere only after the head start.
func (b *blocks) remove(p pair, now time.Time) {
	delete(b.halted, p)
	b.removeIncapable(p)
	b.fleet.RemoveBlock(route.HostID(p.host), p.hash)
	b.changes.reasons = true
	if b.peers.isHome(p.host) || !b.fleet.Struck(route.HostID(p.host), p.hash) {
		b.changes.jobs = true
		return
	}
	b.alarms.at(now.Add(b.peers.headStart()), func(time.Time) { b.changes.jobs = true })
}

// blocked reports whether the bucket has a block of a pair.
func (b *blocks) blocked(p pair) bool {
	return b.fleet.HasBlock(route.HostID(p.host), p.hash) && !b.halted[p]
}

// count is how many blocks are in the bucket.
func (b *blocks) count() int { return b.fleet.BlockCount() - len(b.halted) }

// each gives every pair that has a block in the bucket, until pause returns false.
func (b *blocks) each(pause func() bool) iter.Seq[pair] {
	return func(visit func(pair) bool) {
		for host, hash := range b.fleet.EachBlock(pause) {
			if p := (pair{string(host), hash}); !b.halted[p] && !visit(p) {
				return
			}
		}
	}
}

func (b *blocks) blockKeys(pause func() bool) iter.Seq[string] {
	return func(visit func(string) bool) {
		for p := range b.each(pause) {
			if !visit(p.key()) {
				return
			}
		}
	}
}

// putStrikes takes in strikes. Those without a block settle a failure that gave no block.
func (b *blocks) putStrikes(p pair, s *route.Strikes) {
	b.fleet.PutStrikes(route.HostID(p.host), p.hash, *s)
	if s.Open == nil {
		b.endHalt(p)
	}
	b.changes.jobs = true
}

func (b *blocks) removeStrikes(p pair) {
	b.fleet.RemoveStrikes(route.HostID(p.host), p.hash)
	b.changes.jobs = true
}

func (b *blocks) strikeKeys(pause func() bool) iter.Seq[string] {
	return func(visit func(string) bool) {
		for host, hash := range b.fleet.EachStruck(pause) {
			if p := (pair{string(host), hash}); !visit(p.key()) {
				return
			}
		}
	}
}

// haltTime is how long a pair that has just failed gets no job, unless its block says more.
const haltTime = time.Second

// halt blocks a pair until its failure is settled: its slot is free some milliseconds before the failed event has
// become a strike and perhaps a block, and no further job of the hash may go there meanwhile.
func (b *blocks) halt(host string, e *queue.EndedJob, now time.Time) {
	p := pair{host, e.Hash}
	block := route.Block{
		Host: route.HostID(host), Hash: e.Hash, Kind: e.Kind, Message: "a failure is being settled", Tenant: route.Tenant(e.Tenant),
		Tenants: []route.Tenant{route.Everyone}, Until: now.Add(haltTime),
	}
	switch e.Kind.Verdict().Strike {
	case failure.NoStrike, failure.Suspected:
		return
	case failure.PerTenant:
		block.Tenants = []route.Tenant{route.Tenant(e.Tenant)}
	case failure.UntilCapable:
	}
	if e.Kind == failure.OutOfMemory {
		block.Size = e.Size
	}
	if e.Kind == "" || b.blocked(p) {
		return
	}
	b.fleet.PutBlock(block)
	b.halted[p] = true
	b.alarms.at(now.Add(haltTime), func(now time.Time) {
		if newest, _ := b.fleet.Blocked(block.Host, block.Hash); !newest.Until.After(now) { // it was not halted again meanwhile
			b.endHalt(p)
		}
	})
}

// endHalt ends the halt of a pair: from now on only its strikes and blocks count. A pair that was blocked meanwhile is not halted.
func (b *blocks) endHalt(p pair) {
	if b.halted[p] {
		b.fleet.RemoveBlock(route.HostID(p.host), p.hash)
		b.changes.jobs = true
	}
	delete(b.halted, p)
}

func (b *blocks) removeIncapable(p pair) {
	delete(b.incapable[p.host], p.hash)
	if len(b.incapable[p.host]) == 0 {
		delete(b.incapable, p.host)
	}
}

// incapableBefore lists the hashes that were blocked on a host before a time, since it lacked something, or none when pause returns false.
func (b *blocks) incapableBefore(host string, at time.Time, pause func() bool) []workflow.Hash {
	var hashes []workflow.Hash
	for hash, since := range b.incapable[host] {
		if since.Before(at) {
			hashes = append(hashes, hash)
		}
		if !pause() {
			return nil
		}
	}
	return hashes
}

// haltsPerHost counts the blocks of the fleet that are not in the bucket, by host; there are seldom any.
func (b *blocks) haltsPerHost() map[string]int {
	n := map[string]int{}
	for p := range b.halted {
		n[p.host]++
	}
	return n
}

// blockedAfter gives the first pairs with a block that come after one, in no order, or a part of them when pause returns false.
func (b *blocks) blockedAfter(after pair, which pairs, most int, pause func() bool) []pair {
	return firstAfter(b.each(pause), after, which, most, pause)
}

// struckAfter gives in the same way pairs that have strikes and no block.
func (b *blocks) struckAfter(after pair, which pairs, most int, pause func() bool) []pair {
	return firstAfter(func(visit func(pair) bool) {
		for host, hash := range b.fleet.EachStruck(pause) {
			if p := (pair{string(host), hash}); !b.blocked(p) && !visit(p) {
				return
			}
		}
	}, after, which, most, pause)
}

func firstAfter(all iter.Seq[pair], after pair, which pairs, most int, pause func() bool) []pair {
	found := &firstPairs{most: most}
	for p := range all {
		if which.include(p.host, p.hash) && p.compare(after) > 0 {
			found.add(p)
		}
		if !pause() {
			break
		}
	}
	return found.list
}

// firstPairs keeps the first few of many pairs: a heap with the last of these few on top.
type firstPairs struct {
	most int
	list []pair
}

func (f *firstPairs) Len() int           { return len(f.list) }
func (f *firstPairs) Less(i, k int) bool { return f.list[i].compare(f.list[k]) > 0 }
func (f *firstPairs) Swap(i, k int)      { f.list[i], f.list[k] = f.list[k], f.list[i] }
func (f *firstPairs) Push(x any)         { f.list = append(f.list, x.(pair)) }
func (f *firstPairs) Pop() any           { return nil } // none is taken out

func (f *firstPairs) add(p pair) {
	switch {
	case len(f.list) < f.most:
		heap.Push(f, p)
	case p.compare(f.list[0]) < 0:
		f.list[0] = p
		heap.Fix(f, 0)
	}
}

// of gives the blocks of those of the pairs that have one.
func (b *blocks) of(which []pair) []queue.Block {
	list := make([]queue.Block, 0, len(which))
	for _, p := range which {
		if block, inForce := b.fleet.Blocked(route.HostID(p.host), p.hash); inForce {
			list = append(list, block)
		}
	}
	return list
}
