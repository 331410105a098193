package dispatcher_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestATicketHasTheLeaseOfTheNewestDelivery(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Park: time.Minute})
		s.submit("x")
		s.pass(2 * time.Minute)
		s.want("deliveries", s.done("deliver"), []string{"deliver " + string(leaseOf(1, 1)), "deliver " + string(leaseOf(1, 2))})
		s.want("lease", s.tickets()[0].Lease, leaseOf(1, 2))
		var offered queue.Lease
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			offered = o.Lease
			return s.accepts("a")(o)
		})
		s.pass(time.Second)
		s.want("offered lease", offered, leaseOf(1, 2))
	})
}

func TestAJobThatWasJustClaimedIsLeftToItsClaimant(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.submit("x")
		s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence = 1 })
		ticket := queue.Ticket{Priority: job.Usual, Tenant: "acme", Hash: hashOf(t, 1), Sequence: 1, Job: "x", Lease: leaseOf(1, 0), Attempt: 1}
		revision, err := s.PutTicket(context.Background(), &ticket)
		if end, claimErr := s.Claim(context.Background(), ticket.Key(), revision); end == 0 || err != nil || claimErr != nil {
			t.Fatalf("claim: %v, %v, %v", end, err, claimErr)
		}
		s.host("a", s.accepts("a"))
		s.dispatcher(dispatcher.Config{})
		s.pass(ackWait - time.Second)
		s.want("offers while the claimant has its lease", len(s.done("offer")), 0)
		s.pass(2 * time.Second)
		s.want("chain", s.story("x"), "queued started")
	})
}

func TestASecondPublishOfAWaitingIdIsDropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		s.submit("x")
		s.pass(time.Second)
		s.want("jobs", s.left(), 1)
		s.want("tickets", len(s.tickets()), 1)
		s.want("ticket", s.tickets()[0].Sequence, 1)
	})
}

func TestTheAPIKeysOfAJobStayUntilItHasEnded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		withKeys := func(spec *job.Spec) { spec.APIKeys = true }
		s.submit("x", withKeys)
		s.pass(time.Second)
		s.submit("x", withKeys)
		s.submit("x", withKeys, func(spec *job.Spec) { spec.Workflow = []byte(`{}`) }) // which is invalid
		s.pass(time.Second)
		s.want("jobs", s.left(), 1)
		s.want("removed keys while the first waits", s.done("drop keys"), []string{})
		if _, _, err := s.End(context.Background(), "acme", "x", queue.Cancelling{By: "acme"}); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		s.want("jobs at the end", s.left(), 0)
		s.want("removed keys at the end", s.done("drop keys"), []string{"drop keys acme/x"})
	})
}

// While hosts are busy no review looks at the ticket.
func TestADeliveryOfAnEndedJobTakesItsTicketAlong(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.host("a", s.accepts("a"))
		kill := s.dispatcher(dispatcher.Config{Park: time.Minute})
		s.submit("busy")
		s.pass(time.Second)
		s.submit("x", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(time.Second)
		s.want("tickets before", len(s.tickets()), 1)
		kill()
		s.goOn("x", job.Cancelled)
		s.dispatcher(dispatcher.Config{Name: "next", Park: time.Minute})
		s.await(func() bool { return s.left() == 1 })
		s.want("tickets", len(s.tickets()), 0) // at once, and not only when tickets without a stored job are looked for
		s.want("jobs", s.left(), 1)
	})
}

func TestALetterThatWasStoredAMomentTooEarlyIsTakenBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Minute) })
		s.pass(time.Second)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if strings.HasPrefix(effect, "append dead") {
				s.mu.Lock()
				s.cut = nil
				s.mu.Unlock()
				s.goOn("x", job.Cancelled)
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(2 * time.Minute)
		s.want("chain", s.story("x"), "queued waiting:none_capable cancelled")
		s.want("letters", len(s.letters), 0)
		s.want("jobs", s.left(), 0)
	})
}

// A failed event comes again when its dispatcher died behind the dead event.
func TestAFailureOfAnEndedJobAcksItsDelivery(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.submit("x")
		s.deliver(job.Usual)
		s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence, e.Hash = sequence, hashOf(t, 1) })
		s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 })
		s.goOn("x", job.Failed, func(e *job.Event) { e.Host, e.Attempt, e.Kind = "a", 1, failure.InvalidWorkflow })
		s.mu.Lock()
		s.events[len(s.events)-1].Lease = leaseOf(1, 1)
		s.mu.Unlock()
		s.goOn("x", job.Dead)
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.want("jobs before the lease runs out", s.left(), 0)
	})
}

