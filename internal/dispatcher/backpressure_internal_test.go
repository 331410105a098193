package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestTheHandHoldsWhatLeavesItWithinAFifthOfASecond(t *testing.T) {
	t.Parallel()
	p := newBackpressure()
	same(t, "at first", p.handMost(noonUTC), 64)
	for range 500 {
		p.placed(noonUTC)
	}
	same(t, "500 a second", []int{p.placedLately(noonUTC), p.handMost(noonUTC)}, []int{500, 100})
	same(t, "0.9 s later", p.placedLately(noonUTC.Add(900*time.Millisecond)), 500)
	same(t, "a second later", p.placedLately(noonUTC.Add(time.Second)), 0)
	for range 5000 {
		p.placed(noonUTC.Add(time.Second))
	}
	same(t, "at most", p.handMost(noonUTC.Add(time.Second)), 256)
}

func TestWhatThePullLoopsGetToKnow(t *testing.T) {
	t.Parallel()
	p := newBackpressure()
	p.peers(3)
	p.placed(noonUTC)
	p.update(7, 5, 63, noonUTC)
	l := &p.line
	same(t, "rate, holds, stuck", []any{l.rate.Load(), l.holds.Load(), l.stuck.Load()}, []any{int64(1), int64(64 + 5 + 3), false})
	p.update(7, 5, 64, noonUTC)
	same(t, "a full hand beside free slots", l.stuck.Load(), true)
	p.update(0, 5, 64, noonUTC)
	same(t, "a full hand beside none", l.stuck.Load(), false)
	p.mixed(true, noonUTC)
	same(t, "mixed", l.mixed.Load(), noonUTC.UnixNano())
	p.mixed(false, noonUTC)
	same(t, "not mixed", l.mixed.Load(), int64(0))
	p.pending(4, 9)
	same(t, "pending", []any{l.pending[4].Load(), l.some()}, []any{int64(9), true})
	p.jobRan(50 * time.Millisecond)
	same(t, "slow", l.slow.Load(), true)
	p.jobRan(time.Millisecond)
	same(t, "quick", l.slow.Load(), false)
}

func TestHowLongJobsRunIsTheMeanOfTheLastFewDozen(t *testing.T) {
	t.Parallel()
	r := runTimes{}
	r.observe(10 * time.Second)
	same(t, "one", r.mean, 10*time.Second)
	r.observe(20 * time.Second)
	same(t, "two", r.mean, 15*time.Second)
	for range 1000 {
		r.observe(time.Second)
	}
	if r.mean < time.Second || r.mean > time.Second+time.Millisecond {
		t.Errorf("after many of a second: %v", r.mean)
	}
	r.observe(33 * time.Second) // one of 32
	if r.mean < 2*time.Second || r.mean > 2*time.Second+time.Millisecond {
		t.Errorf("after a long one: %v", r.mean)
	}
}

func TestCreditWaitsForAMomentOrUntilADeliveryIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newBackpressure()
		same(t, "nothing under way", p.credit(t.Context(), job.Usual), 64)
		for range underWayMost {
			p.enter()
		}
		begun := time.Now()
		same(t, "all under way", []any{p.credit(t.Context(), job.Usual), time.Since(begun)}, []any{0, 25 * time.Millisecond})
		begun = time.Now()
		go func() {
			synctest.Wait() // until credit waits
			p.exit()
		}()
		same(t, "until one is over", []any{p.credit(t.Context(), job.Usual), time.Since(begun)}, []any{0, time.Duration(0)})
		same(t, "then", p.credit(t.Context(), job.Usual), 1)
	})
}

func TestATenantThatPublishesFarMoreHoldsNoLineForAMinute(t *testing.T) {
	t.Parallel()
	p := newBackpressure()
	p.peers(1)
	p.line.rate.Store(100)
	p.line.holds.Store(30)
	p.pending(job.Usual, 100)
	p.mixed(true, noonUTC)
	most := func(after time.Duration) int { return p.line.most(int(job.Usual), noonUTC.Add(after)) }
	same(t, "within the minute, and afterwards", []int{most(time.Minute - 1), most(time.Minute)}, []int{512, 30})
}

func TestEnoughIsInHandWhenAQuickFleetHasTwoPullsOfIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hand, rate int64
		stuck      bool
		enough     bool
	}{
		"enough":              {hand: 64, rate: 160, enough: true},
		"one job less":        {hand: 63, rate: 160},
		"a slower fleet":      {hand: 64, rate: 159},
		"slots that it lacks": {hand: 64, rate: 160, stuck: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l line
			l.hand[9].Store(c.hand - 1) // those of every priority count
			l.hand[0].Store(1)
			l.rate.Store(c.rate)
			l.stuck.Store(c.stuck)
			same(t, "enough", l.enoughInHand(), c.enough)
		})
	}
}
