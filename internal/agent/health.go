package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	wellPause    = 5 * time.Second        // between two looks at a ComfyUI that is well
	illPause     = time.Second            // at one that is not
	foreignPause = 500 * time.Millisecond // before more foreign work is believed: events of our own overtake each other
)

// checkup is what the health loop remembers between two looks; only that loop touches it.
type checkup struct {
	connected bool      // the websocket, at the last change
	seen      bool      // ComfyUI has answered, and neither an answer nor the socket has failed since: it is the same process
	process   string    // ComfyUI's, as it was last told; empty when it cannot be told
	probed    time.Time // when the probes that cost something were last made

	wanted  bool          // what ComfyUI can run may have changed since it was read
	learned time.Time     // when that was last read
	took    time.Duration // how long that took
}

// healthLoop keeps the admission's view of ComfyUI true: whether it answers, what conditions it, how much of its backlog is
// strangers', what it can run. It looks at once when the websocket comes or goes and when a run met a failure.
func (h *host) healthLoop(ctx context.Context) error {
	if !h.restore(ctx) {
		return ctx.Err()
	}
	c := checkup{wanted: true}
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

// idle waits until a look is due; false means that ctx ended.
func (h *host) idle(ctx context.Context, c *checkup, timer *time.Timer, due time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-h.examineNow:
			return true
		case <-h.comfy.Changed():
		case <-h.freed: // what counted as ours until now may be a stranger's
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

// foreign takes in the length of ComfyUI's backlog. Fewer foreign prompts are believed at once; more have to stand
// a look a moment later, for which it asks with true.
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

// look asks ComfyUI how it is, and returns when to ask again.
func (h *host) look(ctx context.Context, c *checkup) time.Duration {
	c.seen = c.seen && !h.admission.has(failure.Down) // a run may have lost it meanwhile
	probe, err := h.probe(ctx, c)
	if ctx.Err() != nil {
		return illPause
	}
	if err != nil {
		c.seen = false
		h.set(func(d *admission) {
			d.conditions.put(condition{cause: failure.Down, reason: "ComfyUI does not answer: " + comfy.Reason(err), blame: blameOf(d.running())})
		})
		return illPause
	}
	h.recheck(ctx, c)
	h.set(func(d *admission) { d.public.Foreign = min(probe.Foreign, max(0, probe.QueueRemaining-len(d.slotted))) })
	h.readCapabilityWhenIdle(ctx, c, probe.QueueRemaining)
	h.endCondition(failure.Down) // now that it is known what the host can run
	if !h.admission.well() {
		return illPause
	}
	return min(wellPause, h.cfg.LearnEvery)
}

// probe is the cheapest question that tells what is needed: the whole of it after ComfyUI came back.
func (h *host) probe(ctx context.Context, c *checkup) (comfy.Probe, error) {
	if c.seen {
		return h.comfy.Probe(ctx)
	}
	p, err := h.comfy.Survey(ctx)
	if err == nil {
		h.admission.change(func(d *admission) {
			d.public.Memory, d.public.Device, d.public.Version = int64(p.VRAMTotal), p.Device, p.Version
		})
	}
	return p, err
}

// set changes the host's state and tells it when others can see the difference.
func (h *host) set(edit func(*admission)) {
	if h.admission.change(edit) {
		h.announce()
	}
}

// stray remembers a prompt that may still come to run although nobody waits for it.
func (h *host) orphan(prompt string) {
	h.orphans.add(prompt)
	signal(h.beatNow) // which stores it
	signal(h.examineNow)
}