func TestTwoPublishesOfOneIdAreWalkedInTheirOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.host("a", s.accepts("a"))
		s.cut = func(effect string) error {
			if effect == "append queued x of 1" {
				goBy(time.Second)
			}
			return nil
		}
		s.submit("x")
		s.submit("x", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.dispatcher(dispatcher.Config{})
		s.pass(3 * time.Second)
		s.want("chain", s.story("x"), "queued started")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.want("sequence", s.events[0].Sequence, 1)
		s.want("jobs", len(s.jobs), 1)
	})
}

// The first events of a job that runs for long may not be kept any more; nothing else says where it is stored.
func TestAFailureIsSettledWithoutTheBeginningOfTheChain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.submit("x")
		s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 })
		s.goOn("x", job.Failed, func(e *job.Event) { e.Host, e.Attempt, e.Kind = "a", 1, failure.InvalidWorkflow })
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.want("chain", s.story("x"), "started failed dead:not_retryable")
		s.want("jobs", s.left(), 0)
	})
}

// What cannot be removed with an ended job is removed by its next delivery.
func TestAnEndedJobWhoseSecretsCannotBeRemovedIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	for effect, edit := range map[string]func(*job.Spec){
		"drop keys": func(spec *job.Spec) { spec.APIKeys = true }, "erase": func(spec *job.Spec) { spec.ExtraData = []byte(`{"key":"k"}`) },
	} {
		t.Run(effect, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				s.submit("x", edit)
				s.pass(time.Second)
				s.cuts(map[string]error{effect: errCut})
				if _, _, err := s.End(context.Background(), "acme", "x", queue.Cancelling{By: "acme"}); err != nil {
					t.Fatal(err)
				}
				s.pass(500 * time.Millisecond)
				s.want("jobs while that fails", s.left(), 1)
				s.pass(2 * time.Second)
				s.want("jobs", s.left(), 0)
				s.want("removed", len(s.done(effect)), 1)
			})
		})
	}
}

func TestAStartedJobWhoseHostIsGoneIsTriedAgainElsewhere(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.begunBefore("x")
		s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "gone", 1 })
		s.dispatcher(dispatcher.Config{})
		s.runs("b", nil)
		s.pass(ackWait + time.Minute)
		s.want("chain", s.story("x"), "queued started failed retrying started completed")
		lost, _, err := s.LastOf(t.Context(), "acme", "x", job.Failed)
		s.want("the attempt that is lost", fmt.Sprint(lost.Host, " ", lost.Kind, " ", lost.Message, err), "gone lost host gone and its agent are gone<nil>")
		s.want("offers to the host that is gone", s.done("offer x to gone"), []string{})
	})
}

func TestASecondPublishOfARunningIdIsDropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {takes: time.Minute}})
		first := s.submit("x")
		s.pass(time.Second)
		s.submit("x")
		s.pass(time.Second)
		s.want("jobs", s.left(), 1)
		s.want("offers", len(s.done("offer")), 1)
		_, err := s.Stored(t.Context(), first)
		s.want("reading the first", err, nil)
	})
}

// Until it is known whose the chain is, nothing is done with the message.
func TestAMessageThatMayBeASecondPublishWaitsForItsLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		effect string
		nth    int
	}{"TheQueuedEvent": {"last x", 2}, "TheFirstMessage": {"read 1", 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				s.submit("x")
				s.pass(time.Second)
				s.failsOnceAt(c.effect, c.nth)
				s.submit("x")
				s.pass(time.Second)
				s.want("jobs", s.left(), 2)
				s.want("tickets", len(s.tickets()), 1)
				s.want("ticket", s.tickets()[0].Sequence, 1)
				s.pass(ackWait + time.Second)
				s.want("jobs afterwards", s.left(), 1)
			})
		})
	}
}

// The extensions of its lease are lost for a while, and it is delivered once more.
func TestAStartedJobThatIsGivenBackToItsHostIsDeliveredNoMore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {takes: 10 * time.Minute}})
		s.submit("x")
		s.pass(time.Second)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if strings.HasPrefix(effect, "extend "+string(leaseOf(1, 1))) {
				return errDropped
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(3 * time.Minute)
		s.want("deliveries", s.done("deliver"), []string{"deliver " + string(leaseOf(1, 1)), "deliver " + string(leaseOf(1, 2))})
		s.want("chain", s.story("x"), "queued started")
	})
}

func TestAJobWhoseOldChainIsRenewedIsOfferedBehindTheNewEvent(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.submit("x")
		s.deliver(job.Usual)
		s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence, e.Hash, e.Time = sequence, hashOf(t, 1), s.Now().Add(-eventsAge/2) })
		var behind []uint64
		accepts := s.accepts("a")
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			behind = append(behind, o.LastInChain)
			return accepts(o)
		})
		s.dispatcher(dispatcher.Config{})
		s.pass(ackWait + time.Second)
		s.want("chain", s.story("x"), "queued waiting started")
		s.want("offered behind", behind, []uint64{2})
	})
}
