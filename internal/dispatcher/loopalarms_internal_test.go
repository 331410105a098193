package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// stoppedWire is a parkingWire whose clock stands.
type stoppedWire struct{ *parkingWire }

func (stoppedWire) Now() time.Time { return noonUTC }

func TestHowOftenTheLoopLooksForWhatNoChangeReports(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.d.q = stoppedWire{s.wire}
	s.setAlarms()
	var pauses []time.Duration
	for _, a := range s.alarms.list {
		pauses = append(pauses, a.at.Sub(noonUTC))
	}
	slices.Sort(pauses)
	same(t, "pauses", pauses, []time.Duration{
		25 * time.Millisecond, 100 * time.Millisecond, time.Second, time.Second, time.Second, time.Second, time.Second, 15 * time.Second, 15 * time.Second,
	})
}

// What is looked for by what stands waits until that is known; a dispatcher that stops calls no job back.
func TestWhatTheLoopLooksForWhatNoChangeReports(t *testing.T) {
	t.Parallel()
	type looks struct {
		Parked, Slots, Sources, Removed, CalledBack bool
	}
	for name, c := range map[string]struct {
		before func(s *loopScene)
		want   looks
	}{
		"usually":             {func(*loopScene) {}, looks{true, true, true, true, true}},
		"before all is known": {func(s *loopScene) { s.synced = make(chan struct{}) }, looks{Parked: true, Slots: true}},
		"while it stops":      {func(s *loopScene) { s.closing = true }, looks{true, true, true, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopScene(t, Config{})
			s.d.q = stoppedWire{s.wire}
			var got looks
			s.news.closed = true // as in a large fleet, which this is not
			s.removed.count = func() { got.Removed = true }
			s.hear(1, "a")
			s.await(ownedJob(t, "acme", 1, 1))
			waits := ownedJob(t, "acme", 2, 1)
			s.hand.add(waits, noonUTC)
			rests := ownedJob(t, "bolt", 3, 1)
			s.ticketing.add(&restingJob{lane: rests.lane(), id: rests.job.ID, sequence: 3, due: true, until: noonUTC.Add(time.Hour)})
			c.before(s)
			s.setAlarms()
			s.alarms.ring(noonUTC.Add(200 * time.Millisecond))
			got.CalledBack = len(s.ticketing.called) > 0
			s.alarms.ring(noonUTC.Add(15 * time.Second))
			got.Sources = !s.news.closed
			got.Parked, got.Slots = !s.hand.has(2), slices.ContainsFunc(s.background.list, func(w *namedWork) bool { return w.name == "slots" })
			s.background.stop()
			same(t, "looks", got, c.want)
		})
	}
}

// lackingAll has a host run one class that no workflow of the tests has.
func (s *loopScene) lackingAll(host string) {
	var knows workflow.CapabilityBuilder
	knows.AddClass("Other")
	s.capable.put(host, workflow.NewCapability(&knows), noonUTC)
}

func TestAJobThatIsPlacedGetsNoHostThatLacksWhatItNeeds(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	s.lackingAll("a")
	o := ownedJob(t, "acme", 1, 1)
	spot := s.placeNow(o, noonUTC)
	same(t, "host", spot.host, "")
	same(t, "why", spot.hold != nil && spot.hold.Reason == route.NoneCapable, true)
	same(t, "its requirements are known", s.fleet.Known(o.job.Graph.Hash()), true)
}

func TestWhyIsToldOfAWorkflowThatWasNotSeenBefore(t *testing.T) {
	t.Parallel()
	o := ownedJob(t, "acme", 1, 1)
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	s.lackingAll("a")
	same(t, "reason", s.why(o, ofOperator, noonUTC).Reason, route.NoneCapable)
	s = newLoopScene(t, Config{})
	s.hear(1, "a")
	s.lackingAll("a")
	verdicts := s.verdicts(o, whyHosts{to: ofOperator, most: 9}, noonUTC)
	same(t, "of the host", []any{len(verdicts), verdicts[0].Code != route.Eligible}, []any{1, true})
}
