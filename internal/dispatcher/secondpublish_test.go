package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// The first events are not kept any more; the last one says whose the chain is, if it does.
func TestAChainWithoutItsBeginningBelongsToTheMessageThatItNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sequence uint64
		left     int
		chain    string
	}{"Named": {1, 1, "waiting:none_capable"}, "Unnamed": {0, 2, "waiting:none_capable"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.submit("x")
				s.submit("x")
				s.goOn("x", job.Waiting, func(e *job.Event) { e.Sequence, e.Reason = c.sequence, "none_capable" })
				s.dispatcher(dispatcher.Config{})
				s.pass(time.Second)
				s.want("jobs", s.left(), c.left)
				s.want("chain", s.story("x"), c.chain)
			})
		})
	}
}

func TestASecondPublishWhoseChainCannotBeContinuedWaitsForItsLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.remove(s.submit("other"))
		s.submit("x")
		s.pass(time.Second)
		s.remove(2)
		s.failsOnceAt("append queued x of 3", 2) // the first is refused, since there is a chain
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable")
		s.want("leases that are kept", s.done("secure"), []string{"secure " + string(leaseOf(3, 1))})
	})
}

// Other dispatchers are before this one in the order in which tickets are ended. It ends what is delivered to it.
func TestADeliveryOfAWaitingJobWhoseTimeIsOverEndsIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ticket bool
		fails  string
		kept   int
		chain  string
	}{
		"WithATicket":              {true, "none", 0, "queued waiting:none_capable dead:expired"},
		"WithoutATicket":           {false, "none", 0, "queued dead:expired"},
		"ItsTicketCannotBeClaimed": {true, "claim ", 1, "queued waiting:none_capable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				sequence := s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(ackWait - time.Millisecond) })
				s.deliver(job.Usual)
				expires := s.Now().Add(ackWait - time.Millisecond)
				s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence, e.Hash = sequence, hashOf(t, 1) })
				if c.ticket {
					s.putTicket("x", sequence, func(ticket *queue.Ticket) { ticket.Expires = &expires })
				}
				s.failsOnceAt(c.fails, 1)
				s.dispatcher(dispatcher.Config{})
				s.pass(ackWait - 5*time.Second)
				for n := range 9 {
					id := fmt.Sprint("other-", n)
					value, err := json.Marshal(&queue.DispatcherState{Dispatcher: id})
					if err != nil {
						t.Fatal(err)
					}
					s.set(names.DispatchersBucket, id, value, -1)
				}
				s.pass(5*time.Second + time.Millisecond)
				s.want("chain", s.story("x"), c.chain)
				s.want("leases that are kept", len(s.done("secure")), c.kept)
				if c.kept == 0 {
					s.want("message", s.lastOf("x").Message, "no host had accepted the job when its expires_in was over")
				}
			})
		})
	}
}

func TestAChainThatCannotBeRenewedIsGoneOnWithAsItIs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.submit("x")
		s.deliver(job.Usual)
		s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence, e.Hash, e.Time = sequence, hashOf(t, 1), s.Now().Add(-eventsAge/2) })
		s.failsOnceAt("append waiting", 1)
		s.runs("a", nil)
		s.dispatcher(dispatcher.Config{})
		s.pass(ackWait + time.Second)
		s.want("chain", s.story("x"), "queued started completed")
	})
}
