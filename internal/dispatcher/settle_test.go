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
		cancelled := false
		s.start(dispatcher.Config{}, func(effect string) error {
			if effect == "first x" && !cancelled {
				cancelled = true
				if _, _, err := s.End(t.Context(), "acme", "x", queue.Cancelling{By: "acme"}); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
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
