package queue

import (
	"context"
	"sync"
)

// sideBySide runs things on goroutines of their own, at most so many at a time. Those of one key run one after the other, in the
// order in which they came.
type sideBySide struct {
	places chan struct{} // has one for each that runs or waits for another of its key
	all    sync.WaitGroup

	mu   sync.Mutex               // guards last
	last map[string]chan struct{} // by key: closed when the newest of it is over
}

func newSideBySide(most int) *sideBySide {
	return &sideBySide{places: make(chan struct{}, most), last: map[string]chan struct{}{}}
}

// run has do run, and returns when there is a place for it; false when ctx has ended before.
func (s *sideBySide) run(ctx context.Context, key string, do func()) bool {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	over := make(chan struct{})
	s.mu.Lock()
	before := s.last[key]
	s.last[key] = over
	s.mu.Unlock()
	s.all.Go(func() {
		defer func() { <-s.places }()
		defer s.end(key, over)
		if before != nil {
			<-before
		}
		do()
	})
	return true
}

func (s *sideBySide) end(key string, over chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(over)
	if s.last[key] == over {
		delete(s.last, key)
	}
}

// wait returns when all are over.
func (s *sideBySide) wait() { s.all.Wait() }
