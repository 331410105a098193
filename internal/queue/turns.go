package queue

import (
	"context"
	"sync"
)

// Turns lets what concerns one key happen one after the other, in the order in which it entered. The zero value is ready for
// use.
type Turns[K comparable] struct {
	mu   sync.Mutex // guards last, and over of each turn
	last map[K]*Turn
}

// Turn is the place of one that has entered. Few have another before or after them, so that most need no channel.
type Turn struct {
	Before <-chan struct{} // closed when the one before it has left; nil when there is none
	over   chan struct{}
}

// Enter queues mine behind the others of its key.
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

// Leave lets the next of the key go on.
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

// Pass runs do when it is its turn, and gives its error; ctx's when that ends before, and then the next may go on too early.
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
