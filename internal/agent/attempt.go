package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// attempt is a run with what its goroutine has found out about it. Only that goroutine uses it.
type attempt struct {
	*run
	job       *job.Job // its id is in key: the dispatcher has read headers that the offer does not carry
	startedAt time.Time
	chain     uint64            // sequence of the started event
	prepared  workflow.Prepared // for this run
	seeds     map[string]uint64 // as in the started event
	running   time.Time         // since when
	ran       time.Duration     // on the GPU
	outputs   []job.Output
	result    *comfy.Result
	record    string // what ComfyUI's history says of the run; empty unless the job asks for it
	live      live
	drawn     uint64         // seeds
	lastEvent job.Event      // the newest event of this attempt, as it was or will be stored
	node      comfy.Progress // newest
	nodeSince time.Time      // of its node
}

// runAttempt takes a job from its acceptance to the end of the attempt. kill is cancelled when the process ends or NATS is closed
// for good, and then everything is left as by a crash. ctx is cancelled then too, and when the run has to stop. Order of
// effects, and what a crash after each one does:
//
//  1. follow the job's chain: nothing
//  2. append started: the lease runs out; the attempt is offered back, unknown to ComfyUI, and is lost
//  3. upload the inputs: the same; the files stay under a name that nobody else uses
//  4. POST, run: the lease runs out; the attempt is offered back and its prompt resumed, also when it has ended
//  5. free the slot: the same
//  6. store the outputs: the same; they are stored again under the same names
//  7. append completed: the job is delivered again, its chain has ended, and it is acked
//  8. ack: nothing but files that stay on the host
//  9. remove the prompt's files from the host: the same
//
// After a failure, 4 is followed by: cancel the prompt and wait until it has stopped, free the slot, append failed with
// the lease. A crash before that event is as above; after it a dispatcher settles the attempt.
func (h *host) runAttempt(kill, ctx context.Context, r *run) {
	defer h.admission.remove(r)
	defer h.comfy.Discard(r.prompt)
	a := &attempt{run: r, live: live{host: h, run: r}}
	defer r.end(nil)
	h.follow(kill, r) // 1
	defer h.unfollow(r)
	err := h.begin(ctx, a) // 2
	if err == nil {
		err = h.runPrompt(ctx, a) // 3, 4
	}
	if kill.Err() != nil {
		return
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // what failed did so because the run was stopped
		}
		err = h.handleError(kill, a, err)
	}
	r.reporting.Store(true)
	if err == nil {
		h.passed(a)
		err = h.storeResults(ctx, a) // 5, 6
	}
	h.freeSlot(a, err)
	if h.conclude(kill, a, err) { // 7, 8
		h.cleanUp(kill, a.prompt) // 9
	}
}

// begin reads the job and appends started, unless it is resumed: then the chain's last event is its started.
func (h *host) begin(ctx context.Context, a *attempt) error {
	a.chain, a.startedAt = a.offer.LastInChain, h.q.Now()
	message, err := h.withFile(ctx, a.offer.Message)
	if err != nil {
		return err
	}
	j, err := job.Parse(message)
	if err != nil {
		return failure.New(failure.InvalidWorkflow, err.Error())
	}
	a.job = j
	if a.offer.Resume {
		return h.confirmStarted(ctx, a)
	}
	if err := refuseJobFiles(j); err != nil {
		return err
	}
	if err := h.prepare(a, nil); err != nil {
		return err
	}
	a.seeds = a.prepared.Seeds
	e := h.event(a, job.Started)
	e.PromptID, e.Seeds = a.prompt, a.seeds
	sequence, err := h.append(ctx, e, a.chain, "")
	for moved := overtakenIn(err); moved != nil && h.onlyWaited(ctx, a, moved); moved = overtakenIn(err) {
		a.chain = moved.by.ChainSequence
		sequence, err = h.append(ctx, e, a.chain, "")
	}
	switch {
	case queue.TooLarge(err):
		return failure.New(failure.InvalidWorkflow, fmt.Sprintf(
			"the random seeds of %d nodes do not fit into one event: give these nodes seeds other than -1, or raise NATS' max_payload", len(a.seeds)))
	case err != nil:
		return err // a.chain is unchanged; failed is appended after it
	}
	a.chain = sequence
	if h.logsJobs() {
		h.log.Info("started", "job", a.key, "hash", a.offer.Hash.Short(), "prompt", a.prompt)
	}
	return nil
}

