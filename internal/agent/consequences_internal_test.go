package agent

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func (p *probedHost) Find(context.Context, string) (comfy.PromptState, error) {
	return comfy.Running, nil
}

func (p *probedHost) Free(context.Context) error { p.freed++; return nil }

// outcome is what a failure has done to its host.
type outcome struct {
	Kind            failure.Kind // reported
	Cause           failure.Cause
	Proven          bool
	Host            failure.Cause // its worst condition
	Orphan          bool
	Relearn         bool
	Displaced       bool // another run of the host
	Cancels, Freed  int
	Rooms, Submits  int
	BlamedIfItIsOut bool
}

// What a failure does to its host decides whether the host gets further jobs.
func TestWhatFollowsFromAFailure(t *testing.T) {
	t.Parallel()
	proxy, goesOn := errors.New("a proxy answers"), errors.New("it goes on")
	for name, c := range map[string]struct {
		f    failure.Failure
		host probedHost
		want outcome
	}{
		"Timeout": {failure.Failure{Kind: failure.Timeout}, probedHost{}, outcome{Kind: failure.Timeout, Cancels: 1}},
		"Busy":    {failure.Failure{Kind: failure.RejectedBusy}, probedHost{}, outcome{Kind: failure.RejectedBusy, Cancels: 1}},
		"TimeoutThatGoesOn": {failure.Failure{Kind: failure.Timeout}, probedHost{stays: map[string]error{"p": goesOn}},
			outcome{Kind: failure.HostSick, Cause: failure.Stuck, Host: failure.Stuck, Orphan: true, Displaced: true, Cancels: 1, BlamedIfItIsOut: true}},
		"TimeoutOfADeadWorker": {failure.Failure{Kind: failure.Timeout}, probedHost{stays: map[string]error{"p": goesOn}, sick: failure.WorkerGone},
			outcome{Kind: failure.HostSick, Cause: failure.WorkerGone, Host: failure.WorkerGone, Orphan: true, Displaced: true, Cancels: 1, BlamedIfItIsOut: true}},
		"OutOfMemory": {failure.Failure{Kind: failure.OutOfMemory}, probedHost{}, outcome{Kind: failure.OutOfMemory, Freed: 1}},
		"Lost": {failure.Failure{Kind: failure.HostLost}, probedHost{},
			outcome{Kind: failure.HostLost, Host: failure.Down, Orphan: true, BlamedIfItIsOut: true}},
		"Down": {failure.Failure{Kind: failure.HostSick, Cause: failure.Down}, probedHost{},
			outcome{Kind: failure.HostSick, Cause: failure.Down, Host: failure.Down, Orphan: true, BlamedIfItIsOut: true}},
		"WorkerGone": {failure.Failure{Kind: failure.HostSick, Cause: failure.WorkerGone}, probedHost{},
			outcome{Kind: failure.HostSick, Cause: failure.WorkerGone, Host: failure.WorkerGone, Displaced: true, BlamedIfItIsOut: true}},
		"Stuck": {failure.Failure{Kind: failure.HostSick, Cause: failure.Stuck}, probedHost{},
			outcome{Kind: failure.HostSick, Cause: failure.Stuck, Host: failure.Stuck, Orphan: true, Displaced: true, BlamedIfItIsOut: true}},
		"DiskFull": {failure.Failure{Kind: failure.HostSick, Cause: failure.DiskFull}, probedHost{full: comfy.ErrNoRoom},
			outcome{Kind: failure.HostSick, Cause: failure.DiskFull, Proven: true, Host: failure.DiskFull, Rooms: 1}},
		"DiskFullByAnotherSign": {failure.Failure{Kind: failure.HostSick, Cause: failure.Barred}, probedHost{full: comfy.ErrNoRoom},
			outcome{Kind: failure.HostSick, Cause: failure.DiskFull, Proven: true, Host: failure.DiskFull, Rooms: 1}},
		"DiskWithRoom": {failure.Failure{Kind: failure.HostSick, Cause: failure.DiskFull}, probedHost{},
			outcome{Kind: failure.HostSick, Cause: failure.DiskFull, Rooms: 1, Submits: 1}},
		"DiskBehindAProxy": {failure.Failure{Kind: failure.HostSick, Cause: failure.DiskFull}, probedHost{full: proxy, barred: proxy},
			outcome{Kind: failure.HostSick, Cause: failure.Barred, Proven: true, Host: failure.Barred, Rooms: 1, Submits: 1}},
		"Refused": {failure.Failure{Kind: failure.Refused}, probedHost{}, outcome{Kind: failure.Refused, Submits: 1}},
		"RefusedByAProxy": {failure.Failure{Kind: failure.Refused}, probedHost{barred: proxy},
			outcome{Kind: failure.Refused, Cause: failure.Barred, Proven: true, Host: failure.Barred, Submits: 1}},
		"AnOptionIsMissing": {failure.Failure{Kind: failure.Refused, Exception: optionMissing}, probedHost{},
			outcome{Kind: failure.Refused, Relearn: true, Submits: 1}},
		"Incapable": {failure.Failure{Kind: failure.Incapable}, probedHost{}, outcome{Kind: failure.Incapable, Relearn: true}},
		"Raised":    {failure.Failure{Kind: failure.ExecutionError}, probedHost{}, outcome{Kind: failure.ExecutionError}},
	} {
		h := ailing(&c.host)
		h.cfg.CancelTimeout, h.probeNow = time.Minute, make(chan struct{}, 1)
		var other error
		mine := newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, func(error) { t.Errorf("%s: the run itself was stopped", name) })
		stored := newRun(&queue.Offer{Job: "three"}, "r", time.Time{}, func(error) { t.Errorf("%s: a run that ComfyUI has done was stopped", name) })
		stored.reporting.Store(true)
		h.admission.runs = []*run{mine, newRun(&queue.Offer{Job: "two"}, "q", time.Time{}, func(err error) { other = err }), stored}
		got := h.consequences(t.Context(), &attempt{run: mine}, &c.f)
		_, displaced := errors.AsType[*displaced](other)
		result := outcome{
			Kind: got.Kind, Cause: got.Cause, Proven: got.Proven, Relearn: h.relearn.Load(), Displaced: displaced,
			Orphan: slices.Equal(h.orphans.all(), []string{"p"}), Cancels: len(c.host.cancelled), Freed: c.host.freed, Rooms: c.host.rooms, Submits: c.host.submits,
		}
		if worst := h.admission.conditions.worst(); worst != nil {
			result.Host, result.BlamedIfItIsOut = worst.cause, worst.blame != nil && worst.blame.Job == "one"
		}
		if diff := cmp.Diff(c.want, result); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The node that ran last is where it did not stop.
func TestAFailureOfAPromptThatGoesOnNamesItsNode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ told, want failure.Failure }{
		"Told":   {failure.Failure{Node: "3", Class: "A"}, failure.Failure{Node: "3", Class: "A", Progress: 0.5}},
		"Untold": {failure.Failure{}, failure.Failure{Node: "7", Class: "B", Progress: 0.5}},
	} {
		p := &probedHost{}
		h := ailing(p)
		h.probeNow = make(chan struct{}, 1)
		a := &attempt{run: newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil), node: comfy.Progress{Node: "7", Class: "B", Value: 1, Max: 2}}
		got := h.doesNotStop(t.Context(), a, &c.told, errors.New("it goes on"))
		if got.Node != c.want.Node || got.Class != c.want.Class || got.Progress != c.want.Progress || got.NodeRan != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The first workflow that fails so may be at fault itself.
