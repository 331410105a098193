package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// optionMissing is ComfyUI's name for a value that is not among the options of an input, which depend on what is installed.
const optionMissing = "value_not_in_list"

// consequences does on the host what a failure asks for, before the slot is given back, and returns the failure as it is
// to be reported: with what a probe of our own has found. Only facts that concern no job take a host out at once (docs/failures.md).
func (h *host) consequences(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	switch f.Kind {
	case failure.Timeout, failure.RejectedBusy:
		if err := h.cancel(kill, a.run); err != nil {
			return h.wontStop(kill, a, f, err)
		}
		poke(h.examineNow)
	case failure.OutOfMemory:
		ctx, cancel := context.WithTimeout(kill, wireTimeout)
		defer cancel()
		if err := h.comfy.Free(ctx); err != nil {
			h.log.Warn("cannot make ComfyUI free its memory", "error", err)
		}
	case failure.HostLost:
		h.stray(a.prompt)
		h.out(a.run, condition{cause: failure.Down, reason: f.Message})
	case failure.HostSick:
		return h.sick(kill, a, f)
	case failure.Refused:
		if f.Exception == optionMissing {
			h.learnSoon()
		}
		return h.barred(kill, a, f)
	case failure.Incapable:
		h.learnSoon()
	case failure.Interrupted, failure.Lost, failure.ExecutionError, failure.InvalidWorkflow, failure.Drained, failure.Transient:
	}
	return f
}

// sick asks the probe of what a failure smells of. Where there is none, a second workflow is the witness.
func (h *host) sick(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	proven := *f
	proven.Proven = true
	switch f.Cause {
	case failure.Poisoned:
		if !h.suspect(a.run, f) {
			return f
		}
		return &proven
	case failure.WorkerGone, failure.Stuck:
		if f.Cause == failure.Stuck {
			h.stray(a.prompt)
		}
		h.out(a.run, condition{cause: f.Cause, reason: f.Message})
		h.displace(a.run, f.Cause, f.Message)
		return f
	case failure.Down:
		h.stray(a.prompt)
		h.out(a.run, condition{cause: failure.Down, reason: f.Message})
		return f
	case failure.DiskFull, failure.Barred, failure.Unstorable:
	}
	if err := h.probeRoom(kill); noRoom(err) {
		h.out(a.run, condition{cause: failure.DiskFull, reason: "ComfyUI has no room to write results: " + err.Error() + "; free some space, the host comes back by itself"})
		proven.Cause = failure.DiskFull
		return &proven
	}
	return h.barred(kill, a, f)
}

// barred asks whether ComfyUI takes submits at all. A host of which something else answers them is out; otherwise it is
// this job alone that it would not have.
func (h *host) barred(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	err := h.probeSubmit(kill)
	if err == nil || kill.Err() != nil {
		return f
	}
	h.out(a.run, condition{cause: failure.Barred, reason: comfy.Reason(err)})
	proven := *f
	proven.Cause, proven.Proven = failure.Barred, true
	return &proven
}

// suspect puts the host on trial for a failure that only it may be to blame for, and reports whether that is proven by
// now: another workflow has failed in the same way.
func (h *host) suspect(by *run, f *failure.Failure) (proven bool) {
	c := condition{cause: f.Cause, process: h.processNow(), blame: blameOf(by), since: time.Now()}
	c.reason = "two workflows failed alike, so that ComfyUI's GPU context is unusable until ComfyUI is restarted: " + f.Message
	h.set(func(d *desk) {
		proven = d.ails.failedAlike(c, by.offer.Hash)
		if s := d.ails.of(f.Cause); s.trial {
			s.reason = "on trial: the next job of another workflow decides whether ComfyUI must be restarted: " + f.Message
		}
	})
	if proven {
		h.log.Error("the host takes no job until ComfyUI is restarted", "reason", c.reason, "job", by.key)
		h.displace(by, f.Cause, c.reason)
	} else {
		h.log.Warn("the host is on trial", "job", by.key, "reason", f.Message)
	}
	poke(h.beatNow) // the condition is stored with it
	return proven
}

// passed ends a trial with a job of another workflow that ended well. What came from ComfyUI's cache shows nothing.
func (h *host) passed(a *attempt) {
	if a.result.OutputsReused {
		return
	}
	ended := false
	h.set(func(d *desk) { ended = d.ails.passed(a.offer.Hash, a.running) })
	if ended {
		h.log.Info("the trial has ended well", "job", a.key)
		poke(h.beatNow)
	}
}

// out takes the host out. Its way back is the probe of the cause.
func (h *host) out(by *run, c condition) {
	c.since = time.Now()
	if tied(c.cause) || c.cause == failure.Down {
		c.process, c.blame = h.processNow(), blameOf(by)
	}
	h.log.Warn("the host takes no job", "cause", c.cause, "reason", c.reason, "job", by.key)
	h.set(func(d *desk) { d.ails.put(c) })
	poke(h.beatNow)
	poke(h.examineNow)
}

// cancel ends a run's prompt in ComfyUI. A POST that was cut off may still arrive, so that an unknown prompt is
// looked for twice. The error says that the prompt does not stop.
func (h *host) cancel(kill context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(kill, h.cfg.CancelPatience)
	defer cancel()
	standing, err := h.comfy.Find(ctx, r.prompt)
	if err == nil && standing == comfy.Unknown {
		queue.Pause(ctx, 200*time.Millisecond)
	}
	err = h.comfy.Cancel(ctx, r.prompt)
	if kill.Err() != nil {
		return nil // as a crash would leave it
	}
	return err
}

// wontStop takes the host out because of a prompt that keeps it from running anything else, for ever when the worker
// thread has died of a SystemExit, which leaves no other sign. It is what a timeout is reported as then.
func (h *host) wontStop(kill context.Context, a *attempt, f *failure.Failure, err error) *failure.Failure {
	cause, reason := h.blockedBy(kill, err)
	h.stray(a.prompt)
	h.out(a.run, condition{cause: cause, reason: reason})
	h.displace(a.run, cause, reason)
	node, progress, ran := a.at()
	found := &failure.Failure{
		Kind: failure.HostSick, Cause: cause, Message: fmt.Sprintf("%s; then %s", f.Message, reason),
		Node: f.Node, Class: f.Class, Progress: progress, NodeRan: ran,
	}
	if found.Node == "" {
		found.Node, found.Class = node.Node, node.Class
	}
	return found
}

// blockedBy says why a prompt does not stop.
func (h *host) blockedBy(kill context.Context, err error) (failure.Cause, string) {
	ctx, cancel := context.WithTimeout(kill, probeTimeout)
	defer cancel()
	if reason, cause, failed := h.comfy.Sick(ctx); failed == nil && cause != "" {
		return cause, reason
	}
	return failure.Stuck, stuckText + comfy.Reason(err)
}

// displace sends the other runs elsewhere, which stand in line behind what ails the host.
func (h *host) displace(by *run, cause failure.Cause, reason string) {
	for _, r := range h.desk.all() {
		if r == by || r.reporting.Load() {
			continue
		}
		why := reason
		if by == nil || r.tenant != by.tenant { // the reason may tell the failure of another tenant's job
			why = "the host can run nothing now: " + cause.Remedy().Sign
		}
		r.end(&displaced{cause, why})
	}
}
