package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestADispatcherThatCannotTakeJobsIsNotReady(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "pull" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(10 * time.Second)
		if ready, why := s.ready(); ready || !strings.Contains(why, "COMFY_JOBS") {
			t.Errorf("it is ready (%v) while no job can be taken: %s", ready, why)
		}
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(10 * time.Second)
		if ready, why := s.ready(); !ready {
			t.Errorf("it is not ready when jobs can be taken again: %s", why)
		}
	})
}

// Without a limit the walks of this dispatcher would go on for two AckWaits.
func TestADispatcherThatIsStoppedWithoutNATSEndsSoon(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", silent)
		s.submit("x")
		s.mu.Lock()
		s.away = true
		s.cut = func(string) error { return errCut }
		s.mu.Unlock()
		s.pass(time.Second)
		begun := time.Now()
		s.stop()
		<-s.over
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
}

// An agent answers after a second; one may stand in NATS for that long without making a stop hasty.
func TestADispatcherThatIsStoppedFinishesItsWalks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			goBy(1500 * time.Millisecond)
			return s.accepts("a")(o)
		})
		s.submit("x")
		s.pass(500 * time.Millisecond)
		s.stop()
		<-s.over
		s.want("chain", s.story("x"), "queued started")
	})
}

// Without that, another dispatcher would get the job when AckWait is over.
func TestADispatcherThatIsStoppedGivesBackWhatWaitsInItsHand(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.submit("runs")
		s.pass(1950 * time.Millisecond) // the pulls that began at first are over in 50 ms
		s.submit("x")
		s.pass(0)
		s.want("tickets", len(s.tickets()), 0)
		s.stop()
		<-s.over
		s.dispatcher(dispatcher.Config{Name: "next"})
		s.pass(time.Second)
		s.want("deliveries", len(s.done("deliver")), 3)
		s.want("tickets of the next one", len(s.tickets()), 1)
	})
}

func TestAJobThatWaitsInHandExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.submit("runs")
		s.pass(time.Second)
		s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(20 * time.Millisecond) })
		s.pass(10 * time.Second)
		s.want("chain", s.story("x"), "queued dead:expired")
		s.want("what it is told", s.lastOf("x").Message, "no host had accepted the job when its expires_in was over")
		s.want("left", s.left(), 1)
		s.want("claims", len(s.done("claim", "look for ticket")), 0)
	})
}

func TestAJobThatWaitsInHandRunsWithoutAClaim(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome { return outcome{takes: 50 * time.Millisecond} }})
		s.submit("runs")
		s.submit("x", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(5 * time.Second)
		s.want("chain", s.story("x"), "queued started completed")
		s.want("offers", len(s.done("offer")), 2)
		s.want("claims", len(s.done("claim", "look for ticket", "ticket")), 0)
	})
}

// Only when NATS has been away for some time without a break does a stop end the walks.
func TestADispatcherThatIsStoppedWaitsForNATSWhenThatComesBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			goBy(8 * time.Second)
			return s.accepts("a")(o)
		})
		s.submit("x")
		s.pass(500 * time.Millisecond)
		s.stop()
		for range 3 {
			for _, away := range []bool{true, false} {
				s.mu.Lock()
				s.away = away
				s.mu.Unlock()
				s.pass(time.Second)
			}
		}
		<-s.over
		s.want("chain", s.story("x"), "queued started")
		s.want("its presence", s.get(names.DispatchersBucket, "me").Phase, queue.Gone)
	})
}

func TestADispatcherWhoseHeartbeatHasNoRoomIsNotReady(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "beat me" {
				return jetstream.ErrNoSpace
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(presenceTTL)
		if ready, why := s.ready(); ready || !strings.Contains(why, "no space left") {
			t.Errorf("it is ready (%v): %s", ready, why)
		}
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(presenceTTL)
		ready, why := s.ready()
		s.want("when there is room again", fmt.Sprint(ready, " ", why), "true dispatching")
	})
}
