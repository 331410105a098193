package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	healthyPause   = 5 * time.Second        // between two probes of a healthy ComfyUI
	surveyPause    = 30 * time.Second       // between two questions for the memory of a healthy ComfyUI
	unhealthyPause = time.Second            // between two probes of one that is not healthy
	foreignPause   = 500 * time.Millisecond // before a larger count of foreign prompts is believed: events of our own prompts may come out of order
)

// probeState is what the health loop keeps between two probes. Only that loop uses it.
type probeState struct {
	connected bool      // the websocket, at the last change
	surveyed  time.Time // when it was last asked for its memory
	seen      bool      // ComfyUI has answered, and neither an answer nor the socket has failed since: it is the same process
	process   string    // ComfyUI's at the last probe; empty when it cannot be identified
	probed    time.Time // when the probes that write something were last made

	wanted  bool          // the capability may have changed since it was read
	learned time.Time     // when it was last read
	took    time.Duration // how long that took
}

// healthLoop keeps what the admission has of ComfyUI up to date: whether it answers, its conditions, how many foreign
// prompts it has, and what it can run. It probes at once when the websocket connects or disconnects and when a run has failed.
//
// A host becomes unhealthy, or is put on trial, by a condition (condition.go). It comes from this loop when ComfyUI does not answer
// (look) or its log shows a dead worker thread (readLog, probes.go); from a run that has failed (takeOut, putOnTrial and
// doesNotStop, consequences.go); and from results that cannot be stored (unstorable, store.go). A condition ends by the probe of
// its cause (recheck and endCondition, probes.go) or with ComfyUI's process (otherProcess), and a trial also when a job of another
// workflow completes (passed, consequences.go).
func (h *host) healthLoop(ctx context.Context) error {
	if !h.restore(ctx) {
		return ctx.Err()
	}
	c := probeState{wanted: true}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := h.look(ctx, &c)
		if ctx.Err() == nil && !h.looked.Swap(true) {
			h.announce()
		}
		timer.Reset(next)
		if !h.idle(ctx, &c, timer, time.Now().Add(next)) {
			return ctx.Err()
		}
	}
}

// idle waits until a probe is due; false means that ctx is done.
func (h *host) idle(ctx context.Context, c *probeState, timer *time.Timer, due time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-h.probeNow:
			return true
		case <-h.comfy.Changed():
		case <-h.freed: // prompts that counted as ours until now may be foreign
		}
		s := h.comfy.State()
		if s.Connected != c.connected {
			c.connected = s.Connected
			c.seen = c.seen && s.Connected
			return true
		}
		if sooner := time.Now().Add(foreignPause); h.foreign(s.QueueRemaining) && sooner.Before(due) {
			due = sooner
			timer.Reset(foreignPause)
		}
		if c.wanted && h.admission.busy() == 0 {
			return true
		}
	}
}

// foreign takes in the length of ComfyUI's backlog. A smaller count of foreign prompts is believed at once. A larger one is believed
// only when a probe a moment later finds it too; doubt says that this probe is wanted.
func (h *host) foreign(remaining int) (doubt bool) {
	changed := h.admission.change(func(d *admission) {
		n := max(0, remaining-len(d.slotted))
		doubt = n > d.public.Foreign
		d.public.Foreign = min(n, d.public.Foreign)
	})
	if changed {
		h.broadcast(nil)
	}
	return doubt
}

// look probes ComfyUI and returns when to probe it again.
func (h *host) look(ctx context.Context, c *probeState) time.Duration {
	c.seen = c.seen && !h.admission.has(failure.Down) // a run may have found that it does not answer
	probe, err := h.probe(ctx, c)
	if ctx.Err() != nil {
		return unhealthyPause
	}
	if err != nil {
		c.seen = false
		h.set(func(d *admission) {
			d.conditions.put(condition{cause: failure.Down, reason: "ComfyUI does not answer: " + comfy.Reason(err), blame: blameOf(d.running())})
		})
		return unhealthyPause
	}
	h.recheck(ctx, c)
	h.set(func(d *admission) { d.public.Foreign = max(0, min(probe.Foreign, probe.QueueRemaining-len(d.slotted))) })
	h.readCapabilityWhenIdle(ctx, c, probe.QueueRemaining)
	h.endCondition(failure.Down) // after the capability was read
	if !h.admission.canRun() {
		return unhealthyPause
	}
	return min(healthyPause, h.cfg.LearnEvery)
}

// probe asks for the backlog. After an outage of ComfyUI, and then every surveyPause, it also asks for version, device and memory.
// When ComfyUI has answered before, an error of these further questions is ignored as long as it tells its backlog.
func (h *host) probe(ctx context.Context, c *probeState) (comfy.Probe, error) {
	if c.seen && time.Since(c.surveyed) < surveyPause {
		return h.comfy.Probe(ctx)
	}
	p, err := h.comfy.Survey(ctx)
	if err != nil && c.seen {
		p, err = h.comfy.Probe(ctx)
		c.surveyed = time.Now()
		return p, err
	}
	if err == nil {
		c.surveyed = time.Now()
		h.admission.change(func(d *admission) {
			d.public.Memory, d.public.Device, d.public.Version = int64(p.VRAMTotal), p.Device, p.Version
			d.public.Used = max(0, int64(p.VRAMTotal)-int64(p.VRAMFree))
		})
	}
	return p, err
}

// set changes the host's state and announces it if the part that dispatchers see has changed.
func (h *host) set(edit func(*admission)) {
	if h.admission.change(edit) {
		h.announce()
	}
}

// orphan records a prompt that may still run although no attempt waits for it.
func (h *host) orphan(prompt string) {
	h.orphans.add(prompt)
	signal(h.beatNow) // which stores it
	signal(h.probeNow)
}
