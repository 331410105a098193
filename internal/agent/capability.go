package agent

import (
	"bytes"
	"context"
	"time"
)

const (
	readingTimeout = 3 * time.Minute // of one reading
	cheapReading   = time.Second     // what takes no longer harms nobody
	readingShare   = 20              // other readings take at most one part of so many of the time
)

// learnWhenIdle reads what ComfyUI can run when its process is another, when a refusal says that something has changed,
// and now and then while nothing is to be done. ComfyUI computes the answer beside nothing else, for tens of seconds on
// large installations, so that it is never asked while a prompt runs or waits. A host that is never idle takes no
// further job until it has been read, when a reading is wanted.
func (h *host) readCapabilityWhenIdle(ctx context.Context, c *checkup, backlog int) {
	dear := c.took > cheapReading && time.Since(c.learned) < readingShare*c.took
	if !dear && h.relearn.Swap(false) {
		c.wanted = true
	}
	due := c.wanted || !dear && time.Since(c.learned) >= h.cfg.LearnEvery
	idle := false
	h.set(func(d *admission) {
		idle = len(d.slotted) == 0 && backlog == 0
		d.reading = c.wanted && !idle && d.public.Foreign == 0
	})
	if due && idle {
		h.readCapability(ctx, c)
	}
}

// learnSoon asks for a reading after a refusal that says that something has changed.
func (h *host) readCapabilitySoon() {
	h.relearn.Store(true)
	signal(h.examineNow)
}

// learn reads the capability and stores it when another one stands there, or none: the bucket may have been lost or
// purged since. One that cannot be read is left as it was.
func (h *host) readCapability(ctx context.Context, c *checkup) {
	ctx, cancel := context.WithTimeout(ctx, readingTimeout)
	defer cancel()
	began := time.Now()
	capability, err := h.comfy.Capability(ctx)
	c.learned, c.took, c.wanted = time.Now(), time.Since(began), false
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

// storeCapability waits for NATS only as long as any call to it: one that was sent while NATS went down is never answered,
// and the host is not looked at meanwhile.
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
