package agent

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// keptHashes is how many hashes that the host ran last its state has, and how many a condition keeps. Dispatchers count fewer of the
// former as warm (warmDepth in internal/route).
const keptHashes = 8

// admission decides which offers a host accepts, and nothing else does. It has the host's runs, slots and conditions. A run is in
// it from its acceptance to the end of its attempt, and frees its slot earlier, when ComfyUI no longer runs its prompt.
type admission struct {
	clock clock

	mu         sync.Mutex // guards all below
	public     queue.HostState
	runs       []*run
	slotted    []*run // of runs, those that hold a slot, oldest first
	conditions conditions
	stopping   bool   // the agent shuts down
	drained    bool   // an operator has drained the host
	drainedBy  string // the operator
	reading    bool   // the capability is read as soon as nothing runs
	watchers   []chan struct{}
}

// clock is NATS' time and how far this machine's clock is from it. *queue.Queue is the real one.
type clock interface {
	Now() time.Time
	ClockOff() time.Duration
}

func newAdmission(s queue.HostState, clock clock) *admission {
	return &admission{
		clock: clock, public: s,
		conditions: conditions{{cause: failure.Down, reason: "ComfyUI was not asked yet"}},
	}
}

// verdict is the admission's answer to an offer.
type verdict struct {
	answer queue.Answer
	reason string
	fresh  *run // the run to start; nil when the attempt is here already or was not accepted
}

// decide answers an offer; reserve makes the run of one that is accepted. A second offer of a run that is here only brings
// a newer lease. A resumed prompt is in ComfyUI already, so that it needs no free slot.
func (d *admission) decide(o *queue.Offer, reserve func() *run) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.find(o); known != nil {
		lease := o.Lease
		known.lease.Store(&lease)
		return verdict{answer: queue.Accepted}
	}
	if v := d.refusal(o); v.answer != "" {
		return v
	}
	r := reserve()
	d.runs = append(d.runs, r)
	d.slotted = append(d.slotted, r)
	d.remember(o.Hash)
	return verdict{answer: queue.Accepted, fresh: r}
}

// find gives the run of an offer's attempt, nil when it is not here. It must be called with mu held.
func (d *admission) find(o *queue.Offer) *run {
	k := keyOf(o)
	for _, r := range d.runs {
		if r.key == k {
			return r
		}
	}
	return nil
}

// refusal must be called with mu held.
func (d *admission) refusal(o *queue.Offer) verdict {
	k := keyOf(o)
	for _, other := range d.runs {
		if other.tenant == k.tenant && other.job == k.job {
			return verdict{answer: queue.Busy, reason: "another attempt of this job still runs here"}
		}
	}
	switch {
	case d.stopping:
		return verdict{answer: queue.Drain, reason: agentStopping{}.Error()}
	case o.Resume:
		return verdict{}
	case d.drained:
		return verdict{answer: queue.Drain, reason: drainReason}
	case d.conditions.worst() != nil:
		return verdict{answer: queue.Unfit, reason: d.conditions.worst().reason}
	case d.reading:
		return verdict{answer: queue.Busy, reason: "the host takes no job until the agent has read what ComfyUI can run"}
	}
	slots, prefetch := d.room()
	if o.FreeSlot {
		prefetch = 0
	}
	if len(d.slotted)+d.public.Foreign >= slots+prefetch {
		return verdict{answer: queue.Busy, reason: "all slots are taken"}
	}
	return verdict{}
}

// room is how many jobs the host may have now: one at a time while it is on trial, and no more than it has while its
// capability is to be read. It must be called with mu held.
func (d *admission) room() (slots, prefetch int) {
	switch {
	case d.conditions.onTrial() != nil:
		return 1, 0
	case d.reading:
		return max(1, len(d.slotted)), 0
	}
	return d.public.Slots, d.public.Prefetch
}

const drainReason = "drained by an operator"

// remember puts a hash first among the recent ones. It makes a new list, since states that were returned share the old
// one. It must be called with mu held.
func (d *admission) remember(hash workflow.Hash) {
	if len(d.public.Recent) > 0 && d.public.Recent[0] == hash {
		return
	}
	recent := make([]workflow.Hash, 1, keptHashes)
	recent[0] = hash
	for _, h := range d.public.Recent {
		if h != hash && len(recent) < keptHashes {
			recent = append(recent, h)
		}
	}
	d.public.Recent = recent
}

// unknown reports whether the offer's attempt is not here, and then calls begin. It is false once the agent shuts down.
func (d *admission) unknown(o *queue.Offer, begin func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping || d.find(o) != nil {
		return false
	}
	begin()
	return true
}

