package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestForHowLongTheLoopMayWaitForAMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(s *loopScene)
		want   time.Duration
	}{
		"nothing is to come": {func(*loopScene) {}, time.Minute},
		"an alarm is": {func(s *loopScene) {
			s.alarms.at(noonUTC.Add(7*time.Second), func(time.Time) {})
		}, 7 * time.Second},
		"an alarm is, later": {func(s *loopScene) {
			s.alarms.at(noonUTC.Add(time.Hour), func(time.Time) {})
		}, time.Minute},
		"an alarm is due":    {func(s *loopScene) { s.alarms.at(noonUTC.Add(-time.Second), func(time.Time) {}) }, 0},
		"a slot is to match": {func(s *loopScene) { s.changes.host("a") }, 0},
		"the same, but it stops": {func(s *loopScene) {
			s.changes.host("a")
			s.closing = true
		}, time.Minute},
		"the same, but not all is known": {func(s *loopScene) {
			s.changes.host("a")
			s.synced = make(chan struct{})
		}, time.Minute},
		"work is left": {func(s *loopScene) { s.background.begin("x", func(func() bool) {}) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopScene(t, Config{})
			c.before(s)
			same(t, "wait", s.untilWork(noonUTC), c.want)
		})
	}
}

func TestTheLoopWakesWhenAJobBecomesDue(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.step(noonUTC)
	_, some := s.alarms.next()
	same(t, "when no job waits", some, false)
	o := ownedJob(t, "acme", 1, 1)
	o.notBefore = noonUTC.Add(10 * time.Second)
	s.await(o)
	s.hear(1, "a")
	for range 2 {
		s.step(noonUTC)
		at, _ := s.alarms.next()
		_, claimed := s.tickets.beingClaimed(1)
		same(t, "when one does", []any{at, len(s.alarms.list), claimed}, []any{o.notBefore, 1, false})
	}
	s.changes.jobs = false
	s.step(o.notBefore)
	_, claimed := s.tickets.beingClaimed(1)
	same(t, "claimed when it is due", claimed, true)
}

func TestAJobThatIsDueWithoutAHostDoesNotKeepTheLoopAwake(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	o := ownedJob(t, "acme", 1, 1)
	o.notBefore = noonUTC
	s.await(o)
	for n := range 3 {
		now := noonUTC.Add(time.Duration(n) * time.Second)
		s.step(now)
		if at, some := s.alarms.next(); some && at.Before(now.Add(time.Millisecond)) {
			t.Errorf("it wakes %v after it has looked", at.Sub(now))
		}
		s.alarms.ring(now)
	}
}

// What is decided before all is known might be given twice.
func TestNothingIsGivenBeforeAllThatStandsIsKnown(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.synced = make(chan struct{})
	s.await(ownedJob(t, "acme", 1, 1, func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Minute) }))
	s.hear(1, "a")
	s.step(noonUTC.Add(time.Hour))
	same(t, "walks", s.walks, 0)
	close(s.synced)
	s.step(noonUTC.Add(time.Hour))
	same(t, "when it is", s.walks, 1)
}

func TestTheLoopsTimeDoesNotGoBack(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	future := time.Now().Add(time.Hour)
	s.last = future
	same(t, "when NATS says an earlier time", s.now(), future)
	s.last = noonUTC
	if now := s.now(); time.Since(now) > time.Minute {
		t.Errorf("it is %v", now)
	}
}

func TestATurnTakesInWhatHasHappenedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	var taken []int
	for n := range 70 {
		s.tell(func(time.Time) { taken = append(taken, n) })
	}
	s.hurry(true)
	same(t, "when it has taken long", []any{s.takeMore(noonUTC), len(taken)}, []any{noonUTC, 0})
	s.hurry(false)
	now := s.takeMore(noonUTC)
	same(t, "otherwise", []any{len(taken), taken[63], now}, []any{64, 63, s.last})
	s.takeMore(noonUTC)
	same(t, "in the next turn", len(taken), 70)
}

func TestATurnThatHasTakenLongCallsOneAlarm(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	rung := 0
	for range 3 {
		s.alarms.at(noonUTC, func(time.Time) { rung++ })
	}
	s.hurry(true)
	s.ring(noonUTC)
	same(t, "one at a time", rung, 1)
	s.hurry(false)
	s.ring(noonUTC)
	same(t, "all", rung, 3)
}

// A walk counts as a delivery under way, so that no more jobs are pulled than can be worked on.
func TestAWalkCountsAsUnderWayUntilItEnds(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	goOn := make(chan struct{})
	s.walksUnder(context.Background())(func(context.Context) { <-goOn })
	same(t, "under way", s.pressure.underWay.Load(), int64(1))
	close(goOn)
	s.d.walks.Wait()
	same(t, "afterwards", s.pressure.underWay.Load(), int64(0))
}

func TestThePullLoopsGetToKnowHowManyJobsAreWanted(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a", "b", "c")
	s.step(noonUTC)
	same(t, "jobs in hand and for three slots", s.pressure.line.holds.Load(), int64(handLeast+3))
	same(t, "pause while few wait", s.d.limit.intake.Load(), int64(0))
	for n := range enoughWaiting {
		o := ownedJob(t, "acme", uint64(n+1), 1, func(spec *job.Spec) { spec.OnlyHosts = []string{"none"} })
		s.await(o)
	}
	s.step(noonUTC)
	same(t, "pause while enough wait", time.Duration(s.d.limit.intake.Load()), idlePause)
	same(t, "tickets", s.depth.Load(), int64(enoughWaiting))
	for n, host := range []string{"a", "b", "c"} {
		s.fleet.Occupy(route.HostID(host), route.Run{Tenant: "acme", Job: route.JobID(fmt.Sprint("run-", n)), Since: noonUTC})
	}
	s.step(noonUTC)
	same(t, "pause while no slot is free", time.Duration(s.d.limit.intake.Load()), fullPause)
}
