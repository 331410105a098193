package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAJobWaitsForAHostAndRuns(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		s.want("chain", s.story("x"), "queued waiting:none_capable")
		s.want("tickets", len(s.tickets()), 1)
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable started")
		s.want("tickets", len(s.tickets()), 0)
	})
}

// Parked jobs rest for ten minutes, so one that is offered sooner was delivered again after AckWait.
func TestADispatcherThatDiesBehindItsClaimLeavesTheJobToAckWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		s.cuts(map[string]error{"offer": errCut, "secure": errCut})
		s.host("a", s.accepts("a"))
		s.pass(0)
		s.want("claims", s.done("claim"), []string{"claim 1"})
		kill()
		s.dispatcher(dispatcher.Config{Name: "next"})
		s.pass(ackWait + time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable started")
	})
}

func TestAClaimWithoutAnAnswerLeavesTheJobToAckWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		s.cuts(map[string]error{"extend": errDropped, "claim": errUnheard})
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.want("tickets", len(s.tickets()), 0)
		s.pass(ackWait)
		s.want("chain", s.story("x"), "queued waiting:none_capable started")
	})
}

func TestATicketOfAnEndedJobIsClearedAwayWithItsDelivery(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		kill()
		s.goOn("x", job.Cancelled)
		s.host("a", s.accepts("a"))
		s.dispatcher(dispatcher.Config{Name: "next"})
		s.pass(time.Second)
		s.want("jobs", s.left(), 0)
		s.want("tickets", len(s.tickets()), 0)
		s.want("offers", len(s.done("offer")), 0)
	})
}

func TestAClaimThatFailedIsTriedAgainAfterASecond(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		s.cuts(map[string]error{"claim": errCut})
		s.host("a", s.accepts("a"))
		s.pass(900 * time.Millisecond)
		s.want("chain before", s.story("x"), "queued waiting:none_capable")
		s.pass(200 * time.Millisecond)
		s.want("chain after", s.story("x"), "queued waiting:none_capable started")
	})
}

func TestASlotStaysKeptUntilItsHostMustHaveSpoken(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", silent)
		s.submit("x")
		s.pass(0)
		s.submit("y", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(2*time.Second + presenceTTL/2 - time.Millisecond)
		s.want("offers before", s.done("offer"), []string{"offer x to a"})
		s.pass(2 * time.Millisecond)
		s.want("offers after", s.done("offer"), []string{"offer x to a", "offer y to a"})
	})
}

func TestAnUnansweredOfferBehindAClaimLeavesTheJobToAckWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Minute)
		s.cuts(map[string]error{"extend": errDropped})
		s.host("a", silent)
		s.pass(5 * time.Second)
		s.mu.Lock()
		s.agents["a"] = s.accepts("a")
		s.mu.Unlock()
		s.pass(2*ackWait + 10*time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable started")
	})
}
