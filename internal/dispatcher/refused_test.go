package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAMessageThatIsNoJobEndsWithoutTouchingTheJobOfItsID(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		bad := s.publish(job.Message{Tenant: "acme", Priority: job.Usual, JobIDHeader: "x", Body: []byte("no job")})
		own := s.jobs[bad].message.OwnID()
		s.publish(job.Message{Tenant: "acme", Priority: job.Usual, JobIDHeader: "new", Body: []byte("no job")})
		s.pass(time.Second)
		s.want("the job", s.story("x"), "queued waiting:none_capable")
		s.want("the message", s.story(own), "dead:invalid_job")
		s.want("the message with an id of its own", s.story("new"), "dead:invalid_job")
		s.want("letters", len(s.letters), 2)
		s.want("left", s.left(), 1)
	})
}

func TestAMessageThatIsNoJobAndCannotBeEndedIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	for _, effect := range []string{"last", "bury", "append dead"} {
		t.Run(effect, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				s.cuts(map[string]error{effect: errCut})
				s.publish(job.Message{Tenant: "acme", Priority: job.Usual, JobIDHeader: "x", Body: []byte("no job")})
				s.pass(time.Second)
				s.want("acks", len(s.done("ack")), 0)
				s.pass(ackWait)
				s.want("chain", s.story("x"), "dead:invalid_job")
				s.want("letters", len(s.letters), 1)
				s.want("left", s.left(), 0)
			})
		})
	}
}

// What a message that is no job takes of the limits of deliveries is given back when it has ended.
func TestManyMessagesThatAreNoJobsHoldUpNobody(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for range 600 {
			s.publish(job.Message{Tenant: "bolt", Priority: job.Usual, Body: []byte("no job")})
		}
		s.submit("x")
		s.pass(5 * time.Second)
		s.want("the job behind them", s.story("x"), "queued waiting:none_capable")
	})
}
