package route_test

import (
	"math/rand/v2"
	"testing"

	"github.com/comfyherd/comfyherd/internal/route"
)

// Sequences come in order, as from a stream, or in none; some go again, and in the end all do.
func TestRanksAgreeWithCounting(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		r, random := route.Ranks{}, rand.New(rand.NewPCG(seed, 1))
		there := map[uint64]bool{}
		compare := func(sequence uint64) {
			want := 0
			for s := range there {
				if s < sequence {
					want++
				}
			}
			if got := r.Below(sequence); got != want {
				t.Fatalf("seed %d, %d sequences: %d are below %d, not %d", seed, len(there), got, sequence, want)
			}
		}
		for n := range uint64(3000) {
			sequence := 10 * n
			if seed%2 == 1 {
				sequence = random.Uint64N(20_000)
			}
			if !there[sequence] {
				there[sequence] = true
				r.Add(sequence)
			}
			if n%50 == 0 {
				compare(random.Uint64N(32_000))
			}
		}
		for s := range there {
			delete(there, s)
			r.Remove(s)
			if len(there)%100 == 0 {
				compare(random.Uint64N(32_000))
			}
		}
		compare(1 << 40)
	}
}
