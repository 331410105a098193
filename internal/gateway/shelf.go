package gateway

import (
	"context"
	"sync"
	"time"
)

// shelf keeps what takes long to make, at most so many bytes: when they are more, all is forgotten. What many ask for at the same time is
// made once.
type shelf[V any] struct {
	most       int             // bytes
	goroutines *sync.WaitGroup // that make something

	mu    sync.Mutex // guards all below
	kept  map[string]shelved[V]
	bytes int
	under map[string]*making[V]
}

// shelved is a value with its size. It is used until a time; the zero time is never, and a size of 0 means that it is not kept.
type shelved[V any] struct {
	value V
	size  int
	until time.Time
}

// making is a value that is being made; value and err stand when done is closed.
type making[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newShelf[V any](most int, goroutines *sync.WaitGroup) *shelf[V] {
	return &shelf[V]{most: most, goroutines: goroutines, kept: map[string]shelved[V]{}, under: map[string]*making[V]{}}
}

// makeTime bounds making a value, which goes on when whoever asked has gone.
const makeTime = time.Minute

// get gives the value of a key, which produce makes when it is not kept. An error is given to all who have waited, and not kept.
func (s *shelf[V]) get(ctx context.Context, key string, produce func(context.Context) (shelved[V], error)) (V, error) {
	s.mu.Lock()
	if found, there := s.kept[key]; there && (found.until.IsZero() || time.Now().Before(found.until)) {
		s.mu.Unlock()
		return found.value, nil
	}
	m := s.under[key]
	if m == nil {
		m = &making[V]{done: make(chan struct{})}
		s.under[key] = m
		s.goroutines.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTime)
			defer cancel()
			made, err := produce(ctx)
			m.value, m.err = made.value, err
			s.put(key, made, err == nil)
			close(m.done)
		})
	}
	s.mu.Unlock()
	select {
	case <-m.done:
		return m.value, m.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

func (s *shelf[V]) put(key string, made shelved[V], keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.under, key)
	s.bytes -= s.kept[key].size
	delete(s.kept, key)
	if !keep || made.size == 0 || made.size > s.most {
		return
	}
	if s.bytes+made.size > s.most {
		clear(s.kept)
		s.bytes = 0
	}
	s.kept[key] = made
	s.bytes += made.size
}
