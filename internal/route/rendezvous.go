package route

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// score orders hosts for a hash: the highest score wins. Both seeds are xxhash64 values; the mixing is one
// 128-bit product, folded, so that scoring 10 000 hosts costs some microseconds.
func score(hash, host uint64) uint64 {
	hi, lo := bits.Mul64(hash^0x9e3779b97f4a7c15, host^hash)
	return hi ^ lo
}

// Home returns the dispatcher that matches host's free slots first: the one with the highest rendezvous score.
// The order of dispatchers does not matter; when one of n goes, only its own hosts move. It is "" without
// dispatchers.
func Home(dispatchers []string, host HostID) string {
	best, top := "", uint64(0)
	seed := xxhash.Sum64String(string(host))
	for _, d := range dispatchers {
		s := score(xxhash.Sum64String(d), seed)
		if best == "" || s > top || s == top && d < best {
			best, top = d, s
		}
	}
	return best
}

// Rank is how many dispatchers come before one in the order in which they are to deal with a thing of a name: 0 for the one
// that Home gives. The order of dispatchers does not matter, and the one itself need not be among them.
func Rank(dispatchers []string, own string, name HostID) int {
	seed := xxhash.Sum64String(string(name))
	mine, before := score(xxhash.Sum64String(own), seed), 0
	for _, d := range dispatchers {
		if s := score(xxhash.Sum64String(d), seed); s > mine || s == mine && d < own {
			before++
		}
	}
	return before
}

// leading is how many of a hash's best hosts are remembered.
const leading = 32

// leaders are the present hosts with the highest scores for a hash, the best first.
type leaders struct {
	list    []int32
	version uint64 // of the fleet that they were found in, plus one; 0 = never
}

// highest returns the member of c with the highest score; equal scores go by name. Among many hosts one of the
// hash's leaders is usually free, and finding it is a few look-ups; else every member is scored.
func (f *Fleet) highest(x *facts, c set) int32 {
	if c.count() > 4*leading {
		f.lead(x)
		for _, n := range x.leaders.list {
			if c.has(n) {
				return n
			}
		}
	}
	best, top := int32(-1), uint64(0)
	for k, w := range c {
		seeds := f.seeds[k<<6:]
		for ; w != 0; w &= w - 1 {
			at := bits.TrailingZeros64(w)
			n, s := int32(k<<6+at), score(x.seed, seeds[at])
			if best < 0 || s > top || s == top && f.hosts[n].id < f.hosts[best].id {
				best, top = n, s
			}
		}
	}
	return best
}

// lead brings a hash's leaders up to date with the hosts that are present.
func (f *Fleet) lead(x *facts) {
	if x.leaders.version == f.presence+1 {
		return
	}
	list := slices.Grow(x.leaders.list[:0], leading+1)
	bar := uint64(0) // score of the last, when the list is full
	for n, h := range f.hosts {
		if h == nil || !h.present || score(x.seed, f.seeds[n]) < bar {
			continue
		}
		at, _ := slices.BinarySearchFunc(list, int32(n), func(a, b int32) int { return f.compareScores(x, a, b) })
		list = slices.Insert(list, at, int32(n))
		if len(list) > leading {
			list = list[:leading]
			bar = score(x.seed, f.seeds[list[leading-1]])
		}
	}
	x.leaders = leaders{list, f.presence + 1}
}

// compareScores is negative when host a comes before host b for a hash.
func (f *Fleet) compareScores(x *facts, a, b int32) int {
	return cmp.Or(cmp.Compare(score(x.seed, f.seeds[b]), score(x.seed, f.seeds[a])), cmp.Compare(f.hosts[a].id, f.hosts[b].id))
}
