package agent

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	probeTimeout  = 10 * time.Second // of one question to ComfyUI
	probePause    = 3 * time.Second  // between two probes that write something
	orphanTimeout = 4 * time.Second  // longer than a prompt whose POST had no answer may take to appear
)

// recheck finds out for each condition whether it still holds, once ComfyUI answers. What ends a condition:
//
//	down         it answers
//	worker_gone  ComfyUI is another process
//	poisoned     ComfyUI is another process
//	stuck        the prompt is neither pending nor running
//	disk_full    a small file of ours can be written
//	barred       ComfyUI itself answers a submit of ours
//	unstorable   what could not be stored is (store.go)
func (h *host) recheck(ctx context.Context, c *probeState) {
	if !c.seen || h.admission.has(failure.WorkerGone) || h.admission.has(failure.Poisoned) || h.admission.has(failure.Stuck) {
		h.identify(ctx, c)
	}
	if h.cancelOrphans(ctx) {
		h.endCondition(failure.Stuck)
	}
	if time.Since(c.probed) < probePause {
		return
	}
	c.probed = time.Now()
	if h.admission.has(failure.DiskFull) && h.probeRoom(ctx) == nil {
		h.endCondition(failure.DiskFull)
	}
	if h.admission.has(failure.Barred) && h.probeSubmit(ctx) == nil {
		h.endCondition(failure.Barred)
	}
}

// endCondition removes a condition whose probe says that it does not hold any more.
func (h *host) endCondition(cause failure.Cause) {
	ended := false
	h.set(func(d *admission) { ended = d.conditions.remove(cause) })
	if ended {
		h.log.Info("a condition of the host has ended", "cause", cause)
		signal(h.beatNow)
	}
}

// identify finds out whether ComfyUI is still the same process, and in a new one whether the thread that runs prompts is
// alive. Where the process cannot be identified, a lost connection does not prove a restart: the condition of a poisoned GPU
// context, or the trial for it, stays.
func (h *host) identify(ctx context.Context, c *probeState) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	process, err := h.comfy.Process(ctx)
	if err != nil {
		process = ""
		h.log.Debug("cannot identify the process of ComfyUI", "error", err)
	}
	back := !c.seen
	c.seen = true
	if process != c.process || process == "" && back {
		c.wanted = true
		signal(h.beatNow)
	}
	c.process = process
	h.process.Store(&process)
	h.set(func(d *admission) {
		if process != "" {
			d.conditions.otherProcess(process)
		} else if p := d.conditions.of(failure.Poisoned); p != nil && back {
			p.trial = true
		}
	})
	if back || process == "" {
		h.readLog(ctx, process)
	}
}

// readLog looks for the traceback of a dead worker thread in ComfyUI's log.
func (h *host) readLog(ctx context.Context, process string) {
	reason, cause, err := h.comfy.Sick(ctx)
	switch {
	case err != nil:
		h.log.Debug("cannot read ComfyUI's log", "error", err)
	case cause == failure.WorkerGone:
		h.set(func(d *admission) {
			d.conditions.put(condition{cause: cause, reason: reason, process: process, since: time.Now()})
		})
	case process == "":
		h.endCondition(failure.WorkerGone)
	}
}

// cancelOrphans cancels the orphans and reports whether none is left. One that does not stop keeps ComfyUI from running
// anything else.
func (h *host) cancelOrphans(ctx context.Context) bool {
	for _, prompt := range h.orphans.all() {
		once, cancel := context.WithTimeout(ctx, orphanTimeout)
		err := h.comfy.Cancel(once, prompt)
		cancel()
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			h.orphans.remove(prompt)
			h.cleanUp(ctx, prompt)
			signal(h.beatNow)
			continue
		}
		h.set(func(d *admission) {
			if d.conditions.worst() == nil || d.conditions.worst().cause == failure.Stuck {
				d.conditions.put(condition{cause: failure.Stuck, reason: stuckText(err), process: h.processNow(), since: time.Now()})
			}
		})
	}
	return h.orphans.all() == nil
}

// stuckText is the reason of a condition; err is how the last try to stop the prompt ended.
func stuckText(err error) string {
	const text = "a prompt does not stop although it was asked to, and nothing else can run; restart ComfyUI if it never ends"
	if errors.Is(err, context.DeadlineExceeded) {
		return text
	}
	return text + " (" + comfy.Reason(err) + ")"
}

func (h *host) probeRoom(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return h.comfy.ProbeRoom(ctx)
}

func (h *host) probeSubmit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return h.comfy.ProbeSubmit(ctx)
}

// noRoom reports whether a probe says that ComfyUI's disk is full.
func noRoom(err error) bool { return errors.Is(err, comfy.ErrNoRoom) }

// processNow is ComfyUI's process at the last probe, empty when it could not be identified.
func (h *host) processNow() string {
	if p := h.process.Load(); p != nil {
		return *p
	}
	return ""
}
