package dispatcher_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// swallows is an agent that accepts every job, keeps its lease alive and begins nothing. It claims to have many slots and
// the workflow's models in memory.
func (s *scene) swallows(host string) func(*queue.Offer) (queue.Reply, error) {
	var mu sync.Mutex // guards serial
	serial := uint64(1)
	claim := func() queue.HostState {
		mu.Lock()
		defer mu.Unlock()
		serial++
		return queue.HostState{
			Host: host, Instance: "i", Serial: serial, State: queue.Online, Slots: 50_000, Prefetch: 50_000, Time: s.Now(),
			Recent: []workflow.Hash{hashOf(s.t, 1)},
		}
	}
	s.beat(claim())
	return func(o *queue.Offer) (queue.Reply, error) {
		lease, over := o.Lease, make(chan struct{})
		s.atEnd(func() { close(over) })
		go func() {
			for tick := time.Tick(ackWait / 3); ; {
				select {
				case <-tick:
					_ = s.Extend(lease)
				case <-over:
					return
				}
			}
		}()
		state := claim()
		return queue.Reply{Answer: queue.Accepted, State: state.Abridged()}, nil
	}
}

// completes takes a job, begins it and ends it at once.
func (s *scene) completes(host string) func(*queue.Offer) (queue.Reply, error) {
	var serial atomic.Uint64
	serial.Store(1)
	return func(o *queue.Offer) (queue.Reply, error) {
		s.goOn(o.Job, job.Started, func(e *job.Event) { e.Host, e.Attempt = host, o.Attempt })
		s.goOn(o.Job, job.Completed, func(e *job.Event) { e.Host, e.Attempt = host, o.Attempt })
		_ = s.FinishSoon(o.Lease)
		state := queue.HostState{Host: host, Instance: "i", Serial: serial.Add(1), State: queue.Online, Slots: 1, Time: s.Now()}
		return queue.Reply{Answer: queue.Accepted, State: state.Abridged()}, nil
	}
}

// Without this rule such a host would keep every job that it is given.
func TestAHostThatBeginsNothingKeepsNoJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("hole", nil)
		swallow := s.swallows("hole")
		s.mu.Lock()
		s.agents["hole"] = swallow
		s.mu.Unlock()
		s.pass(0)
		for n := range 10 {
			s.submit(job.ID(fmt.Sprint("job-", n)))
		}
		s.submit("short", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(20 * time.Second) })
		s.pass(time.Second)
		s.want("chain of a job that was accepted", s.story("job-0"), "queued")
		s.host("good", s.completes("good"))
		s.pass(ackWait + 2*time.Second)
		for n := range 10 {
			id := job.ID(fmt.Sprint("job-", n))
			s.want("chain of "+string(id), s.story(id), "queued started completed")
		}
		s.want("chain of the one whose time was over", s.story("short"), "queued dead:expired")
		s.want("jobs left", s.left(), 0)
		rest := s.restOf("hole")
		if rest == nil || rest.Why != "11 jobs were given to it, and it has begun none of them" {
			t.Fatalf("hosts says of its rest: %+v", rest)
		}
		s.want("how long it rests", rest.Until.Sub(s.Now()).Round(10*time.Second), ackWait)
		s.submit("asked", func(spec *job.Spec) { spec.OnlyHosts = []string{"hole"} })
		s.pass(0)
		if why := s.whyOn("asked", "hole"); !strings.HasPrefix(why, "resting: resting until ") {
			t.Errorf("why says %q", why)
		}
	})
}

