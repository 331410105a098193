package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// lacking has blocks stand on a host for what it lacked.
func (s *loopScene) lacking(t *testing.T, host string, n int, at time.Time) {
	t.Helper()
	for k := range n {
		s.blocks.put(blockFor(host, hashOfGraph(t, k), failure.Incapable), at)
	}
}

func TestTheBlocksOfAHostThatHasWhatItLackedAreLifted(t *testing.T) {
	t.Parallel()
	for n, beside := range map[int]bool{1: false, liftAtOnce: false, liftAtOnce + 1: true} {
		s := newLoopScene(t, Config{})
		s.lacking(t, "a", n, noonUTC)
		s.capabilityChanged("a", workflow.Capability{}, noonUTC)
		s.background.stop()
		same(t, "lifts by what was stored with the block", s.walks, 0)
		s.capabilityChanged("a", workflow.Capability{}, noonUTC.Add(1))
		same(t, "very many are compared in slices", s.background.left(), beside)
		for s.background.left() {
			s.background.advance()
		}
		same(t, "lifts", s.walks, 1)
	}
}

func TestOnlyTheHomeOfAHostLiftsItsBlocks(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.peers.put("other", noonUTC)
	home, away := nameAtHome("gpu-%d"), nameAwayFromHome("gpu-%d")
	for _, host := range []string{home, away} {
		s.lacking(t, host, 1, noonUTC)
	}
	s.capabilityChanged(away, workflow.Capability{}, noonUTC.Add(1))
	same(t, "of a host at home elsewhere", s.walks, 0)
	s.capable.put(home, workflow.Capability{}, noonUTC.Add(1)) // the lift that followed has failed
	lifts := func() int {
		s.walks = 0
		s.liftAllOutdated(noonUTC)
		for s.background.left() {
			s.background.advance()
		}
		return s.walks
	}
	same(t, "of those that are left", lifts(), 1)
	s.peers.remove("other") // it has died before it lifted any
	same(t, "of a dead dispatcher's", lifts(), 2)
	s.synced = make(chan struct{})
	same(t, "before all is known", lifts(), 0)
}

func TestACapabilityThatChangesHasJobsLookedAtAnew(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for what, change := range map[string]func(){
		"a new one": func() { s.capable.put("a", workflow.Capability{}, noonUTC) }, "its end": func() { s.capable.remove("a") },
	} {
		s.changes.jobs, s.changes.reasons = false, false
		change()
		same(t, what, []bool{s.changes.jobs, s.changes.reasons}, []bool{true, true})
	}
	s.capable.put("b", workflow.Capability{}, noonUTC)
	s.capable.remove("b")
	s.capable.remove("a")
	same(t, "known", s.capable.keys(), []string(nil))
}
