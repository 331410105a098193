package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// surveys keeps the newest survey of the fleet for calls and metrics, however many of them there are. It is made when one is
// wanted, in slices between the turns of the loop, and again when it is a second old, or when it took long, a part of the time
// that it took.
type surveys struct {
	making chan struct{} // holds one while it is made
	last   *survey       // only the call that has put a value into making touches it
}

// survey is a survey with what follows from it.
type survey struct {
	*route.Survey
	made  time.Time // by the local clock
	took  time.Duration
	order func() []route.Placed
}

const (
	surveyAge   = time.Second
	surveyTimes = 20 // a survey is used for so many times as long as it took
)

func newSurveys() surveys { return surveys{making: make(chan struct{}, 1)} }

// survey gives one that is fresh enough.
func (d *Dispatcher) survey(ctx context.Context) (*survey, error) {
	s := &d.answers.surveys
	select {
	case s.making <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.making }()
	if s.last != nil && time.Since(s.last.made) < max(surveyAge, surveyTimes*s.last.took) {
		return s.last, nil
	}
	fresh := &survey{made: time.Now()}
	now := d.clock()
	if err := d.answerInSlices(ctx, func(pause func() bool) {
		fresh.Survey = d.loop.room.Survey(d.loop.fleet, d.cfg.Pools, now, pause)
	}); err != nil {
		return nil, err
	}
	fresh.took = time.Since(fresh.made)
	fresh.order = sync.OnceValue(fresh.Order)
	s.last = fresh
	return fresh, nil
}

// storeCounts is how full the streams are, read again after some time.
type storeCounts struct {
	mu   sync.Mutex // guards all below; held while they are read
	list []queue.StoreCounts
	read time.Time
}

const storesAge = 10 * time.Second

func (s *storeCounts) get(ctx context.Context, read func(context.Context) ([]queue.StoreCounts, error)) ([]queue.StoreCounts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil && time.Since(s.read) < storesAge {
		return s.list, nil
	}
	list, err := read(ctx)
	if err != nil {
		return nil, err
	}
	s.list, s.read = list, time.Now()
	return list, nil
}
