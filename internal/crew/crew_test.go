package crew_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/crew"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEverythingRunsAtOnce(t *testing.T) {
	t.Parallel()
	c := crew.Muster()
	defer c.Close()
	const n = 1000 // more than may rest
	for range 3 {
		var together, done sync.WaitGroup
		together.Add(n)
		done.Add(n)
		for range n {
			c.Go(func() {
				defer done.Done()
				together.Done()
				together.Wait() // for all others, which therefore run beside this one
			})
		}
		done.Wait()
	}
}

func TestWaitAndCloseWaitForWhatRuns(t *testing.T) {
	t.Parallel()
	c := crew.Muster()
	release := make(chan struct{})
	var ran atomic.Int64
	for range 10 {
		c.Go(func() {
			<-release
			ran.Add(1)
		})
	}
	go close(release)
	c.Wait()
	if ran.Load() != 10 {
		t.Errorf("%d of 10 had returned when Wait did", ran.Load())
	}
	c.Go(func() { ran.Add(1) })
	c.Close()
	c.Close() // again changes nothing
	if ran.Load() != 11 {
		t.Errorf("%d of 11 had returned when Close did", ran.Load())
	}
}

// The race detector reports a crew that counts what runs in a sync.WaitGroup.
func TestGoMayBeCalledBesideWait(t *testing.T) {
	t.Parallel()
	c := crew.Muster()
	defer c.Close()
	var ran atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 1000 {
				c.Go(func() { ran.Add(1) })
			}
		})
		callers.Go(func() {
			for range 1000 {
				c.Wait()
			}
		})
	}
	callers.Wait()
	c.Wait()
	if ran.Load() != 4000 {
		t.Errorf("%d of 4000 had returned when Wait did", ran.Load())
	}
}

func BenchmarkGo(b *testing.B) {
	c := crew.Muster()
	defer c.Close()
	var done sync.WaitGroup
	for b.Loop() {
		done.Add(1)
		c.Go(done.Done)
		done.Wait()
	}
}
