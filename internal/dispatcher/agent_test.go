package dispatcher_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// agent is an agent that behaves as a real one does, as far as dispatchers can see: it begins a job behind the event that the offer
// names, keeps its lease, reports its end and acks it, ends it when it is cancelled, and knows which attempts run on it.
type agent struct {
	name     string
	instance string        // empty is i
	slots    int           // 0 is one
	prefetch int           // jobs that it takes beyond those that run
	answers  time.Duration // how long its answers are under way
	// outcome says how long a run takes and what comes of it. It is called when a run begins. Nil completes at once.
	outcome func(*queue.Offer) outcome

	s      *scene
	mu     sync.Mutex // guards all below
	serial uint64
	runs   []*run
	loaded []workflow.Hash
	begun  chan struct{} // closed when a run may have got a slot

	down context.Context //nolint:containedctx // ends when the simulated process does
}

// outcome is what comes of a run: it completes unless it has a kind.
type outcome struct {
	takes   time.Duration
	kind    failure.Kind
	message string
}

// run is an attempt that an agent has accepted.
type run struct {
	offer queue.Offer // with its newest lease
	since time.Time
	stop  chan struct{} // closed when its job was cancelled
}

// agent starts an agent, whose host is online from then on.
func (s *scene) agent(a *agent) *agent {
	a.s, a.slots, a.instance, a.begun = s, max(a.slots, 1), cmp.Or(a.instance, "i"), make(chan struct{})
	var end context.CancelFunc
	a.down, end = context.WithCancel(context.Background())
	s.atEnd(end)
	s.mu.Lock()
	s.agents[a.name], s.crash[a.name] = a.offered, end
	s.watches++
	s.memory.cancels[s.watches] = a.cancelled
	s.mu.Unlock()
	s.beat(a.state(nil))
	return a
}

// vanish ends an agent with its host, as the loss of the machine does.
func (s *scene) vanish(host string) {
	s.mu.Lock()
	s.crash[host]()
	delete(s.agents, host)
	delete(s.serve, host)
	s.mu.Unlock()
	s.set(names.HostsBucket, host, nil, -1)
}

func (a *agent) gone() bool { return a.down.Err() != nil }

// state is what the agent reports of its host.
func (a *agent) state(ended *queue.EndedJob) queue.HostState {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	state := queue.HostState{
		Host: a.name, Instance: a.instance, Serial: a.serial, State: queue.Online, Slots: a.slots, Prefetch: a.prefetch, Time: a.s.Now(),
		Recent: a.loaded, Ended: ended,
	}
	for _, r := range a.runs {
		state.Running = append(state.Running, queue.RunningJob{
			Tenant: job.Tenant(r.offer.Message.Tenant), Job: r.offer.Job, Hash: r.offer.Hash, Attempt: r.offer.Attempt, Since: r.since,
		})
	}
	return state
}

func (a *agent) offered(o *queue.Offer) (queue.Reply, error) {
	answer := a.take(o)
	state := a.state(nil)
	if answer == queue.Accepted {
		a.s.beat(state)
	}
	goBy(a.answers)
	return queue.Reply{Answer: answer, State: state.Abridged()}, nil
}

func (a *agent) take(o *queue.Offer) queue.Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.runs {
		if r.offer.Job != o.Job || r.offer.Message.Tenant != o.Message.Tenant {
			continue
		}
		if r.offer.Attempt != o.Attempt {
			return queue.Busy
		}
		r.offer.Lease = o.Lease
		return queue.Accepted
	}
	switch {
	case o.Resume:
		return queue.NotThere
	case len(a.runs) >= a.slots+a.prefetch:
		return queue.Busy
	}
	r := &run{offer: *o, since: a.s.Now(), stop: make(chan struct{})}
	a.runs = append(a.runs, r)
	go a.walk(r)
	return queue.Accepted
}

func (a *agent) cancelled(e job.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.runs {
		if r.offer.Job == e.Job && r.offer.Message.Tenant == string(e.Tenant) {
			select {
			case <-r.stop:
			default:
				close(r.stop)
			}
		}
	}
}

