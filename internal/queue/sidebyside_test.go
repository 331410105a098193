package queue_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestWhatHasOneKeyRunsInOrderAndTheRestSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := queue.NewSideBySide(3)
		gate, order := make(chan struct{}), make(chan string, 9)
		wait := func(name string) func() {
			return func() { <-gate; order <- name }
		}
		all.Run(t.Context(), "a", wait("a1"))
		all.Run(t.Context(), "a", wait("a2"))
		all.Run(t.Context(), "b", func() { order <- "b" })
		if first := <-order; first != "b" {
			t.Errorf("%s is over first", first)
		}
		all.Run(t.Context(), "c", wait("c"))
		var fourth atomic.Bool
		go func() { fourth.Store(all.Run(t.Context(), "d", wait("d"))) }()
		synctest.Wait()
		if fourth.Load() {
			t.Error("a fourth runs beside three")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if all.Run(ended, "e", wait("e")) {
			t.Error("one runs whose context has ended")
		}
		close(gate)
		synctest.Wait()
		all.Wait()
		close(order)
		names := slices.Collect(func(yield func(string) bool) {
			for name := range order {
				yield(name)
			}
		})
		if len(names) != 4 || slices.Index(names, "a1") > slices.Index(names, "a2") || !fourth.Load() {
			t.Errorf("they were over in the order %v", names)
		}
	})
}
