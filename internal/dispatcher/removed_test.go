package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAWaitingJobThatIsTakenOutOfTheStreamIsCancelledWithinAMinute(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		gone := s.submit("gone", func(spec *job.Spec) { spec.Name, spec.Webhook = "a cat", "hook" })
		s.submit("stays")
		s.pass(time.Second)
		s.remove(gone)
		s.submit("makes-up-for-it")
		s.pass(time.Minute)
		s.want("chain", s.story("gone"), "queued waiting:none_capable cancelled")
		end := s.lastOf("gone")
		s.want("by", end.By, "operator")
		s.want("message", end.Message, "it was taken out of COMFY_JOBS")
		s.want("priority", end.Priority, job.Usual)
		s.want("name and webhook", end.Name+" "+end.Webhook, "a cat hook")
		s.want("chain of another", s.story("stays"), "queued waiting:none_capable")
		s.want("tickets", len(s.tickets()), 2)
		s.want("acks", len(s.done("ack")), 0)
	})
}

func (s *scene) lastOf(id job.ID) job.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := s.chain("acme", id)
	return chain[len(chain)-1].Event
}

func TestAPurgedLaneIsCancelledWithinAMinute(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		const jobs = 1500 // more than are looked at in a whole lane
		for n := range jobs {
			s.submit(job.RequeueID("job", n))
		}
		s.pass(20 * time.Second)
		s.want("tickets before", len(s.tickets()), jobs)
		for n := range uint64(jobs) {
			s.remove(n + 1)
		}
		s.pass(time.Minute)
		s.want("tickets", len(s.tickets()), 0)
		s.want("last", s.lastOf("job-r1499").EventKind, job.Cancelled)
	})
}

func TestAClaimOfAJobThatIsNotStoredEndsIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		gone := s.submit("gone")
		s.pass(time.Second)
		s.remove(gone)
		s.host("a", s.accepts("a"))
		s.pass(2 * time.Second)
		s.want("chain", s.story("gone"), "queued waiting:none_capable cancelled")
		s.want("offers", len(s.done("offer")), 0)
	})
}

// Of a stream that was made again the sequences begin anew, and so do the subjects by which deliveries are acked.
func TestAJobOfAnOlderStreamIsNotMistakenForOneOfTheSameSequence(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{})
		s.submit("old")
		s.pass(time.Second)
		kill()
		s.remove(1)
		s.mu.Lock()
		s.last = 0
		s.mu.Unlock()
		s.submit("new")
		s.dispatcher(dispatcher.Config{Name: "next"})
		s.pass(time.Minute)
		s.want("chain of the old", s.story("old"), "queued waiting:none_capable cancelled")
		s.want("chain of the new", s.story("new"), "queued waiting:none_capable")
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.want("chain of the new", s.story("new"), "queued waiting:none_capable started")
	})
}

func TestAnIdWhoseFirstPublishWasTakenOutOfTheStreamMayBePublishedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		first := s.submit("x")
		s.pass(time.Second)
		s.remove(first)
		s.submit("x")
		s.pass(time.Second)
		s.host("a", s.accepts("a"))
		s.pass(2 * time.Minute)
		s.want("chain", s.story("x"), "queued waiting:none_capable queued waiting:none_capable started")
		s.want("jobs", s.left(), 1)
	})
}

// More workflows wait than requirements are kept of those that nothing refers to, and they are learnt while the hosts are
// not known yet.
func TestNoRequirementIsForgottenBeforeTheFirstDecision(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		const jobs = 17_000
		for n := range jobs {
			id := job.RequeueID("job", n)
			sequence := s.submit(id, func(spec *job.Spec) { spec.Workflow = graph(n) })
			s.goOn(id, job.Queued, func(e *job.Event) { e.Sequence = sequence })
			s.putTicket(id, sequence, func(ticket *queue.Ticket) { ticket.Hash, ticket.Lease = hashOf(t, n), "none" })
			s.jobs[sequence].until = time.Now().Add(time.Hour)
		}
		s.host("a", s.accepts("a"))
		s.can("a", "SaveImage")
		s.hostsLater = time.Minute
		s.dispatcher(dispatcher.Config{})
		s.pass(10 * time.Second)
		s.want("offers to a host that lacks what they need", len(s.done("offer")), 0)
	})
}

