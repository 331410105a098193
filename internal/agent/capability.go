package agent

import (
	"bytes"
	"context"
	"time"
)

const (
	readingTimeout = 3 * time.Minute // of one reading
	cheapReading   = time.Second     // a reading that takes no longer may be repeated at any time
	readingShare   = 20              // longer ones take at most this fraction of the time: one twentieth
)

// readCapabilityWhenIdle reads what ComfyUI can run: when its process is a new one, when a refusal says that something has
// changed, and every LearnEvery while it is idle. ComfyUI answers nothing else while it computes this, which takes tens of
// seconds on large installations, so that it is never asked while a prompt runs or waits. A host that is never idle accepts
// no further job until a reading that is wanted was made.
func (h *host) readCapabilityWhenIdle(ctx context.Context, c *probeState, backlog int) {
	costly := c.took > cheapReading && time.Since(c.learned) < readingShare*c.took
	if !costly && h.relearn.Swap(false) {
		c.wanted = true
	}
	due := c.wanted || !costly && time.Since(c.learned) >= h.cfg.LearnEvery
	idle := false
	h.set(func(d *admission) {
		idle = len(d.slotted) == 0 && backlog == 0
		d.reading = c.wanted && !idle && d.public.Foreign == 0
	})
	if due && idle {
		h.readCapability(ctx, c)
	}
}

// readCapabilitySoon asks for a reading after a refusal that says that something has changed.
func (h *host) readCapabilitySoon() {
	h.relearn.Store(true)
	signal(h.probeNow)
}

// readCapability reads the capability from ComfyUI and stores it if the stored one differs or is missing: the bucket may have
// been lost or purged. When ComfyUI does not give it, the stored one stays.
func (h *host) readCapability(alive context.Context, c *probeState) {
	ctx, cancel := context.WithTimeout(alive, readingTimeout)
	defer cancel()
	began := time.Now()
	var info answerBuffer
	capability, err := h.comfy.Capability(ctx, &info)
	c.learned, c.took, c.wanted = time.Now(), time.Since(began), false
	if err != nil {
		h.log.Warn("cannot read from ComfyUI what it can run", "error", err)
		return
	}
	body, err := capability.MarshalBinary()
	if err == nil {
		err = h.storeCapability(ctx, body)
	}
	if err != nil {
		c.learned = time.Time{}
		h.log.Warn("cannot store what the host can run", "error", err)
		return
	}
	h.catalogue(alive, &info)
}

// storeCapability has the deadline of every call to NATS: a call that is sent while NATS goes down is never answered, and
// the host is not probed meanwhile.
func (h *host) storeCapability(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
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
