package queue

import (
	"context"
	"sync"
)

// Turns lets callers that enter with the same key go on one after the other, in the order in which they entered. The zero value is
// ready for use.
type Turns[K comparable] struct {
	mu   sync.Mutex // guards last, and over of each turn
	last map[K]*Turn
}

// Turn is the place of a caller that has entered. Most callers have no other before or after them, and then no channel is made.
type Turn struct {
	Before <-chan struct{} // closed when the caller before this one has left; nil when there is none
	over   chan struct{}
}

// Enter queues mine after the others of its key.
func (t *Turns[K]) Enter(key K, mine *Turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[K]*Turn{}
	}
	if before := t.last[key]; before != nil {
		before.over = make(chan struct{})
		mine.Before = before.over
	}
	t.last[key] = mine
}

// Leave lets the next caller with this key go on.
func (t *Turns[K]) Leave(key K, mine *Turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.over != nil {
		close(mine.over)
	}
	if t.last[key] == mine {
		delete(t.last, key)
	}
}

// Pass waits for its turn, runs do and gives its error. When ctx ends before its turn, it gives the error of ctx without running
// do; the caller after it may then go on while one before it still runs.
func (t *Turns[K]) Pass(ctx context.Context, key K, do func() error) error {
	var mine Turn
	t.Enter(key, &mine)
	defer t.Leave(key, &mine)
	if mine.Before != nil {
		select {
		case <-mine.Before:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return do()
}
