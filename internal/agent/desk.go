package agent

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// keptHashes is how many hashes count as warm.
const keptHashes = 8

// desk is the only judge of a host's slots. It holds every run from "accepted" until its walk is over; a run gives
// its slot back earlier, when ComfyUI no longer runs its prompt.
type desk struct {
	capacity int // slots and prefetch together

	mu       sync.Mutex // guards all below
	public   jetstream.HostState
	runs     []*run
	slotted  []*run // of runs, those that hold a slot, oldest first
	trouble  string // why ComfyUI cannot run anything; empty when it can
	sick     bool   // trouble lasts until ComfyUI was restarted
	leaving  bool   // the agent shuts down
	drained  bool   // somebody asked for it by control
	watchers []chan struct{}
}

func newDesk(s jetstream.HostState) *desk {
	return &desk{capacity: s.Slots + s.Prefetch, public: s, trouble: "ComfyUI was not asked yet"}
}

// verdict is the desk's answer to an offer.
type verdict struct {
	answer jetstream.Answer
	reason string
	fresh  *run // to be walked; nil when the job is here already or was not accepted
}

// take decides about an offer; reserve makes the run when a slot is given. A second offer of a run that is here
// only brings a newer lease. A resumed prompt is in ComfyUI already, so it needs no free slot.
func (d *desk) take(o *jetstream.Offer, reserve func() *run) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.find(o); known != nil {
		lease := o.Lease
		known.lease.Store(&lease)
		return verdict{answer: jetstream.Accepted}
	}
	if v := d.refusal(o); v.answer != "" {
		return v
	}
	r := reserve()
	d.runs = append(d.runs, r)
	d.slotted = append(d.slotted, r)
	d.remember(o.Hash)
	return verdict{answer: jetstream.Accepted, fresh: r}
}

// find gives the run of an offer's attempt, nil when it is not here. It must be called with mu held, as all methods
// below that say so.
func (d *desk) find(o *jetstream.Offer) *run {
	k := keyOf(o)
	for _, r := range d.runs {
		if r.key == k {
			return r
		}
	}
	return nil
}

// refusal must be called with mu held.
func (d *desk) refusal(o *jetstream.Offer) verdict {
	k := keyOf(o)
	for _, other := range d.runs {
		if other.tenant == k.tenant && other.job == k.job {
			return verdict{answer: jetstream.Busy, reason: "another attempt of this job still runs here"}
		}
	}
	switch {
	case d.leaving:
		return verdict{answer: jetstream.Drain, reason: drained{}.Error()}
	case o.Resume:
		return verdict{}
	case d.drained:
		return verdict{answer: jetstream.Drain, reason: drainReason}
	case d.trouble != "":
		return verdict{answer: jetstream.Unfit, reason: d.trouble}
	case len(d.slotted)+d.public.Foreign >= d.capacity:
		return verdict{answer: jetstream.Busy, reason: "all slots are taken"}
	}
	return verdict{}
}

const drainReason = "drained by an operator"

// remember must be called with mu held. A state that was handed out keeps its list.
func (d *desk) remember(hash workflow.Hash) {
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

// unknown reports whether the offer's attempt is not here, and then calls begin; never once the agent shuts down.
func (d *desk) unknown(o *jetstream.Offer, begin func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaving || d.find(o) != nil {
		return false
	}
	begin()
	return true
}

// free gives a run's slot back and reports whether it held one.
func (d *desk) free(r *run) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return takeOut(&d.slotted, r)
}

// takeOut takes r out of runs and reports whether it was there.
func takeOut(runs *[]*run, r *run) bool {
	i := slices.Index(*runs, r)
	if i < 0 {
		return false
	}
	*runs = slices.Delete(*runs, i, i+1)
	return true
}

// leave forgets a run whose walk is over.
func (d *desk) leave(r *run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	takeOut(&d.runs, r)
	if len(d.runs) > 0 {
		return
	}
	for _, w := range d.watchers {
		close(w)
	}
	d.watchers = nil
}

// empty gives a channel that is closed when no run is here.
func (d *desk) empty() <-chan struct{} {
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
func (d *desk) all() []*run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.runs)
}

// well reports whether ComfyUI can run something.
func (d *desk) well() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble == ""
}

// busy counts the runs that hold a slot.
func (d *desk) busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.slotted)
}

// change edits the host's state under the lock and reports whether what others see of it changed.
func (d *desk) change(edit func(*desk)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, foreign := d.availability(), d.public.Foreign
	edit(d)
	return d.availability() != before || d.public.Foreign != foreign
}

type availability struct {
	state  jetstream.Availability
	reason string
}

// availability must be called with mu held.
func (d *desk) availability() availability {
	switch {
	case d.leaving:
		return availability{jetstream.Draining, drained{}.Error()}
	case d.drained:
		return availability{jetstream.Draining, drainReason}
	case d.trouble != "":
		return availability{jetstream.Unhealthy, d.trouble}
	}
	return availability{jetstream.Online, ""}
}

// state is what the host says of itself now. Every state has a higher serial.
func (d *desk) state() jetstream.HostState {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.public.Serial++
	s := d.public
	a := d.availability()
	s.State, s.Reason, s.Time = a.state, a.reason, time.Now().UTC()
	s.Running = make([]jetstream.RunningJob, 0, len(d.slotted))
	for _, r := range d.slotted {
		s.Running = append(s.Running, jetstream.RunningJob{
			Tenant: r.tenant, Job: r.job, Priority: r.offer.Message.Priority, Hash: r.offer.Hash, Attempt: r.attempt, Since: r.since,
		})
	}
	return s
}

// leases are those to extend, and the shortest AckWait among all runs (0 without any). While ComfyUI does not
// answer, only runs that no longer need it keep theirs.
func (d *desk) leases() (held []jetstream.Lease, shortest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.runs {
		shortest = min(cmp.Or(shortest, r.offer.AckWait), r.offer.AckWait)
		if !r.superseded.Load() && (d.trouble == "" || r.reporting.Load()) {
			held = append(held, r.currentLease())
		}
	}
	return held, shortest
}
