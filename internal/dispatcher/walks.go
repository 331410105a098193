package dispatcher

import "sync"

// walks are goroutines that are waited for. Unlike with a sync.WaitGroup, one may begin while the end of the others is
// waited for: a dispatcher that drains still settles failures. It is ready for use when it comes from newWalks.
type walks struct {
	mu      sync.Mutex // guards running
	running int
	none    sync.Cond // running is 0
}

func newWalks() *walks {
	w := &walks{}
	w.none.L = &w.mu
	return w
}

// Go runs f on a goroutine of its own.
func (w *walks) Go(f func()) {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	go func() {
		defer w.end()
		f()
	}()
}

func (w *walks) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running--; w.running == 0 {
		w.none.Broadcast()
	}
}

// Wait returns at a moment when none runs.
func (w *walks) Wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.running > 0 {
		w.none.Wait()
	}
}
