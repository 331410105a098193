package gateway

import (
	"context"
	"sync"
	"time"
)

// cache keeps what takes long to make, at most so many bytes: when they are more, all is forgotten. What many ask for at the same time is
// made once.
type cache[V any] struct {
	most       int             // bytes
	goroutines *sync.WaitGroup // that make something

	mu     sync.Mutex // guards all below
	kept   map[string]cached[V]
	bytes  int
	making map[string]*making[V]
}

// cached is a value with its size. It is used until a time; the zero time is never, and a size of 0 means that it is not kept.
type cached[V any] struct {
	value V
	size  int
	until time.Time
}

// making is a value that is being made; value and err are set when done is closed.
type making[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newCache[V any](most int, goroutines *sync.WaitGroup) *cache[V] {
	return &cache[V]{most: most, goroutines: goroutines, kept: map[string]cached[V]{}, making: map[string]*making[V]{}}
}

// makeTime bounds making a value, which goes on when whoever asked has gone.
const makeTime = time.Minute

// get gives the value of a key, which produce makes when it is not kept. An error is given to all who have waited, and not kept.
func (s *cache[V]) get(ctx context.Context, key string, produce func(context.Context) (cached[V], error)) (V, error) {
	s.mu.Lock()
	if found, there := s.kept[key]; there && (found.until.IsZero() || time.Now().Before(found.until)) {
		s.mu.Unlock()
		return found.value, nil
	}
	m := s.making[key]
	if m == nil {
		m = &making[V]{done: make(chan struct{})}
		s.making[key] = m
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

func (s *cache[V]) put(key string, made cached[V], keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, key)
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
