package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestAJobThatTheOnlyCapableHostRefusesIsDead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.can("a", "SaveImage", "EmptyImage1")
		s.can("b", "SaveImage")
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.Refused, message: "will not"}})
		s.runs("b", nil)
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued started failed dead:not_retryable")
	})
}

// With two attempts that may count, the first one ends with its host.
func TestAnAttemptThatEndedWithAHostThatIsBackDoesNotCountAtTheNextFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		back bool
		end  job.EventKind
	}{"ItIsBack": {true, job.Completed}, "ItIsGone": {false, job.Dead}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
				s.runs("a", map[job.ID]outcome{"x": {kind: failure.HostLost, message: "gone"}})
				s.submit("x", func(spec *job.Spec) { spec.MaxAttempts = 2 })
				s.pass(100 * time.Millisecond) // a has failed, and is avoided for a second
				if !c.back {
					s.vanish("a")
				}
				s.runs("b", map[job.ID]outcome{"x": {takes: 2 * time.Second, kind: failure.ExecutionError, message: "boom"}})
				s.pass(time.Second)
				s.runs("c", nil)
				s.pass(time.Minute)
				s.want("end of "+s.story("x"), s.lastOf("x").EventKind, c.end)
			})
		})
	}
}

func TestALostHostIsAStrike(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.HostLost, message: "gone"}})
		s.runs("b", nil)
		s.submit("x", prefers("a"))
		s.pass(10 * time.Second)
		s.want("chain", s.story("x"), "queued started failed retrying started completed")
		s.want("strikes", s.done("strike "), []string{"strike a"})
	})
}

// A strike that cannot be stored is stored when the failure is settled again, behind a loss as otherwise.
func TestAStrikeThatCouldNotBeStoredIsStoredLater(t *testing.T) {
	t.Parallel()
	broken := outcome{takes: 2 * time.Second, kind: failure.ExecutionError, message: "boom"}
	lost := outcome{kind: failure.HostLost, message: "gone"}
	for name, c := range map[string]struct {
		a, b    outcome
		effect  string
		strikes []string
	}{
		"OfAFailure":            {a: broken, effect: "strike a", strikes: []string{"strike a"}},
		"OfALoss":               {a: lost, effect: "strike a", strikes: []string{"strike a"}},
		"OfAFailureBehindALoss": {a: lost, b: broken, effect: "strike b", strikes: []string{"strike a", "strike b"}},
		"NothingFails":          {a: lost, b: broken, effect: "none", strikes: []string{"strike a", "strike b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
				s.runs("a", map[job.ID]outcome{"x": c.a})
				s.runs("b", map[job.ID]outcome{"x": c.b})
				s.failsOnceAt(c.effect, 1)
				s.submit("x", prefers("a"))
				s.pass(time.Second)
				s.runs("c", nil)
				s.pass(settleWait + 10*time.Second)
				s.want("end of "+s.story("x"), s.lastOf("x").EventKind, job.Completed)
				s.want("strikes", s.done("strike "), c.strikes)
			})
		})
	}
}

func TestASecondOpinionBehindALossIsNoStrike(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		broken := map[job.ID]outcome{"x": {takes: 2 * time.Second, kind: failure.ExecutionError, message: "boom"}}
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.HostLost, message: "gone"}})
		s.runs("b", broken)
		s.submit("x", prefers("a"))
		s.pass(time.Second)
		s.runs("c", broken)
		s.pass(10 * time.Second)
		s.want("reason", s.lastOf("x").Reason, failure.WorkflowFault)
		s.want("strikes", s.done("strike "), []string{"strike a", "strike b"})
	})
}

// Its strike is stored first, and then the proof with the strikes of the same host.
func TestAProofThatCouldNotBeStoredIsStoredLater(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: longBlocks})
		for _, host := range []string{"a", "b"} {
			s.runs(host, map[job.ID]outcome{"x": {takes: 100 * time.Millisecond, kind: failure.HostLost, message: "gone"}})
		}
		s.failsOnceAt("strike b", 2)
		s.submit("x", prefers("a"))
		s.awaitEvent("x", job.Dead)
		s.runs("c", nil)
		s.submit("y")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued started failed retrying started failed dead:takes_hosts_down")
		s.want("the next", s.lastOf("y").Reason, failure.TakesHostsDown)
	})
}
