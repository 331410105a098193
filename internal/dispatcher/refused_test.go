package dispatcher_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// publishNoJob publishes a message with an id that is no job, and gives the id under which it ends when another job has that id.
func (s *scene) publishNoJob(id string) job.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence := s.publishHeld(job.Message{Tenant: "acme", Priority: job.Usual, JobIDHeader: id, Body: []byte("no job")})
	return s.jobs[sequence].message.GeneratedID()
}

func TestAMessageThatIsNoJobEndsWithoutTouchingTheJobOfItsID(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		own := s.publishNoJob("x")
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

// meanwhile has something happen just before the first effect that begins with a word.
func (s *scene) meanwhile(word string, happens func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var happened atomic.Bool
	s.cut = func(effect string) error {
		if strings.HasPrefix(effect, word) && !happened.Swap(true) {
			happens()
		}
		return nil
	}
}

// A job gets the id between the look at its chain and the end of the message.
func TestAMessageThatIsNoJobLeavesNoLetterOfAJobThatCameFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.meanwhile("append dead", func() { s.goOn("x", job.Queued) })
		own := s.publishNoJob("x")
		s.pass(time.Second)
		s.want("the job", s.story("x"), "queued")
		s.want("the message", s.story(own), "dead:invalid_job")
		var letters []job.ID
		for _, l := range s.letters {
			letters = append(letters, l.Job)
		}
		s.want("letters", letters, []job.ID{own})
		s.want("left", s.left(), 0)
	})
}

// Another delivery of the same message has ended it: the letter is that one's too.
func TestAMessageThatIsNoJobAndWasEndedMeanwhileKeepsItsLetter(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.meanwhile("append dead", func() {
			s.goOn("x", job.Dead, func(e *job.Event) { e.Reason, e.Sequence = "invalid_job", 1 })
		})
		s.publish(job.Message{Tenant: "acme", Priority: job.Usual, JobIDHeader: "x", Body: []byte("no job")})
		s.pass(time.Second)
		s.want("chain", s.story("x"), "dead:invalid_job")
		s.want("letters", len(s.letters), 1)
		s.want("left", s.left(), 0)
	})
}

func TestAJobThatIsCancelledWhileItsReasonIsWrittenIsAcked(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.meanwhile("append waiting", func() { s.goOn("x", job.Cancelled) })
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued cancelled")
		s.want("left", s.left(), 0)
		s.want("tickets that were written", len(s.done("ticket")), 0)
	})
}

// Another dispatcher has offered the job since its last event was read.
func TestAJobThatBeginsWhileADeliveryIsWalkedIsOfferedBackToItsHost(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.begunBefore("x")
		var resumed []bool
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			resumed = append(resumed, o.Resume)
			return queue.Reply{Answer: queue.Accepted, State: queue.HostState{Host: "a"}}, nil
		})
		s.meanwhile("chain x", func() { s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 }) })
		s.dispatcher(dispatcher.Config{})
		s.pass(ackWait + time.Second)
		s.want("chain", s.story("x"), "queued started")
		s.want("offers of the attempt that runs", resumed, []bool{true})
	})
}

func TestSlotsThatAreRemovedByHandAreFree(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.goOn("other", job.Started)
		s.set(names.SlotsBucket, "acme", encoded(t, []queue.Slot{{Job: "other", Host: "far", Time: s.Now()}}), -1)
		s.pass(time.Second)
		s.submit("x")
		s.pass(10 * time.Second)
		s.want("while the slot is taken", s.story("x"), "queued waiting:over_cap")
		reads := len(s.done("look for slots"))
		s.pass(30 * time.Second)
		s.want("reads of slots that are known to be taken", len(s.done("look for slots"))-reads, 0)
		s.set(names.SlotsBucket, "acme", nil, -1)
		s.pass(time.Second)
		s.want("afterwards", s.story("x"), "queued waiting:over_cap started")
	})
}

// The host's word that a job is over may come long before the job's last event; from then on the slot is looked at once a second.
func TestASlotWhoseJobEndsLongAfterItLeftItsHostIsSoonFree(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.host("b", s.accepts("b"))
		s.submit("x", prefers("a"))
		s.pass(time.Second)
		s.submit("y", prefers("b"))
		s.pass(time.Second)
		s.want("y while x runs", s.story("y"), "queued waiting:over_cap")
		over := queue.HostState{Host: "a", Instance: "i", Serial: 9, State: queue.Online, Slots: 1, Time: s.Now()}
		s.beat(over)
		over.Ended = &queue.EndedJob{Tenant: "acme", Job: "x", Hash: hashOf(t, 1), Success: true}
		s.broadcast(over)
		s.pass(9 * time.Second)
		s.want("y while the files of x are under way", s.story("y"), "queued waiting:over_cap")
		s.goOn("x", job.Completed)
		s.pass(2 * time.Second)
		s.want("y when x has ended", s.story("y"), "queued waiting:over_cap started")
	})
}