// free frees a run's slot. It reports whether the run had one, and whether the capability is to be read now.
func (d *admission) free(r *run) (held, read bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held = removeRun(&d.slotted, r)
	return held, d.reading && len(d.slotted) == 0
}

// removeRun removes r from runs and reports whether it was there.
func removeRun(runs *[]*run, r *run) bool {
	i := slices.Index(*runs, r)
	if i < 0 {
		return false
	}
	*runs = slices.Delete(*runs, i, i+1)
	return true
}

// remove removes a run whose attempt has ended.
func (d *admission) remove(r *run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	removeRun(&d.runs, r)
	if len(d.runs) > 0 {
		return
	}
	for _, w := range d.watchers {
		close(w)
	}
	d.watchers = nil
}

// empty gives a channel that is closed when no run is here.
func (d *admission) empty() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := make(chan struct{})
	if len(d.runs) == 0 {
		close(w)
	} else {
		d.watchers = append(d.watchers, w)
	}
	return w
}

// all gives the runs that are here.
func (d *admission) all() []*run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.runs)
}

// canRun reports whether ComfyUI can run something.
func (d *admission) canRun() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conditions.worst() == nil
}

// has reports whether there is a condition of the cause.
func (d *admission) has(cause failure.Cause) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conditions.of(cause) != nil
}

// busy counts the runs that hold a slot.
func (d *admission) busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.slotted)
}

// running is the run that has had its slot for longest, nil without any. It must be called with mu held.
func (d *admission) running() *run {
	if len(d.slotted) == 0 {
		return nil
	}
	return d.slotted[0]
}

// change edits the host's state under the lock and reports whether the part that dispatchers see has changed.
func (d *admission) change(edit func(*admission)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, foreign, reading := d.availability(), d.public.Foreign, d.reading
	edit(d)
	return d.availability() != before || d.public.Foreign != foreign || d.reading != reading
}

type availability struct {
	state  queue.Availability
	reason string
	cause  failure.Cause
	trial  bool
	blame  *queue.Blame // of an unhealthy host, if it is known
}

// availability must be called with mu held.
func (d *admission) availability() availability {
	worst, trial := d.conditions.worst(), d.conditions.onTrial()
	switch {
	case d.stopping:
		return availability{state: queue.Draining, reason: agentStopping{}.Error()}
	case d.drained:
		return availability{state: queue.Draining, reason: drainReason}
	case worst != nil:
		return availability{state: queue.Unhealthy, reason: worst.reason, cause: worst.cause, blame: worst.blame}
	case trial != nil:
		return availability{state: queue.Online, reason: trial.reason, cause: trial.cause, trial: true}
	}
	return availability{state: queue.Online}
}

// clockTolerance is how far this machine's clock may be from NATS' before that is reported.
const clockTolerance = time.Second

// state is the host's state as it is sent now. Each one has a higher serial than the one before.
func (d *admission) state() queue.HostState {
	off := d.clock.ClockOff()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.public.Serial++
	s := d.public
	a := d.availability()
	s.State, s.Reason, s.Cause, s.Trial, s.Blame, s.Time = a.state, a.reason, a.cause, a.trial, a.blame, d.clock.Now().UTC()
	s.Slots, s.Prefetch = d.room()
	if off.Abs() > clockTolerance {
		s.ClockOff = queue.Offset(off)
	}
	s.Running = make([]queue.RunningJob, 0, len(d.slotted))
	for _, r := range d.slotted {
		s.Running = append(s.Running, queue.RunningJob{
			Tenant: r.tenant, Job: r.job, Priority: r.offer.Message.Priority, Hash: r.offer.Hash, Attempt: r.attempt, Since: r.accepted,
		})
	}
	return s
}

// condition is the part of the state that is stored for the next agent.
func (d *admission) condition() queue.HostCondition {
	d.mu.Lock()
	defer d.mu.Unlock()
	stored := queue.HostCondition{Drained: d.drained, DrainedBy: d.drainedBy}
	if c := d.conditions.lasting(); c != nil {
		stored.Cause, stored.Reason, stored.Trial, stored.Hashes = c.cause, c.reason, c.trial, c.hashes
		stored.Process, stored.Blame = c.process, c.blame
	}
	return stored
}

// leases gives the leases to extend, and the shortest AckWait among all runs (0 without any). A lease has no time limit of
// its own: a run whose ComfyUI hangs is ended by the run's limits.
func (d *admission) leases() (held []queue.Lease, shortest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.runs {
		shortest = min(cmp.Or(shortest, r.offer.AckWait), r.offer.AckWait)
		if !r.superseded.Load() {
			held = append(held, r.currentLease())
		}
	}
	return held, shortest
}
