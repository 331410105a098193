package dispatcher_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// painter is a host with one slot that runs one workflow, holds one job more, and loads models before its first run.
type painter struct {
	s         *scene
	name      string
	load, run time.Duration
	answers   time.Duration // how long its answers are under way

	mu     sync.Mutex // guards all below
	serial uint64
	loaded []workflow.Hash
	jobs   []queue.Offer // the first one runs
	took   []time.Time   // when it took each
}

// painter has one online from now on.
func (s *scene) painter(p *painter) {
	p.s = s
	s.beat(p.state(nil))
	s.mu.Lock()
	s.agents[p.name] = p.offered
	s.mu.Unlock()
}

// state is what the host says of itself.
func (p *painter) state(ended *queue.EndedJob) queue.HostState {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	state := queue.HostState{
		Host: p.name, Instance: "i", Serial: p.serial, State: queue.Online, Slots: 1, Prefetch: 1, Time: p.s.Now(), Recent: p.loaded, Ended: ended,
	}
	for i, o := range p.jobs {
		state.Running = append(state.Running, queue.RunningJob{Tenant: "acme", Job: o.Job, Hash: o.Hash, Attempt: o.Attempt, Since: p.took[i]})
	}
	return state
}

func (p *painter) offered(o *queue.Offer) (queue.Reply, error) {
	p.mu.Lock()
	p.jobs, p.took = append(p.jobs, *o), append(p.took, p.s.Now())
	idle := len(p.jobs) == 1
	p.mu.Unlock()
	p.s.goOn(o.Job, job.Started, func(e *job.Event) { e.Host, e.Attempt = p.name, o.Attempt })
	if idle {
		go p.work()
	}
	reply := queue.Reply{Answer: queue.Accepted, State: p.state(nil)}
	goBy(p.answers)
	return reply, nil
}

// work runs what is there.
func (p *painter) work() {
	for more := true; more; {
		p.mu.Lock()
		o, took := p.jobs[0], p.run
		if len(p.loaded) == 0 {
			took += p.load
		}
		p.mu.Unlock()
		goBy(took)
		p.s.goOn(o.Job, job.Completed, func(e *job.Event) { e.Host = p.name })
		if err := p.s.FinishSoon(o.Lease); err != nil {
			p.s.t.Error(err)
		}
		p.mu.Lock()
		p.loaded, p.jobs, p.took = []workflow.Hash{o.Hash}, p.jobs[1:], p.took[1:]
		more = len(p.jobs) > 0
		p.mu.Unlock()
		state := p.state(&queue.EndedJob{Tenant: "acme", Job: o.Job, Hash: o.Hash, Priority: job.Usual, RanFor: job.Duration(took), Success: true})
		p.s.broadcast(state)
		state.Ended = nil
		p.s.beat(state)
	}
}

// Whenever the second one comes: while the answer to the offer of the first is under way, or while that runs.
func TestJobsWaitForTheirWarmHostWhenLoadingElsewhereTakesLonger(t *testing.T) {
	t.Parallel()
	for _, apart := range []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(apart.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				for _, name := range []string{"a", "b"} {
					s.painter(&painter{name: name, load: 12 * time.Second, run: 800 * time.Millisecond, answers: 40 * time.Millisecond})
				}
				s.dispatcher(dispatcher.Config{})
				for n := range 4 { // one cold run and three warm ones
					s.submit(job.ID(fmt.Sprint("alone-", n)), func(spec *job.Spec) { spec.OnlyHosts = []string{"a"} })
					s.pass(20 * time.Second)
				}
				for n := range 3 {
					s.submit(job.ID(fmt.Sprint("first-", n)))
					s.pass(apart)
					s.submit(job.ID(fmt.Sprint("second-", n)))
					s.pass(5 * time.Second)
				}
				offers := s.done("offer")
				s.want("offers", len(offers), 10)
				for _, offer := range offers {
					if !strings.HasSuffix(offer, " to a") {
						t.Errorf("%s, want the warm host for all", offer)
					}
				}
				s.want("jobs left", s.left(), 0)
			})
		})
	}
}
