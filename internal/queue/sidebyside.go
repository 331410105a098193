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
	turns  Turns[string]
}

func newSideBySide(most int) *sideBySide {
	return &sideBySide{places: make(chan struct{}, most)}
}

// run has do run, and returns when there is a place for it; false when ctx has ended before.
func (s *sideBySide) run(ctx context.Context, key string, do func()) bool {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	var mine Turn
	s.turns.Enter(key, &mine)
	s.all.Go(func() {
		defer func() { <-s.places }()
		defer s.turns.Leave(key, &mine)
		if mine.Before != nil {
			<-mine.Before
		}
		do()
	})
	return true
}

// wait returns when all are over.
func (s *sideBySide) wait() { s.all.Wait() }
