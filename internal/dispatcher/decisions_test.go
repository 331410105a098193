package dispatcher_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAHostThatWouldNotHaveAJobAlthoughItHasRoomIsOfferedNothingUntilItSpeaks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		state := queue.HostState{Host: "a", Instance: "i", Serial: 1, State: queue.Online, Slots: 1, Time: s.Now()}
		s.host("a", func(*queue.Offer) (queue.Reply, error) {
			return queue.Reply{Answer: queue.Unfit, State: state.Abridged()}, nil
		})
		s.submit("x")
		s.pass(time.Second)
		s.submit("y", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(time.Second)
		s.want("offers", s.done("offer"), []string{"offer x to a"})
		state.Serial++
		s.beat(state)
		s.pass(time.Second)
		s.want("offers when it has spoken", len(s.done("offer")), 2)
	})
}

// failsOnce is a host whose first run fails.
func (s *scene) failsOnce(host string, kind failure.Kind) {
	var failed atomic.Bool
	s.agent(&agent{name: host, outcome: func(*queue.Offer) outcome {
		if failed.Swap(true) {
			return outcome{}
		}
		return outcome{kind: kind, message: "not now"}
	}})
}

func TestATransientFailureIsRetriedAfterItsDelay(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.failsOnce("a", failure.Transient)
		s.submit("x", func(spec *job.Spec) { spec.RetryDelay = job.Duration(20 * time.Second) })
		s.pass(19 * time.Second)
		s.want("chain before", s.story("x"), "queued started failed retrying waiting:not_due")
		s.pass(10 * time.Second) // the delay is spread by a quarter
		s.want("end", s.lastOf("x").EventKind, job.Completed)
	})
}

func TestAJobAvoidsTheHostThatGaveItBackUntilItsDelayIsOver(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.failsOnce("a", failure.Drained)
		s.submit("x", func(spec *job.Spec) { spec.RetryDelay = job.Duration(20 * time.Second) })
		s.awaitEvent("x", job.Retrying)
		s.mu.Lock()
		retrying := s.chain("acme", "x")[3]
		s.mu.Unlock()
		if until := retrying.AvoidUntil; until == nil || until.Sub(retrying.Time) < 20*time.Second {
			t.Errorf("host a is avoided until %v, want 20 s at least", until)
		}
		s.pass(19 * time.Second)
		s.want("offers before", len(s.done("offer")), 1)
		s.pass(10 * time.Second)
		s.want("end", s.lastOf("x").EventKind, job.Completed)
	})
}

func TestADeadJobTellsTheMessageOfItsLastFailure(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.InvalidWorkflow, message: "no output"}})
		s.submit("x")
		s.pass(time.Second)
		s.want("end", s.story("x"), "queued started failed dead:not_retryable")
		s.want("message", s.lastOf("x").Message, "no output")
	})
}

func TestAWorkflowThatHasJustCompletedIsNotGuiltyForOneOfItsJobs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, host := range []string{"a", "b"} {
			s.runs(host, map[job.ID]outcome{"x": {kind: failure.HostLost, message: "gone"}})
		}
		s.submit("before")
		s.pass(time.Second)
		s.submit("x")
		s.pass(2 * time.Second)
		s.want("the job that takes hosts down", s.lastOf("x").Reason, failure.TakesHostsDown)
		s.submit("after")
		s.pass(2 * time.Second)
		s.want("another of its workflow", s.story("after"), "queued started completed")
	})
}

// Another dispatcher has taken the slot a moment ago, which this one has not heard.
func TestAJobThatFindsNoSlotOfItsTenantGivesItsHostToOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.takeSlotUnseen()
		s.host("a", s.accepts("a"))
		s.submit("x")
		s.pass(500 * time.Millisecond)
		s.want("offers", len(s.done("offer")), 0)
		if n := len(s.done("look for slots")); n > 4 {
			t.Errorf("the slots were looked at %d times in half a second, want a pause of 200 ms between two", n)
		}
		s.submitAs("bolt", job.Usual, "b")
		s.pass(time.Second)
		s.want("offers of another tenant's", s.done("offer b"), []string{"offer b to a"})
	})
}

// Its agent is being restarted: AckWait would be too long for a job that is ready.
func TestAStartedJobIsOfferedBackToAHostWithoutAnAgentWithinSeconds(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"no agent": queue.ErrNoAgent, "busy": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				sequence := s.submit("x")
				s.goOn("x", job.Queued, func(e *job.Event) { e.Sequence, e.Hash = sequence, hashOf(t, 1) })
				s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 })
				s.host("a", func(*queue.Offer) (queue.Reply, error) {
					return queue.Reply{Answer: queue.Busy, State: queue.HostState{Host: "a"}}, answer
				})
				s.dispatcher(dispatcher.Config{})
				s.pass(presenceTTL/3 + time.Second)
				s.want("deliveries", len(s.done("deliver")), 2)
				s.want("chain", s.story("x"), "queued started")
			})
		})
	}
}

func TestAJobThatAnAgentDoesNotTakeIsOfferedToAnotherHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer queue.Answer
		err    error
	}{"Unfit": {queue.Unfit, nil}, "NoAgent": {"", queue.ErrNoAgent}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				for _, host := range []string{"a", "b"} {
					s.host(host, func(*queue.Offer) (queue.Reply, error) {
						return queue.Reply{Answer: c.answer, State: queue.HostState{Host: host, State: queue.Unhealthy, Brief: true}}, c.err
					})
				}
				s.host("c", s.accepts("c"))
				s.submit("x", func(spec *job.Spec) { spec.PreferHosts = []string{"a", "b"} })
				s.pass(time.Second)
				s.want("offers", len(s.done("offer")), 3)
				s.want("chain", s.story("x"), "queued started")
			})
		})
	}
}

// Its host is still busy with an attempt of it that was cancelled or lost.
func TestAJobThatAHostWithRoomCannotTakeYetIsOfferedAgainAfterASecond(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		var offered []time.Duration
		begun, accepts := s.Now(), s.accepts("a")
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			if offered = append(offered, s.Now().Sub(begun)); len(offered) > 1 {
				return accepts(o)
			}
			state := queue.HostState{Host: "a", Instance: "i", Serial: 2, State: queue.Online, Slots: 1, Time: s.Now()}
			return queue.Reply{Answer: queue.Busy, State: state.Abridged()}, nil
		})
		s.submit("x")
		s.pass(5 * time.Second)
		if len(offered) != 2 || offered[1] < time.Second || offered[1] > 2*time.Second {
			t.Errorf("it was offered after %v", offered)
		}
	})
}
