package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

const (
	wellPause    = 5 * time.Second        // between two looks at a ComfyUI that is well
	illPause     = time.Second            // at one that is not
	learnTimeout = time.Minute            // of one reading
	foreignPause = 500 * time.Millisecond // before more foreign work is believed: events of our own overtake each other
)

// checkup is what the health loop remembers between two looks; only that loop touches it.
type checkup struct {
	connected bool      // the websocket, at the last change
	lost      bool      // an answer or the socket failed since sick was noted: ComfyUI may have been restarted
	learned   time.Time // when the capability was last read; zero: read it at the next look
}

// healthLoop keeps the desk's view of ComfyUI true: whether it answers, how much of its backlog is strangers', what it
// can run. It looks at once when the websocket comes or goes and when a run met a failure.
func (h *host) healthLoop(ctx context.Context) error {
	var c checkup
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
			c.lost = c.lost || !s.Connected
			c.learned = time.Time{}
			return true
		}
		if sooner := time.Now().Add(foreignPause); h.foreign(s.QueueRemaining) && sooner.Before(due) {
			due = sooner
			timer.Reset(foreignPause)
		}
	}
}

// foreign takes in the length of ComfyUI's backlog. Fewer foreign prompts are believed at once; more have to stand
// a look a moment later, for which it asks with true.
func (h *host) foreign(remaining int) (doubt bool) {
	changed := h.desk.change(func(d *desk) {
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
	probe, err := h.probe(ctx, c)
	if ctx.Err() != nil {
		return illPause
	}
	if err != nil {
		c.lost, c.learned = true, time.Time{}
		h.set(func(d *desk) {
			if !d.sick {
				d.trouble = "ComfyUI does not answer: " + comfy.Reason(err)
			}
		})
		return illPause
	}
	if h.relearn.Swap(false) || time.Since(c.learned) >= h.cfg.LearnEvery {
		h.learn(ctx, c)
	}
	reason, wedged := h.wedged(ctx, c)
	stuck := h.cancelStrays(ctx)
	h.set(func(d *desk) {
		switch {
		case wedged:
			d.sick, d.trouble = true, reason
		case !d.sick || c.lost:
			d.sick, d.trouble = false, stuck
		}
		d.public.Foreign = min(probe.Foreign, max(0, probe.QueueRemaining-len(d.slotted)))
	})
	if !h.desk.well() {
		return illPause
	}
	c.lost = false
	return min(wellPause, h.cfg.LearnEvery)
}

// probe is the cheapest question that tells what is needed: the whole of it after ComfyUI came back.
func (h *host) probe(ctx context.Context, c *checkup) (comfy.Probe, error) {
	if !c.learned.IsZero() {
		return h.comfy.Probe(ctx)
	}
	p, err := h.comfy.Survey(ctx)
	if err == nil {
		h.desk.change(func(d *desk) {
			d.public.Memory, d.public.Device, d.public.Version = int64(p.VRAMTotal), p.Device, p.Version
		})
	}
	return p, err
}

// wedged looks for a dead worker thread when ComfyUI came back, and while it is known to be sick. A sick ComfyUI that
// was restarted has another log.
func (h *host) wedged(ctx context.Context, c *checkup) (string, bool) {
	if h.desk.well() && !c.lost {
		return "", false
	}
	reason, cause, err := h.comfy.Sick(ctx)
	sick := cause != ""
	if err != nil {
		h.log.Debug("cannot read ComfyUI's log", "error", err)
	}
	if err == nil {
		c.lost = c.lost && !sick
	}
	return reason, err == nil && sick
}

// learn reads the capability and stores it when another one stands there, or none: the bucket may have been lost or
// purged since. One that cannot be read is left as it was.
func (h *host) learn(ctx context.Context, c *checkup) {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	c.learned = time.Now()
	capability, err := h.comfy.Capability(ctx)
	if err != nil {
		h.log.Warn("cannot read what the host can run", "error", err)
		return
	}
	body, err := capability.MarshalBinary()
	if err == nil {
		err = h.storeCapability(ctx, body)
	}
	if err != nil {
		c.learned = time.Time{}
		h.log.Warn("cannot store what the host can run", "error", err)
	}
}

func (h *host) storeCapability(ctx context.Context, body []byte) error {
	stored, err := h.q.Capability(ctx, h.name)
	if err != nil || bytes.Equal(stored, body) {
		return err
	}
	if err := h.q.PutCapability(ctx, h.name, body); err != nil {
		return err
	}
	h.log.Info("stored what the host can run", "bytes", len(body))
	return nil
}

// set changes the host's state and tells it when others can see the difference.
func (h *host) set(edit func(*desk)) {
	if h.desk.change(edit) {
		h.announce()
	}
}

// lost and sick are told by a run. A lost ComfyUI is well again with its next answer, a sick one after a restart.
func (h *host) lost(reason string) {
	h.set(func(d *desk) {
		if d.trouble == "" {
			d.trouble = reason
		}
	})
	poke(h.examineNow)
}

func (h *host) sick(by *run, reason string) {
	h.log.Error("host is sick and takes no job until ComfyUI was restarted", "reason", reason)
	h.set(func(d *desk) { d.sick, d.trouble = true, reason })
	h.displace(by, reason)
	poke(h.examineNow)
}

// stuck is told of a prompt that does not stop. The host is well again when the prompt is gone, by itself or with
// its ComfyUI.
func (h *host) stuck(by *run, err error) {
	reason := stuckText + err.Error()
	h.log.Error("host takes no job until a prompt has stopped", "job", by.key, "prompt", by.prompt, "error", err)
	h.keepStray(by.prompt)
	h.set(func(d *desk) {
		if d.trouble == "" {
			d.trouble = reason
		}
	})
	h.displace(by, reason)
	poke(h.examineNow)
}

const stuckText = "a prompt does not stop, and nothing else runs until it does or ComfyUI was restarted: "

// displace sends the other runs elsewhere, which stand in line behind what ails the host.
func (h *host) displace(by *run, reason string) {
	for _, r := range h.desk.all() {
		if r != by && !r.reporting.Load() {
			r.end(&displaced{reason})
		}
	}
}

// stray remembers a prompt that may still come to run although nobody waits for it.
func (h *host) stray(prompt string) {
	h.keepStray(prompt)
	poke(h.examineNow)
}

func (h *host) keepStray(prompt string) {
	h.straysMu.Lock()
	defer h.straysMu.Unlock()
	h.strays = append(h.strays, prompt)
}

// strayTimeout is longer than a prompt whose POST had no answer may take to appear.
const strayTimeout = 4 * time.Second

// cancelStrays tells why the host cannot run anything, as long as one of them does not stop.
func (h *host) cancelStrays(ctx context.Context) (stuck string) {
	h.straysMu.Lock()
	strays := h.strays
	h.strays = nil
	h.straysMu.Unlock()
	for _, prompt := range strays {
		once, cancel := context.WithTimeout(ctx, strayTimeout)
		if err := h.comfy.Cancel(once, prompt); err != nil {
			h.keepStray(prompt)
			stuck = stuckText + err.Error()
		}
		cancel()
	}
	return stuck
}
