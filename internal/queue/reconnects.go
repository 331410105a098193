package queue

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// Reconnected is a channel that is closed at the next reconnect. Live messages (Follow*, Broadcast) from before it may be lost, so a
// program that needs them must read the stored state again.
func (q *Queue) Reconnected() <-chan struct{} { return q.reconnects.current() }

// generation ends contexts at every reconnect, so that watchers and pull requests are begun again: otherwise it takes seconds until
// they fail, since the server no longer has them.
type generation struct {
	mu      sync.Mutex // guards the two below
	ended   chan struct{}
	stopped bool
	quit    func()
	over    chan struct{} // closed when the connection is closed
	done    sync.WaitGroup
}

func (g *generation) watch(nc *nats.Conn) {
	g.ended, g.over = make(chan struct{}), make(chan struct{})
	changes := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	g.quit = func() { nc.RemoveStatusListener(changes) }
	g.done.Go(func() {
		defer close(g.over)
		for status := range changes {
			if status == nats.CLOSED {
				return
			}
			g.next()
		}
	})
}

func (g *generation) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.ended)
	g.ended = make(chan struct{})
}

// current is closed at the next reconnect.
func (g *generation) current() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

func (g *generation) stop() {
	g.mu.Lock()
	already := g.stopped
	g.stopped = true
	g.mu.Unlock()
	if !already {
		g.quit()
		g.done.Wait()
	}
}

// bound gives a context that ends with ctx or at the next reconnect.
func (g *generation) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ended := g.current()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