// walk begins a run, and ends it.
func (a *agent) walk(r *run) {
	var ended *queue.EndedJob
	chain := a.append(r, &job.Event{EventKind: job.Started}, r.offer.LastInChain)
	if chain != 0 && a.slot(r) {
		will := outcome{}
		if a.outcome != nil {
			will = a.outcome(&r.offer)
		}
		if a.keep(r, will.takes) {
			ended = a.finish(r, will, chain)
		}
	}
	a.mu.Lock()
	a.runs = slices.DeleteFunc(a.runs, func(x *run) bool { return x == r })
	if ended != nil && ended.Success {
		a.loaded = []workflow.Hash{r.offer.Hash}
	}
	close(a.begun)
	a.begun = make(chan struct{})
	a.mu.Unlock()
	if !a.gone() {
		state := a.state(ended)
		a.s.broadcast(state)
		state.Ended = nil
		a.s.beat(state)
	}
}

// append gives the sequence of an event, and 0 when the job was decided elsewhere.
func (a *agent) append(r *run, e *job.Event, last uint64) uint64 {
	lease := a.lease(r)
	e.Job, e.Tenant, e.Priority, e.Hash = r.offer.Job, job.Tenant(r.offer.Message.Tenant), r.offer.Message.Priority, r.offer.Hash
	e.Host, e.Attempt, e.Time = a.name, r.offer.Attempt, a.s.Now()
	if e.EventKind != job.Failed {
		lease = ""
	}
	sequence, err := a.s.Append(context.Background(), e, last, "", lease)
	if errors.Is(err, queue.ErrOvertaken) {
		moved, found, err := a.s.Last(context.Background(), e.Tenant, e.Job)
		if err == nil && found && moved.EventKind == job.Waiting && e.EventKind == job.Started {
			return a.append(r, e, moved.ChainSequence) // the event behind which it was to begin was followed only by another reason why it waits
		}
	}
	return sequence
}

// slot waits for one; false when the run is cancelled, or its host gone.
func (a *agent) slot(r *run) bool {
	for {
		a.mu.Lock()
		has, changed := slices.Index(a.runs, r) < a.slots, a.begun
		a.mu.Unlock()
		if has {
			return true
		}
		if !a.wait(r, changed) {
			return false
		}
	}
}

// keep keeps the lease for as long as the run takes.
func (a *agent) keep(r *run, takes time.Duration) bool {
	over := make(chan struct{})
	timer := time.AfterFunc(takes, func() { close(over) })
	defer timer.Stop()
	return a.wait(r, over)
}

// wait waits for something, keeping the lease; false when the run is cancelled, which is acked, or its host is gone.
func (a *agent) wait(r *run, until <-chan struct{}) bool {
	extend := time.NewTicker(a.s.ackWait / 3)
	defer extend.Stop()
	for {
		select {
		case <-until:
			return !a.gone()
		case <-a.down.Done():
			return false
		case <-r.stop:
			_ = a.s.FinishSoon(a.lease(r))
			return false
		case <-extend.C:
			_ = a.s.Extend(a.lease(r))
		}
	}
}

func (a *agent) lease(r *run) queue.Lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	return r.offer.Lease
}

// finish reports the end of a run.
func (a *agent) finish(r *run, will outcome, chain uint64) *queue.EndedJob {
	ended := &queue.EndedJob{
		Tenant: job.Tenant(r.offer.Message.Tenant), Job: r.offer.Job, Hash: r.offer.Hash, Priority: r.offer.Message.Priority,
		RanFor: job.Duration(will.takes), Success: will.kind == "", Kind: will.kind,
	}
	if ended.Success {
		if a.append(r, &job.Event{EventKind: job.Completed}, chain) != 0 {
			_ = a.s.FinishSoon(a.lease(r))
		}
		return ended
	}
	_ = a.s.Extend(a.lease(r))
	counted := true
	a.append(r, &job.Event{EventKind: job.Failed, Kind: will.kind, Message: will.message, Counted: &counted}, chain)
	return ended
}
