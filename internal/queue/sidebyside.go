package queue

import (
	"context"
	"sync"
)

// sideBySide runs functions on goroutines of their own, at most so many at a time. Functions of one key run one after the other, in
// the order of the calls of run.
type sideBySide struct {
	places chan struct{} // has a value for each function that runs or waits for another of its key
	all    sync.WaitGroup
	turns  Turns[string]
}

func newSideBySide(most int) *sideBySide {
	return &sideBySide{places: make(chan struct{}, most)}
}

// run waits for a place and then starts do on a goroutine, without waiting for its end; false when ctx has ended before there was a
// place.
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

// wait returns when all functions have returned.
func (s *sideBySide) wait() { s.all.Wait() }
