package dispatcher

import (
	"context"
	"sync"
)

// pairTurns lets walks that write about one pair of host and workflow do so one after the other. Many failures are settled
// side by side, and those of one pair would mostly find that another has written meanwhile, and begin again.
type pairTurns struct {
	mu   sync.Mutex             // guards last
	last map[pair]chan struct{} // by pair: closed when the newest of its walks is over
}

func newPairTurns() *pairTurns { return &pairTurns{last: map[pair]chan struct{}{}} }

// pass has do run when it is its turn, unless ctx ends before.
func (t *pairTurns) pass(ctx context.Context, p pair, do func() error) error {
	over := make(chan struct{})
	t.mu.Lock()
	before := t.last[p]
	t.last[p] = over
	t.mu.Unlock()
	defer t.end(p, over)
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return do()
}

// end lets the next one pass. After ctx has ended that may be too early, which costs it a second try.
func (t *pairTurns) end(p pair, over chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last[p] == over {
		delete(t.last, p)
	}
	close(over)
}