func (s *scene) restOf(host string) *queue.Rest {
	s.t.Helper()
	answer, err := call[queue.HostsAnswer](s.memory, "hosts", struct{}{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range answer.Hosts {
		if h.Host == host {
			return h.Resting
		}
	}
	return nil
}

// Each time it rests longer, and when it begins a job all is forgotten.
func TestAHostRestsLongerEachTimeUntilItBeginsAJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		honest := s.accepts("x")
		swallow := s.swallows("x")
		var begins atomic.Bool
		s.host("x", func(o *queue.Offer) (queue.Reply, error) {
			if begins.Load() {
				return honest(o)
			}
			return swallow(o)
		})
		s.submit("y")
		for _, rest := range []time.Duration{ackWait, 2 * ackWait, 4 * ackWait} {
			s.pass(ackWait + 2*time.Second)
			r := s.restOf("x")
			if r == nil {
				t.Fatal("it does not rest")
			}
			s.want("its rest", r.Until.Sub(s.Now()).Round(10*time.Second), rest)
			s.pass(r.Until.Sub(s.Now()) + time.Second)
		}
		begins.Store(true)
		s.pass(20 * time.Minute)
		if r := s.restOf("x"); r != nil {
			t.Errorf("it rests still: %+v", r)
		}
		if story := s.story("y"); !strings.HasSuffix(story, " started") {
			t.Errorf("the chain is %q", story)
		}
	})
}

// Its agent has acked the job that it was to begin.
func TestAJobThatItsHostHasAckedAndNotBegunEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("x", func(o *queue.Offer) (queue.Reply, error) {
			_ = s.FinishSoon(o.Lease)
			state := queue.HostState{Host: "x", Instance: "i", Serial: 2, State: queue.Online, Slots: 1, Time: s.Now()}
			return queue.Reply{Answer: queue.Accepted, State: state.Abridged()}, nil
		})
		s.submitAs("acme", 8, "y")
		s.pass(ackWait + 2*time.Second)
		s.want("chain", s.story("y"), "queued cancelled")
		end := s.lastOf("y")
		s.want("priority and workflow", fmt.Sprint(end.Priority, " ", end.Hash), fmt.Sprint(8, " ", hashOf(t, 1)))
	})
}

// Its chain moves on between the look at its promise and the lease.
func TestAJobThatGoesOnWhileItIsTakenBackIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, kind := range []job.EventKind{job.Waiting, job.Started, job.Cancelled} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				swallow := s.swallows("hole")
				s.host("hole", swallow)
				s.submit("y")
				s.pass(time.Second)
				s.host("good", s.completes("good"))
				s.meanwhile("secure", func() { s.goOn("y", kind) })
				s.pass(ackWait + 2*time.Second)
				s.want("chain", s.story("y"), "queued "+string(kind))
				s.want("offers elsewhere", s.done("offer y to good"), []string{})
			})
		})
	}
}

// Two offers without an answer may come from a machine that was frozen. An agent that does not answer and extends the lease has the
// job.
func TestAnOfferWithoutAnAnswerIsVoidToo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		swallow := s.swallows("hole")
		s.host("hole", func(o *queue.Offer) (queue.Reply, error) {
			_, _ = swallow(o)
			return silent(o)
		})
		s.submit("y")
		s.pass(3 * time.Second)
		s.host("good", s.completes("good"))
		s.pass(2*ackWait + 2*time.Second)
		s.want("chain", s.story("y"), "queued started completed")
		if r := s.restOf("hole"); r != nil {
			t.Errorf("it rests after one silence: %+v", r)
		}
	})
}

func TestAHostThatHasBegunItsJobsDoesNotRest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("x", s.accepts("x"))
		s.submit("y")
		s.pass(10 * ackWait)
		s.want("chain", s.story("y"), "queued started")
		if r := s.restOf("x"); r != nil {
			t.Errorf("it rests: %+v", r)
		}
	})
}

// No agent can begin a job while NATS is away, so the time for that begins anew when NATS is back.
func TestAHostHasTimeToBeginAJobAfterNATSWasAway(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		swallow := s.swallows("x")
		s.host("x", swallow)
		s.submit("y")
		s.pass(time.Second)
		s.cuts(map[string]error{"last y": errCut}) // when its promise is due
		s.pass(ackWait + 2*time.Second)
		if r := s.restOf("x"); r != nil {
			t.Errorf("it rests: %+v", r)
		}
		s.goOn("y", job.Started, func(e *job.Event) { e.Host, e.Attempt = "x", 1 })
		s.pass(2 * ackWait)
		s.want("chain", s.story("y"), "queued started")
		if r := s.restOf("x"); r != nil {
			t.Errorf("it rests although it has begun the job: %+v", r)
		}
	})
}
