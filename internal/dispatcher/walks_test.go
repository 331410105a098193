package dispatcher_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
)

func TestWalksAreWaitedFor(t *testing.T) {
	t.Parallel()
	w := dispatcher.NewWalks()
	w.Wait() // for none
	release := make(chan struct{})
	var ended atomic.Int64
	for range 10 {
		w.Go(func() {
			<-release
			ended.Add(1)
		})
	}
	go close(release)
	w.Wait()
	if ended.Load() != 10 {
		t.Errorf("%d of 10 had ended when Wait returned", ended.Load())
	}
}

// The race detector reports walks that are counted by a sync.WaitGroup.
func TestWalksMayBeginBesideAWait(t *testing.T) {
	t.Parallel()
	w := dispatcher.NewWalks()
	var ended atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 1000 {
				w.Go(func() { ended.Add(1) })
			}
		})
		callers.Go(func() {
			for range 1000 {
				w.Wait()
			}
		})
	}
	callers.Wait()
	w.Wait()
	if ended.Load() != 4000 {
		t.Errorf("%d of 4000 had ended when Wait returned", ended.Load())
	}
}
