package dispatcher

import (
	"context"
	"sync"
)

// gate lets watches run while it is open.
type gate struct {
	mu      sync.Mutex // guards the two below
	isOpen  bool
	changed chan struct{} // closed when that changes
}

func newGate() *gate { return &gate{isOpen: true, changed: make(chan struct{})} }

func (g *gate) open()  { g.set(true) }
func (g *gate) close() { g.set(false) }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen != open {
		g.isOpen = open
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

func (g *gate) state() (open bool, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.isOpen, g.changed
}

// whileOpen runs a watch anew each time that the gate opens, and ends it when the gate closes, until ctx ends.
func (g *gate) whileOpen(ctx context.Context, watch func(context.Context) error) error {
	for ctx.Err() == nil {
		open, changed := g.state()
		if !open {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		inner, cancel := context.WithCancel(ctx)
		var closing sync.WaitGroup
		closing.Go(func() {
			select {
			case <-changed:
			case <-inner.Done():
			}
			cancel()
		})
		err := watch(inner)
		cancel()
		closing.Wait()
		select {
		case <-changed:
		default:
			return err
		}
	}
	return ctx.Err()
}
