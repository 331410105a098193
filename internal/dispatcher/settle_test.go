package dispatcher_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// TestAFirstFailureIsSettledWithoutItsChainAndWithoutStrikes counts what is read of two jobs that fail on the same host.
func TestAFirstFailureIsSettledWithoutItsChainAndWithoutStrikes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.ExecutionError, message: "boom"}, "y": {kind: failure.ExecutionError, message: "boom"}})
		s.runs("b", nil)
		for _, id := range []job.ID{"x", "y"} {
			s.submit(id, prefers("a"))
			s.pass(10 * time.Second)
			s.want("story of "+string(id), s.story(id), "queued started failed retrying started completed")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		first := slices.Index(s.effects, "strike a")
		s.want("the chain was read before", slices.Contains(s.effects[:first], "chain x"), false)
		about := slices.DeleteFunc(slices.Clone(s.effects), func(e string) bool {
			return !strings.HasPrefix(e, "first ") && !strings.HasSuffix(e, "strike a") && !strings.HasSuffix(e, "strikes a")
		})
		s.want("effects", strings.Join(about, ", "), "first x, strike a, first y, look for strikes a, strike a")
	})
}

// TestAFailureThatIsSettledAgainReadsItsChain has a dispatcher die after it has settled a failure, and before that is acked.
func TestAFailureThatIsSettledAgainReadsItsChain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		died := false
		s.start(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}}, func(effect string) error {
			if effect != "settled x" || died {
				return nil
			}
			died = true
			return errDies
		})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.ExecutionError, message: "boom"}})
		s.runs("b", map[job.ID]outcome{"x": {takes: time.Minute}})
		s.submit("x", prefers("a"))
		s.pass(time.Second)
		s.dispatcher(dispatcher.Config{Name: "second", Policy: route.Policy{MaxFailures: 9}})
		s.pass(30 * time.Second)
		s.want("jobs while it runs again", s.left(), 1)
		s.pass(90 * time.Second)
		s.want("story", s.story("x"), "queued started failed retrying started completed")
		s.mu.Lock()
		defer s.mu.Unlock()
		strikes := slices.DeleteFunc(slices.Clone(s.effects), func(e string) bool { return e != "strike a" })
		s.want("strikes", len(strikes), 1)
	})
}

// TestAJobThatWasCancelledBesideItsFailureStaysCancelled has the cancel come before its failure is settled.
func TestAJobThatWasCancelledBesideItsFailureStaysCancelled(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.start(dispatcher.Config{}, s.cancelsAt("first x"))
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.ExecutionError, message: "boom"}})
		s.submit("x")
		s.pass(10 * time.Second)
		s.want("story", s.story("x"), "queued started failed cancelled")
		s.want("jobs that are left", s.left(), 0)
	})
}

// TestAHostThatSaysThatEachAttemptIsTheFirstGetsNoMore has two hosts report a first attempt each time: what the chain says counts.
func TestAHostThatSaysThatEachAttemptIsTheFirstGetsNoMore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		var offers []queue.Offer
		for _, host := range []string{"a", "b"} {
			accepts := s.accepts(host)
			s.host(host, func(o *queue.Offer) (queue.Reply, error) {
				offers = append(offers, *o)
				return accepts(o)
			})
		}
		s.submit("x", func(spec *job.Spec) { spec.MaxAttempts = 2 })
		for n := range 2 {
			s.pass(time.Second)
			if len(offers) != n+1 {
				t.Fatalf("%d offers before %d attempts", len(offers), n+1)
			}
			started, _, err := s.Last(t.Context(), "acme", "x")
			counted := true
			e := job.Event{
				EventKind: job.Failed, Job: "x", Tenant: "acme", Priority: job.Usual, Hash: offers[n].Hash, Host: started.Host, Attempt: 1,
				Kind: failure.ExecutionError, Message: "boom", Counted: &counted, Time: s.Now(),
			}
			if err == nil {
				_, err = s.Append(t.Context(), &e, started.ChainSequence, "", offers[n].Lease)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		s.pass(time.Second)
		s.want("end", s.lastOf("x").EventKind, job.Dead)
		s.want("attempts", len(s.lastOf("x").Attempts), 2)
	})
}