func TestAPoisonedHostIsProvenByASecondWorkflow(t *testing.T) {
	t.Parallel()
	h := ailing(&probedHost{})
	process, displacedTwo := "7", false
	h.process.Store(&process)
	one := newRun(&queue.Offer{Job: "one", Hash: "a"}, "p", time.Time{}, func(error) { displacedTwo = true })
	two := newRun(&queue.Offer{Job: "two", Hash: "b"}, "q", time.Time{}, nil)
	h.admission.runs = []*run{one, two}
	for _, step := range []struct {
		by     *run
		proven bool
	}{{one, false}, {one, false}, {two, true}} {
		f := &failure.Failure{Kind: failure.HostSick, Cause: failure.Poisoned, Message: "CUDA error"}
		got := h.consequences(t.Context(), &attempt{run: step.by}, f)
		c := h.admission.conditions.of(failure.Poisoned)
		if got.Proven != step.proven || c == nil || c.trial == step.proven || c.process != "7" || displacedTwo != step.proven || f.Proven {
			t.Errorf("after job %s it is proven: %t; the condition is %+v", step.by.job, got.Proven, c)
		}
	}
}

func TestFilesAreRemovedUnlessTheirPromptMayStillWriteThem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg    Config
		orphan string
		want   int
	}{
		"Ended": {Config{}, "another", 1}, "MayRun": {Config{}, "p", 0}, "Kept": {Config{KeepFiles: true}, "", 0}, "NotStored": {Config{Outputs: OutputsNone}, "", 0},
	} {
		p := &probedHost{}
		h := ailing(p)
		h.cfg = c.cfg
		h.orphans.add(c.orphan)
		if h.cleanUp(t.Context(), "p"); len(p.clearedPrompts) != c.want {
			t.Errorf("%s: the files of %q were removed", name, p.clearedPrompts)
		}
	}
}
