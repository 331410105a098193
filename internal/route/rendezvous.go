package route

import (
	"math/bits"

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