// onlyWaited reports whether the events since the offer only say why the job waits. An attempt that was started and has
// failed meanwhile, while this agent was frozen, must not be started again.
func (h *host) onlyWaited(ctx context.Context, a *attempt, moved *overtaken) bool {
	if moved.by.EventKind != job.Waiting {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	chain, err := h.q.Chain(ctx, a.tenant, a.key.job)
	if err != nil {
		h.log.Warn("cannot read the events of a job", "job", a.key, "error", err)
		return false
	}
	return !slices.ContainsFunc(chain, func(link queue.Link) bool {
		return link.ChainSequence > a.offer.LastInChain && link.EventKind != job.Waiting
	})
}

// confirmStarted makes sure that the open started event of the chain is that of this run.
func (h *host) confirmStarted(ctx context.Context, a *attempt) error {
	link, err := h.last(ctx, a)
	if err != nil {
		return err
	}
	if link.EventKind != job.Started || link.PromptID != a.prompt {
		return &overtaken{link}
	}
	a.chain, a.startedAt, a.seeds = link.ChainSequence, link.Time, link.Seeds
	h.log.Info("resumed", "job", a.key, "hash", a.offer.Hash.Short(), "prompt", a.prompt)
	return nil
}

// runPrompt uploads the inputs and runs the prompt.
func (h *host) runPrompt(ctx context.Context, a *attempt) error {
	var inputs map[string]map[string]string
	if !a.offer.Resume {
		var err error
		if inputs, err = h.uploadInputs(ctx, a); err != nil {
			return err
		}
	}
	if a.offer.Resume || len(inputs) > 0 {
		if err := h.prepare(a, inputs); err != nil {
			return err
		}
	}
	if err := h.addAPIKeys(ctx, a); err != nil {
		return err
	}
	prompt := comfy.Prompt{
		ID: a.prompt, Workflow: a.prepared.Body, ExtraData: a.job.ExtraData, Targets: a.job.IncludeOutputs, Resume: a.offer.Resume,
	}
	prompt.Start, prompt.Node, prompt.Total = h.limits(a.job.Timeouts)
	defer a.live.stop()
	var err error
	secrets := job.Secrets(a.job.ExtraData)
	watch := comfy.Watch{Running: func() { a.running = time.Now() }, Progress: a.progress, Preview: a.live.preview}
	if a.job.Frames() {
		watch.Frame = a.live.frame
		if len(secrets) > 0 {
			a.live.hide = hide(secrets)
		}
	}
	a.result, err = h.comfy.Run(ctx, prompt, watch)
	h.readRecord(ctx, a, secrets, err)
	if err == nil {
		a.ran = a.result.Ran
	}
	redact(secrets, a.result, err)
	if a.ran == 0 && !a.running.IsZero() {
		a.ran = time.Since(a.running)
	}
	return err
}

// prepare makes the workflow of this run from the job's. It draws the same seeds each time.
func (h *host) prepare(a *attempt, inputs map[string]map[string]string) error {
	a.drawn = 0
	var err error
	a.prepared, err = a.job.Graph.Prepare(workflow.Preparation{
		Seed: a.drawSeed, SeedLimit: h.comfy.SeedLimit, Prefix: outputPrefix(a.prompt), Has: h.comfy.Has, Inputs: inputs, Spell: h.spell,
	})
	if err != nil {
		return failure.New(failure.InvalidWorkflow, err.Error())
	}
	if len(a.prepared.Unlinked) > 0 {
		h.log.Info("the filename_prefix that another node gives was replaced by a fixed one, since this ComfyUI has no node that joins texts", "job", a.key, "nodes", a.prepared.Unlinked)
	}
	return nil
}

func (a *attempt) progress(p comfy.Progress) {
	if p.Node != a.node.Node {
		a.nodeSince = time.Now()
	}
	a.node = p
	a.live.progress(p)
}

// at is the node that was running last, how far it was (0 to 1), and for how long it had run.
func (a *attempt) at() (node comfy.Progress, progress float64, ran time.Duration) {
	if a.node.Max > 0 {
		progress = min(1, max(0, float64(a.node.Value)/float64(a.node.Max)))
	}
	if !a.nodeSince.IsZero() {
		ran = time.Since(a.nodeSince)
	}
	return a.node, progress, ran
}

// limits are the job's timeouts, none of which is longer than the agent's own: 0s asks for as long as the agent allows.
func (h *host) limits(t *job.Timeouts) (start, node, total time.Duration) {
	start, node, total = h.cfg.StartTimeout, h.cfg.NodeTimeout, h.cfg.TotalTimeout
	if t == nil {
		return start, node, total
	}
	for _, limit := range []struct {
		wished *job.Duration
		set    *time.Duration
	}{{t.Start, &start}, {t.Node, &node}, {t.Total, &total}} {
		if limit.wished == nil || *limit.wished <= 0 {
			continue
		}
		if wished := time.Duration(*limit.wished); *limit.set == 0 || wished < *limit.set {
			*limit.set = wished
		}
	}
	return start, node, total
}

// handleError does on the host what an error asks for before the slot is freed, and returns the error to report. The prompt
// of a run that the agent stops is cancelled, and has stopped when it returns.
func (h *host) handleError(kill context.Context, a *attempt, err error) error {
	_, stopped := errors.AsType[*jobEnded](err)
	_, away := errors.AsType[*displaced](err)
	switch {
	case stopped || away || errors.Is(err, agentStopping{}):
		if still := h.cancel(kill, a.run); still != nil {
			_ = h.doesNotStop(kill, a, failureOf(err), still) // its failure is not used: what is reported is why the run was stopped
		}
		return err
	case overtakenIn(err) != nil: // nothing was sent
		return err
	}
	return h.consequences(kill, a, failure.As(err))
}

// freeSlot frees the slot, once, and broadcasts that the run has left ComfyUI.
func (h *host) freeSlot(a *attempt, err error) {
	held, read := h.admission.free(a.run)
	if read {
		signal(h.probeNow)
	}
	if held {
		loads := a.modelLoads()
		h.meters.freed(a.since, a.ran, loads)
		h.broadcast(&queue.EndedJob{
			Tenant: a.tenant, Job: a.key.job, Priority: a.offer.Message.Priority, Hash: a.offer.Hash,
			Size: a.size(), RanFor: job.Duration(a.ran), Success: err == nil, Kind: endedAs(err),
			Loads: loads,
		})
		if h.comfy.State().QueueRemaining > 0 {
			signal(h.freed)
		}
	}
}

// conclude appends completed (complete, which also acks) or failed (fail). A job whose chain others have ended is acked here. It reports whether nothing of the prompt is needed any more.
func (h *host) conclude(kill context.Context, a *attempt, err error) (over bool) {
	if stopped, is := errors.AsType[*jobEnded](err); is {
		h.ackEnded(a, stopped.by)
		return true
	}
	if err == nil {
		err = h.complete(kill, a)
	} else if overtakenIn(err) == nil && !errors.Is(err, abandoned{}) {
		err = h.fail(kill, a, failureOf(err))
	}
	switch moved := overtakenIn(err); {
	case moved == nil:
		return err == nil
	case moved.by.EventKind.Terminal():
		h.ackEnded(a, moved.by.EventKind)
	default:
		h.log.Warn("the attempt was dropped: another process has gone on with the job", "job", a.key, "last", moved.by.EventKind, "host", moved.by.Host)
		h.meters.ended("dropped", "")
	}
	return true
}

// endedAs is the kind of the failed event that will follow; empty when none will.
func endedAs(err error) failure.Kind {
	if _, stopped := errors.AsType[*jobEnded](err); err == nil || stopped || overtakenIn(err) != nil || errors.Is(err, abandoned{}) {
		return ""
	}
	return failureOf(err).Kind
}

// failureOf is what a failed event says of the error that ended a run.
func failureOf(err error) *failure.Failure {
	if errors.Is(err, agentStopping{}) {
		return failure.New(failure.Drained, "the agent was shut down before the job had ended")
	}
	if away, is := errors.AsType[*displaced](err); is {
		return &failure.Failure{Kind: failure.HostSick, Cause: away.cause, Message: away.Error(), Proven: true}
	}
	return failure.As(err)
}

// size is the job's, 0 when its body could not be read.
func (a *attempt) size() int64 {
	if a.job == nil {
		return 0
	}
	return a.job.Graph.Size()
}

// ackEnded acks a job whose chain was ended by another process.
func (h *host) ackEnded(a *attempt, by job.EventKind) {
	h.log.Info("the attempt was stopped: the job has ended", "job", a.key, "by", by)
	outcome := "dropped"
	if by == job.Cancelled {
		outcome = "cancelled"
	}
	h.meters.ended(outcome, "")
	h.ack(a)
}
