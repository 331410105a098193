package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// loneFailure stores the failure of a second attempt, before which nothing is kept in the chain.
func (s *scene) loneFailure(id job.ID) {
	s.t.Helper()
	sequence := s.submit(id)
	s.deliver(job.Usual)
	s.goOn(id, job.Failed, func(e *job.Event) {
		e.Sequence, e.Hash, e.Host, e.Attempt, e.Kind = sequence, hashOf(s.t, 1), "a", 2, failure.InvalidWorkflow
	})
	s.mu.Lock()
	s.events[len(s.events)-1].Lease = leaseOf(int(sequence), 1)
	s.mu.Unlock()
}

func TestAFailureOfWhichNoEarlierEventIsKeptIsSettled(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.loneFailure("x")
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.want("chain", s.story("x"), "failed dead:not_retryable")
		s.want("jobs", s.left(), 0)
	})
}

// The events of a job are removed between its failure and the look at its chain.
func TestAFailureWhoseChainIsGoneIsSettled(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.loneFailure("x")
		s.meanwhile("chain x", func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.links, "acme/x")
		})
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.want("failures that are not settled", s.unsettled(), 0)
		s.want("letters", len(s.letters), 0)
	})
}

// The cancel comes before the failure is settled, and what has come first can be read at the second look only.
func TestACancelBesideAFailureIsFoundAtTheNextLook(t *testing.T) {
	t.Parallel()
	for _, kind := range []failure.Kind{failure.ExecutionError, failure.InvalidWorkflow} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.start(dispatcher.Config{}, s.cancelsAt("first x"))
				s.runs("a", map[job.ID]outcome{"x": {kind: kind, message: "boom"}})
				s.failsOnceAt("chain x", 1)
				s.submit("x")
				s.pass(settleWait + 5*time.Second)
				s.want("story", s.story("x"), "queued started failed cancelled")
				s.want("jobs before the lease runs out", s.left(), 0)
			})
		})
	}
}

func TestNoLetterIsTakenBackForARetryThatCameTooLate(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.ExecutionError, message: "boom"}})
		s.meanwhile("append retrying", func() { s.goOn("x", job.Cancelled) })
		s.submit("x")
		s.pass(time.Second)
		s.want("story", s.story("x"), "queued started failed cancelled")
		s.want("letters that are taken back", s.done("purge letter"), []string{})
		s.want("jobs", s.left(), 0)
	})
}
