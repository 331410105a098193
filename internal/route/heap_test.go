package route_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestAHeapGivesBackWhatIsLeftInOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 13))
		h, left := route.NewHeap(), []int{}
		for range r.IntN(40) {
			n := r.IntN(20)
			h.Push(n)
			left = append(left, n)
			if r.IntN(3) == 0 {
				gone := left[r.IntN(len(left))]
				h.Remove(gone)
				left = slices.Delete(left, slices.Index(left, gone), slices.Index(left, gone)+1)
			}
		}
		slices.Sort(left)
		for _, want := range left {
			if got := h.Pop(); got != want {
				t.Fatalf("seed %d: %d comes before %d", seed, got, want)
			}
		}
		if h.Len() != 0 {
			t.Fatalf("seed %d: %d are left", seed, h.Len())
		}
	}
}