// An effect of settling fails once. The lease of the job runs out long after the check.
func TestAFailureThatCannotBeSettledIsSettledAgainBeforeItsLeaseRunsOut(t *testing.T) {
	t.Parallel()
	broken := outcome{takes: 2 * time.Second, kind: failure.ExecutionError, message: "boom"}
	invalid := outcome{takes: 2 * time.Second, kind: failure.InvalidWorkflow, message: "boom"}
	lost := outcome{takes: 2 * time.Second, kind: failure.HostLost, message: "gone"}
	const again, once = "queued started failed retrying started completed", "queued started failed dead:not_retryable"
	for name, c := range map[string]struct {
		a, b   outcome
		effect string
		at     time.Duration // from then on the effect is awaited
		end    string
	}{
		"WhetherItIsTheFirst":  {a: broken, effect: "first x", at: time.Second, end: again},
		"TheStrike":            {a: broken, effect: "strike a", at: time.Second, end: again},
		"TheStrikeOfALoss":     {a: lost, effect: "strike a", at: time.Second, end: again},
		"TheRetry":             {a: broken, effect: "append retrying", at: time.Second, end: again},
		"TheLetter":            {a: invalid, effect: "bury x", at: time.Second, end: once},
		"TheEnd":               {a: invalid, effect: "append dead", at: time.Second, end: once},
		"TheChainOfTheSecond":  {a: broken, b: broken, effect: "chain x", at: 3 * time.Second, end: "queued started failed retrying started failed dead:workflow_fault"},
		"TheLetterOfTheSecond": {a: broken, b: broken, effect: "bury x", at: 3 * time.Second, end: "queued started failed retrying started failed dead:workflow_fault"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
				s.runs("a", map[job.ID]outcome{"x": c.a})
				s.runs("b", map[job.ID]outcome{"x": c.b})
				s.submit("x", prefers("a"))
				s.pass(c.at)
				s.failsOnceAt(c.effect, 1)
				s.pass(settleWait + 5*time.Second)
				s.want("chain", s.story("x"), c.end)
			})
		})
	}
}

func TestAFailureWhoseJobWasTakenOutOfTheStreamEndsIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {takes: 2 * time.Second, kind: failure.ExecutionError, message: "boom"}})
		sequence := s.submit("x")
		s.pass(time.Second)
		s.remove(sequence)
		s.pass(2 * time.Second)
		s.want("chain", s.story("x"), "queued started failed dead:not_retryable")
		s.want("attempts", len(s.lastOf("x").Attempts), 1)
		s.pass(settleWait)
		s.want("failures that are not settled", s.unsettled(), 0)
	})
}

// A failed event that comes again when the chain has moved on: only of an ended job the delivery is acked.
func TestAFailureOfALaterAttemptThatWasSettledAcksOnlyAnEndedJob(t *testing.T) {
	t.Parallel()
	for next, left := range map[job.EventKind]int{job.Dead: 0, job.Retrying: 1} {
		t.Run(string(next), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				sequence := s.begunBefore("x")
				s.failedOn("x", sequence, 2, func(e *job.Event) { e.Kind = failure.InvalidWorkflow })
				s.goOn("x", next)
				s.dispatcher(dispatcher.Config{})
				s.pass(time.Second)
				s.want("jobs before the lease runs out", s.left(), left)
			})
		})
	}
}

// Another process moves the chain on between the letter and the event.
func TestAJobIsLeftToTheOneThatWasFasterThanItsEnd(t *testing.T) {
	t.Parallel()
	for next, c := range map[job.EventKind]struct{ letters, left int }{
		job.Started: {letters: 0, left: 1}, job.Dead: {letters: 1, left: 0}, // two dead events share their letter
	} {
		t.Run(string(next), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Minute) })
				s.pass(30 * time.Second)
				s.meanwhile("append dead", func() { s.goOn("x", next) })
				s.pass(32 * time.Second)
				s.want("last event", s.lastOf("x").EventKind, next)
				s.want("letters", len(s.letters), c.letters)
				s.want("jobs", s.left(), c.left)
			})
		})
	}
}

func TestAJobOfAWorkflowThatTakesHostsDownIsOfferedToNone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: longBlocks})
		for _, host := range []string{"a", "b"} {
			s.runs(host, map[job.ID]outcome{"x": {takes: 100 * time.Millisecond, kind: failure.HostLost, message: "gone"}})
		}
		s.submit("x")
		s.awaitEvent("x", job.Dead)
		s.runs("c", nil)
		s.submit("y")
		s.pass(time.Second)
		s.want("the next", s.lastOf("y").Reason, failure.TakesHostsDown)
		s.want("offers of it", s.done("offer y"), []string{})
	})
}
