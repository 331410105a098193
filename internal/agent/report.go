package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// overtaken is the error of an append after an event that is no longer the chain's last.
type overtaken struct{ by queue.Link }

func (o *overtaken) Error() string {
	return fmt.Sprintf("the job's last event is %s of host %q, attempt %d", o.by.EventKind, o.by.Host, o.by.Attempt)
}

// overtakenIn gives the *overtaken in err, nil without one.
func overtakenIn(err error) *overtaken {
	moved, _ := errors.AsType[*overtaken](err)
	return moved
}

// event makes lastEvent anew, and gives it to be filled in. Without a job (its body could not be read) it has what the offer says.
func (h *host) event(a *attempt, kind job.EventKind) *job.Event {
	e := &a.lastEvent
	*e = job.Event{
		EventKind: kind, Job: a.key.job, Tenant: a.tenant, Priority: a.offer.Message.Priority, Hash: a.offer.Hash, Time: h.q.Now().UTC(),
	}
	if a.job != nil {
		e.Name, e.Metadata, e.RequeueOf, e.Webhook, e.Traceparent = a.job.Name, a.job.Metadata, a.job.RequeueOf, a.job.Webhook, a.job.Traceparent
	}
	e.Host, e.Attempt = h.name, a.attempt
	return e
}

// complete appends completed and acks. The first completed event of a job counts, so that it is also appended to a chain that
// has gone on with another attempt: a dispatcher has taken this one for lost.
func (h *host) complete(kill context.Context, a *attempt) error {
	e := h.event(a, job.Completed)
	e.PromptID, e.Outputs, e.Seeds = a.prompt, a.outputs, a.seeds
	e.CachedNodes, e.OutputsReused = without(a.result.CachedNodes, a.prepared.Added), a.result.OutputsReused
	e.QueuedFor, e.RanFor = job.Duration(max(0, a.startedAt.Sub(a.job.Received))), job.Duration(a.ran)
	e.NodeTimes = durations(a.result.NodeTimes, a.prepared.Added)
	e.OutputsMissing, e.Message = a.result.Missing && len(a.outputs) == 0, blockerMessage(a.result.Blocked)
	for {
		_, err := h.append(kill, e, a.chain, "")
		if moved := overtakenIn(err); moved != nil && !moved.by.EventKind.Terminal() {
			h.log.Warn("completed although the job was started elsewhere meanwhile", "job", a.key, "last", moved.by.EventKind, "host", moved.by.Host)
			a.chain = moved.by.ChainSequence
			continue
		}
		if queue.TooLarge(err) && (e.NodeTimes != nil || e.CachedNodes != nil) {
			e.NodeTimes, e.CachedNodes = nil, nil
			continue
		}
		if queue.TooLarge(err) {
			return h.fail(kill, a, &failure.Failure{Kind: failure.ExecutionError, Exception: "too_many_outputs", Message: fmt.Sprintf(
				"the job made %d files, which do not fit into one event: make fewer at a time, or raise NATS' max_payload", len(a.outputs))})
		}
		if err != nil {
			return err
		}
		if h.logsJobs() {
			h.log.Info("completed", "job", a.key, "ran_for", a.ran, "outputs", len(a.outputs))
		}
		h.meters.completed.Inc()
		h.ack(a)
		return nil
	}
}

// fail appends failed. It extends the lease first, so that a dispatcher has another AckWait to settle the attempt.
func (h *host) fail(kill context.Context, a *attempt, f *failure.Failure) error {
	e := h.event(a, job.Failed)
	e.PromptID = a.prompt
	e.Kind, e.Message, e.Node, e.Class, e.Exception = f.Kind, f.Message, f.Node, f.Class, f.Exception
	e.Cause, e.Progress, e.NodeRan = f.Cause, min(1, max(0, f.Progress)), job.Duration(max(0, f.NodeRan))
	e.Waited, e.Proven = f.Waited, f.Proven
	counted := h.counts(kill, a, f)
	e.Counted = &counted
	e.Size = a.size()
	h.storeRecordOnce(kill, a)
	if !a.superseded.Load() {
		h.extend(a.currentLease())
	}
	if _, err := h.append(kill, e, a.chain, a.currentLease()); err != nil {
		return err
	}
	h.log.Warn("failed", "job", a.key, "kind", f.Kind, "message", f.Message, "node", f.Node, "class_type", f.Class)
	h.meters.ended("failed", f.Kind)
	return nil
}