// Of a job that has ended a ticket may stand, and its sequence may be another's by now: that one is neither acked nor
// erased.
func TestTheTicketOfAnEndedJobOfAnOlderStreamRemovesNoJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.goOn("old", job.Queued, func(e *job.Event) { e.Sequence = 1 })
		s.goOn("old", job.Cancelled)
		sequence := s.submit("new", func(spec *job.Spec) { spec.ExtraData = []byte(`{"api_key_comfy_org":"comfyui-secret"}`) })
		s.putTicket("old", sequence, func(ticket *queue.Ticket) { ticket.Lease = "$JS.ACK.COMFY_JOBS.dispatch_5.1.1.1.1.0" })
		s.jobs[sequence].until = time.Now().Add(time.Hour) // another dispatcher has it
		s.host("a", s.accepts("a"))
		s.dispatcher(dispatcher.Config{})
		s.pass(10 * time.Second)
		s.want("tickets", len(s.tickets()), 0)
		s.want("jobs", s.left(), 1)
		s.want("acks", len(s.done("ack")), 0)
	})
}

func TestWhyTellsNothingOfTheJobThatHasTheSequenceOfAnOlderOne(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.goOn("old", job.Queued, func(e *job.Event) { e.Sequence = 1 })
		sequence := s.submitAs("bolt", job.Usual, "new", func(spec *job.Spec) { spec.OnlyHosts = []string{"bolts-own"} })
		s.jobs[sequence].until = time.Now().Add(time.Hour) // another dispatcher has it
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		why, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "acme", Job: "old"})
		if err != nil {
			t.Fatal(err)
		}
		s.want("why", why.Text, "it has just stopped waiting: ask again")
	})
}

func TestNothingIsLookedForWhileTheStreamCannotBeCounted(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		gone := s.submit("gone")
		s.submit("stays")
		s.pass(time.Second)
		s.remove(gone)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "count the lanes" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(time.Minute)
		s.want("reads", len(s.done("read ")), 0)
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(time.Minute)
		s.want("chain", s.story("gone"), "queued waiting:none_capable cancelled")
	})
}

// Its agent may ack it a moment before it tells of its end.
func TestARunningJobWithALateTicketIsNotCancelledWhenItIsTakenOutOfTheStream(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.begunBefore("x")
		s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 })
		s.putTicket("x", sequence)
		s.remove(sequence)
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Minute)
		s.want("chain", s.story("x"), "queued started")
	})
}

func TestASecondPublishOfARunningJobWhoseFirstIsGoneDoesNotBeginItAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {takes: 20 * time.Second}})
		first := s.submit("x")
		s.pass(time.Second)
		s.remove(first)
		s.submit("x")
		s.pass(10 * time.Second)
		s.want("chain", s.story("x"), "queued started")
		s.pass(ackWait)
		s.want("chain at the end", s.story("x"), "queued started completed")
		s.want("jobs", s.left(), 0)
	})
}

func TestTheEndOfAJobThatWasTakenOutOfTheStreamTellsWhatItsLastEventDid(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.submit("x")
		s.deliver(job.Usual)
		s.goOn("x", job.Queued, func(e *job.Event) {
			e.Sequence, e.Hash, e.RequeueOf, e.Traceparent, e.Metadata = sequence, hashOf(t, 1), "w", "00-1-1-01", []byte(`{"shop":7}`)
		})
		s.putTicket("x", sequence)
		s.remove(sequence)
		s.dispatcher(dispatcher.Config{})
		s.awaitEvent("x", job.Cancelled)
		end := s.lastOf("x")
		s.want("hash", end.Hash, hashOf(t, 1))
		s.want("requeue of", end.RequeueOf, "w")
		s.want("trace", end.Traceparent, "00-1-1-01")
		s.want("metadata", string(end.Metadata), `{"shop":7}`)
	})
}
