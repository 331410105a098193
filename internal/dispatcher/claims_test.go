package dispatcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// far is a connection to NATS with a delay: what other dispatchers have done is seen a while later.
type far struct {
	*memory
	way time.Duration
}

func (f far) WatchTickets(ctx context.Context, tell func(queue.Change[queue.Ticket])) error {
	type late struct {
		c  queue.Change[queue.Ticket]
		at time.Time
	}
	under := make(chan late, 1<<16)
	go func() {
		for {
			select {
			case l := <-under:
				goBy(time.Until(l.at))
				tell(l.c)
			case <-ctx.Done():
				return
			}
		}
	}()
	return f.memory.WatchTickets(ctx, func(c queue.Change[queue.Ticket]) { under <- late{c, time.Now().Add(f.way)} })
}

// herd is several dispatchers.
type herd []*prometheus.Registry

// herd starts dispatchers that reach NATS with a delay.
func (s *scene) herd(n int, way time.Duration) herd {
	s.t.Helper()
	return s.herdOf(n, way, func(int, string) error { return nil })
}

// herdOf is herd in which effects of the dispatchers, by their number, may fail.
func (s *scene) herdOf(n int, way time.Duration, fault func(i int, effect string) error) herd {
	s.t.Helper()
	all := make(herd, n)
	for i := range all {
		all[i] = prometheus.NewRegistry()
		ctx, cancel := context.WithCancel(context.Background())
		wire := s.connect()
		wire.fault = func(effect string) error { goBy(way); return fault(i, effect) }
		d, err := dispatcher.NewOn(far{wire, way}, dispatcher.Config{Name: fmt.Sprint("d-", i), Registerer: all[i]})
		if err != nil {
			s.t.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			if err := d.Run(ctx, ctx); err != nil {
				s.t.Errorf("a dispatcher ended: %v", err)
			}
		}()
		s.atEnd(func() { cancel(); <-over })
	}
	s.pass(time.Second)
	return all
}

// claims counts what became of the claims of all.
func (h herd) claims(t *testing.T) (won, lost int) {
	t.Helper()
	for _, registry := range h {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() != "comfyherd_claims_total" {
				continue
			}
			for _, m := range family.GetMetric() {
				if m.GetLabel()[0].GetValue() == "won" {
					won += int(m.GetCounter().GetValue())
				} else {
					lost += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return won, lost
}

// With 20 dispatchers that see each other's claims a millisecond late.
func TestFewClaimsAreLost(t *testing.T) {
	t.Parallel()
	const jobs, hosts = 60, 20
	for name, c := range map[string]struct {
		runs  time.Duration // of hosts, at most
		fails bool          // the first attempt of each job
		edit  func(i int, now time.Time, spec *job.Spec)
	}{
		"when hosts are busy": {runs: 10 * time.Second},
		"when jobs are due at one moment": {runs: time.Second, edit: func(_ int, now time.Time, spec *job.Spec) {
			spec.RunAt = new(now.Add(10 * time.Second))
		}},
		"when jobs become due one by one": {runs: 100 * time.Millisecond, edit: func(i int, now time.Time, spec *job.Spec) {
			spec.RunAt = new(now.Add(10*time.Second + time.Duration(i)*100*time.Millisecond))
		}},
		"when failed jobs are tried elsewhere": {runs: time.Second, fails: true},
		"when failed jobs are tried later": {runs: 100 * time.Millisecond, fails: true, edit: func(_ int, _ time.Time, spec *job.Spec) {
			spec.RetryDelay = job.Duration(20 * time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				var failed sync.Map
				for i := range hosts {
					s.agent(&agent{name: fmt.Sprint("gpu-", i), answers: time.Millisecond, outcome: func(o *queue.Offer) outcome {
						will := outcome{takes: c.runs/2 + rand.N(c.runs/2)}
						if _, again := failed.LoadOrStore(o.Job, true); c.fails && !again {
							will.kind, will.message = failure.Transient, "not now"
						}
						return will
					}})
				}
				dispatchers := s.herd(20, time.Millisecond)
				for i := range jobs {
					s.submit(job.ID(fmt.Sprint("job-", i)), func(spec *job.Spec) {
						if c.edit != nil {
							c.edit(i, s.Now(), spec)
						}
					})
				}
				s.pass(70 * time.Second)
				s.want("jobs left", s.left(), 0)
				won, lost := dispatchers.claims(t)
				t.Logf("%s: %d claims won, %d lost", name, won, lost)
				if 10*lost > 3*won {
					t.Errorf("%d claims won, %d lost: more than 0.3 to one", won, lost)
				}
			})
		})
	}
}

// A dispatcher that lives and claims nothing, since it begins, stops or has broken, is home to a sixth of the hosts.
func TestHostsWhoseHomeClaimsNothingGetWaitingJobsFromTheOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for i := range 12 {
			s.agent(&agent{name: fmt.Sprint("gpu-", i), answers: time.Millisecond, outcome: func(*queue.Offer) outcome {
				return outcome{takes: time.Second}
			}})
		}
		s.herdOf(6, time.Millisecond, func(i int, effect string) error {
			if i == 0 && strings.HasPrefix(effect, "claim") {
				return errCut
			}
			return nil
		})
		for i := range 24 { // two for each host alone
			s.submit(job.ID(fmt.Sprint("job-", i)), func(spec *job.Spec) {
				spec.RunAt, spec.OnlyHosts = new(s.Now().Add(10*time.Second)), []string{fmt.Sprint("gpu-", i/2)}
			})
		}
		s.pass(10*time.Second + presenceTTL)
		s.want("jobs left", s.left(), 0)
	})
}