// counts reports whether the attempt counts towards max_attempts. The chain is read only for kinds of which some attempts are
// free; when it cannot be read, the attempt is judged as if none had failed before.
func (h *host) counts(ctx context.Context, a *attempt, f *failure.Failure) bool {
	this := failure.Attempt{
		Number: a.attempt, Host: h.name, Kind: f.Kind, Message: f.Message, Node: f.Node, Class: f.Class, Exception: f.Exception,
		Cause: f.Cause, Progress: f.Progress, NodeRan: f.NodeRan, Waited: f.Waited, Proven: f.Proven,
	}
	var earlier []failure.Attempt
	if rule := f.Kind.Verdict().Counts; rule == failure.OnceFree || rule == failure.HostFree {
		ctx, cancel := context.WithTimeout(ctx, wireTimeout)
		defer cancel()
		chain, err := h.q.Chain(ctx, a.tenant, a.key.job)
		if err != nil {
			h.log.Warn("cannot read the events of a job; the attempt counts as the first", "job", a.key, "error", err)
		}
		for i := range chain {
			if chain[i].EventKind == job.Failed {
				earlier = append(earlier, chain[i].Failure())
			}
		}
	}
	return failure.Counts(append(earlier, this), len(earlier))
}

const (
	appendPause    = 100 * time.Millisecond
	maxAppendPause = 5 * time.Second
)

// append adds e to the job's chain after the event with the sequence last. It tries until NATS has answered, ctx is done
// (the error is its cause), or the drain time is over. An event that was stored by an earlier try, of which only the answer was
// lost, is a success. The error is an *overtaken when another process was first, or says that the event is TooLarge.
func (h *host) append(ctx context.Context, e *job.Event, last uint64, lease queue.Lease) (uint64, error) {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		sequence, err := h.appendOnce(ctx, e, last, lease)
		if err == nil || overtakenIn(err) != nil || queue.TooLarge(err) {
			return sequence, err
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		h.log.Warn("cannot append an event; trying again", "event", e.EventKind, "job", e.Job, "error", err, "in", wait)
		if err := h.wait(ctx, wait, nil); err != nil {
			return 0, err
		}
	}
}

// wait waits for d, or until sooner is closed. The error is the cause of ctx, or abandoned once the drain time is over.
func (h *host) wait(ctx context.Context, d time.Duration, sooner <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-sooner:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.overdue:
		return abandoned{}
	}
}

func (h *host) appendOnce(ctx context.Context, e *job.Event, last uint64, lease queue.Lease) (uint64, error) {
	sequence, err := h.q.Append(ctx, e, last, h.source, lease)
	if !errors.Is(err, queue.ErrOvertaken) {
		return sequence, err
	}
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	link, _, err := h.q.Last(ctx, e.Tenant, e.Job)
	if err != nil {
		return 0, err
	}
	if link.EventKind == e.EventKind && link.PromptID == e.PromptID && link.Attempt == e.Attempt && link.Host == e.Host {
		return link.ChainSequence, nil
	}
	return 0, &overtaken{link}
}

// last reads the job's last event. It tries until NATS has answered or ctx is done; then the error is its cause.
func (h *host) last(ctx context.Context, a *attempt) (queue.Link, error) {
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		once, cancel := context.WithTimeout(ctx, wireTimeout)
		link, _, err := h.q.Last(once, a.tenant, a.key.job)
		cancel()
		if err == nil {
			return link, nil
		}
		if !queue.Pause(ctx, wait) {
			return queue.Link{}, context.Cause(ctx)
		}
	}
}

// blockerMessage is the message of a completed event about nodes that an ExecutionBlocker kept from running.
func blockerMessage(messages []string) string {
	if len(messages) == 0 {
		return ""
	}
	return clip("nodes were blocked by the workflow: "+strings.Join(messages, "; "), maxMessage)
}

// maxMessage bounds a message in an event, in bytes.
const maxMessage = 2000

// clip cuts s after at most most bytes, between two characters.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// without leaves out the nodes that the agent has added to the workflow.
func without(nodes, added []string) []string {
	if len(added) == 0 {
		return nodes
	}
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return slices.Contains(added, n) })
}

func durations(times map[string]time.Duration, added []string) map[string]job.Duration {
	if len(times) == 0 {
		return nil
	}
	all := make(map[string]job.Duration, len(times))
	for node, d := range times {
		if !slices.Contains(added, node) {
			all[node] = job.Duration(d)
		}
	}
	return all
}
