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

// consequences does on the host what a failure asks for before the slot is freed, and returns the failure to report, with
// what the agent's own probe has found. Only facts that do not depend on a job make a host unhealthy at once (docs/failures.md).
func (h *host) consequences(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	switch f.Kind {
	case failure.Timeout, failure.RejectedBusy:
		if err := h.cancel(kill, a.run); err != nil {
			return h.doesNotStop(kill, a, f, err)
		}
		signal(h.probeNow)
	case failure.OutOfMemory:
		ctx, cancel := context.WithTimeout(kill, wireTimeout)
		defer cancel()
		if err := h.comfy.Free(ctx); err != nil {
			h.log.Warn("cannot make ComfyUI free its memory", "error", err)
		}
	case failure.HostLost:
		h.orphan(a.prompt)
		h.takeOut(a.run, condition{cause: failure.Down, reason: f.Message})
	case failure.HostSick:
		return h.sick(kill, a, f)
	case failure.Refused:
		if f.Exception == optionMissing {
			h.readCapabilitySoon()
		}
		return h.barred(kill, a, f)
	case failure.Incapable:
		h.readCapabilitySoon()
	case failure.Interrupted, failure.Lost, failure.ExecutionError, failure.InvalidWorkflow, failure.Drained, failure.Transient:
	}
	return f
}

// sick checks a failure that blames the host by the probe of its cause. A cause without a probe needs a second workflow
// that fails alike.
func (h *host) sick(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	proven := *f
	proven.Proven = true
	switch f.Cause {
	case failure.Poisoned:
		if !h.putOnTrial(a.run, f) {
			return f
		}
		return &proven
	case failure.WorkerGone, failure.Stuck:
		if f.Cause == failure.Stuck {
			h.orphan(a.prompt)
		}
		h.takeOut(a.run, condition{cause: f.Cause, reason: f.Message})
		h.displace(a.run, f.Cause, f.Message)
		return f
	case failure.Down:
		h.orphan(a.prompt)
		h.takeOut(a.run, condition{cause: failure.Down, reason: f.Message})
		return f
	case failure.DiskFull, failure.Barred, failure.Unstorable:
	}
	if err := h.probeRoom(kill); noRoom(err) {
		h.takeOut(a.run, condition{cause: failure.DiskFull, reason: "ComfyUI has no room to write results: " + err.Error() + "; free some space, the host comes back by itself"})
		proven.Cause = failure.DiskFull
		return &proven
	}
	return h.barred(kill, a, f)
}

// barred finds out by a submit of its own whether submits reach ComfyUI. If something else answers, the host is unhealthy;
// otherwise only this job was refused.
func (h *host) barred(kill context.Context, a *attempt, f *failure.Failure) *failure.Failure {
	err := h.probeSubmit(kill)
	if err == nil || kill.Err() != nil {
		return f
	}
	h.takeOut(a.run, condition{cause: failure.Barred, reason: comfy.Reason(err)})
	proven := *f
	proven.Cause, proven.Proven = failure.Barred, true
	return &proven
}

// putOnTrial puts the host on trial for a failure that its process may have caused, and reports whether that is proven:
// another workflow has failed in the same way.
func (h *host) putOnTrial(by *run, f *failure.Failure) (proven bool) {
	c := condition{cause: f.Cause, process: h.processNow(), blame: blameOf(by), since: time.Now()}
	c.reason = "two workflows failed alike, so that ComfyUI's GPU context is unusable until ComfyUI is restarted: " + f.Message
	h.set(func(d *admission) {
		proven = d.conditions.failedAlike(c, by.offer.Hash)
		if s := d.conditions.of(f.Cause); s.trial {
			s.reason = "on trial: the next job of another workflow decides whether ComfyUI must be restarted: " + f.Message
		}
	})
	if proven {
		h.log.Error("the host takes no job until ComfyUI is restarted", "reason", c.reason, "job", by.key)
		h.displace(by, f.Cause, c.reason)
	} else {
		h.log.Warn("the host is on trial: the next job of another workflow decides whether it is unhealthy", "job", by.key, "reason", f.Message)
	}
	signal(h.beatNow) // the condition is stored with it
	return proven
}

// passed ends a trial when a job of another workflow has completed. Results from ComfyUI's cache prove nothing.
func (h *host) passed(a *attempt) {
	if a.result.OutputsReused {
		return
	}
	ended := false
	h.set(func(d *admission) { ended = d.conditions.passed(a.offer.Hash, a.running) })
	if ended {
		h.log.Info("the host is not on trial any more: a job of another workflow has completed", "job", a.key)
		signal(h.beatNow)
	}
}

// takeOut makes the host unhealthy until the probe of the cause ends the condition.
func (h *host) takeOut(by *run, c condition) {
	c.since = time.Now()
	if endsWithProcess(c.cause) || c.cause == failure.Down {
		c.process, c.blame = h.processNow(), blameOf(by)
	}
	h.log.Warn("the host takes no job", "cause", c.cause, "reason", c.reason, "job", by.key)
	h.set(func(d *admission) { d.conditions.put(c) })
	signal(h.beatNow)
	signal(h.probeNow)
}

// cancel stops a run's prompt in ComfyUI. A POST that was cut off may still arrive, so that an unknown prompt is looked for
// twice. The error says that the prompt does not stop.
func (h *host) cancel(kill context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(kill, h.cfg.CancelTimeout)
	defer cancel()
	state, err := h.comfy.Find(ctx, r.prompt)
	if err == nil && state == comfy.Unknown {
		queue.Pause(ctx, 200*time.Millisecond)
	}
	err = h.comfy.Cancel(ctx, r.prompt)
	if kill.Err() != nil {
		return nil // as a crash would leave it
	}
	return err
}

// doesNotStop makes the host unhealthy because a prompt does not stop and nothing else can run. A worker thread that was ended by a
// SystemExit leaves no traceback in the log, so it may show only in this way. The failure that it returns is reported instead of
// the timeout.
func (h *host) doesNotStop(kill context.Context, a *attempt, f *failure.Failure, err error) *failure.Failure {
	cause, reason := h.whyNotStopped(kill, err)
	h.orphan(a.prompt)
	h.takeOut(a.run, condition{cause: cause, reason: reason})
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

// whyNotStopped says why a prompt does not stop.
func (h *host) whyNotStopped(kill context.Context, err error) (failure.Cause, string) {
	ctx, cancel := context.WithTimeout(kill, probeTimeout)
	defer cancel()
	if reason, cause, failed := h.comfy.Sick(ctx); failed == nil && cause != "" {
		return cause, reason
	}
	return failure.Stuck, stuckText(err)
}

// displace stops the other runs of a host that can run nothing now, so that other hosts run them.
func (h *host) displace(by *run, cause failure.Cause, reason string) {
	for _, r := range h.admission.all() {
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
