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