// Another dispatcher claims the ticket a moment earlier. Its lease is not touched, whatever else goes wrong.
func TestAJobThatAnotherDispatcherHasClaimedIsLeftToIt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]string{"AllIsRead": "none", "ItsChainCannotBeRead": "last x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				s.submit("x")
				s.pass(time.Second)
				ticket := s.tickets()[0]
				s.mu.Lock()
				s.cut = func(effect string) error {
					if strings.HasPrefix(effect, "claim ") {
						s.set(names.WaitingBucket, ticket.Key(), nil, -1)
					}
					if strings.HasPrefix(effect, fails) {
						return errCut
					}
					return nil
				}
				s.mu.Unlock()
				s.host("a", s.accepts("a"))
				s.pass(5 * time.Second)
				s.want("claims", len(s.done("claim ")), 1)
				s.want("offers", s.done("offer"), []string{})
				s.want("leases that are kept", s.done("secure"), []string{})
			})
		})
	}
}

// A dispatcher that was frozen puts the ticket after its job went elsewhere.
func TestTheLateTicketOfARunningJobDoesNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {takes: 10 * time.Minute}})
		sequence := s.submit("x")
		s.pass(time.Second)
		s.putTicket("x", sequence)
		s.runs("b", nil)
		s.pass(5 * time.Second)
		s.want("tickets", len(s.tickets()), 0)
		s.want("offers", len(s.done("offer")), 1)
		s.want("jobs", s.left(), 1)
	})
}

func TestAJobWhoseTimeIsOverEndsWithAllItsAttempts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.Transient, message: "not now"}})
		s.submit("x", func(spec *job.Spec) {
			spec.ExpiresIn, spec.RetryDelay = job.Duration(time.Minute), job.Duration(time.Hour)
		})
		s.pass(30 * time.Second)
		offers := len(s.done("offer"))
		s.failsOnceAt("chain x", 2) // the first is read with the ticket, the second for the end
		s.pass(2*ackWait + time.Minute)
		s.want("reason", s.lastOf("x").Reason, failure.Expired)
		s.want("attempts", len(s.lastOf("x").Attempts), 1)
		s.want("leases that were kept", len(s.done("secure")), 1)
		s.want("offers after its time", len(s.done("offer"))-offers, 0)
	})
}

func TestAWaitingJobThatHasEndedForItsReasonIsOfferedToNone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{CapableWait: 3 * time.Second})
		s.can("a", "SaveImage")
		s.runs("a", nil)
		s.submit("x")
		s.awaitEvent("x", job.Dead)
		s.runs("b", nil)
		s.pass(10 * time.Second)
		s.want("reason", s.lastOf("x").Reason, failure.NoCapableHost)
		s.want("offers", s.done("offer"), []string{})
	})
}

// Its delivery rests for long otherwise.
func TestACancelledJobThatCouldNotBeReadIsRemovedASecondLater(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		s.failsOnceAt("read 1", 1)
		if _, _, err := s.End(t.Context(), "acme", "x", queue.Cancelling{By: "acme"}); err != nil {
			t.Fatal(err)
		}
		s.pass(500 * time.Millisecond)
		s.want("jobs while it cannot be read", s.left(), 1)
		s.pass(time.Second)
		s.want("jobs", s.left(), 0)
	})
}
