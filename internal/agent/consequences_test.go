package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// another is a workflow of another hash than saves.
const another = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":4,"batch_size":2}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`

func cuda() *failure.Failure {
	return &failure.Failure{Kind: failure.HostSick, Cause: failure.Poisoned, Message: "CUDA error: device-side assert triggered", Node: "1"}
}

// fails makes a job of a workflow end with a failure, and gives the event.
func (h *house) fails(id job.ID, workflow string, f *failure.Failure) job.Event {
	h.t.Helper()
	h.fake.returns(now(), nil, f)
	o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(workflow)})
	h.accepted(o)
	return h.event(o, job.Failed)
}

func (h *house) succeeds(id job.ID, workflow string) {
	h.t.Helper()
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(workflow)})
	h.accepted(o)
	h.event(o, job.Completed)
}

func (h *house) onTrial() {
	h.t.Helper()
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Online && s.Trial && s.Cause == failure.Poisoned && strings.Contains(s.Reason, "device-side assert") && s.Slots == 1 && s.Prefetch == 0
	})
}

func (h *house) well() {
	h.t.Helper()
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Online && !s.Trial && s.Cause == "" && s.Reason == "" && s.Blame == nil
	})
}

func (h *house) out(cause failure.Cause) (s queue.HostState) {
	h.t.Helper()
	h.awaitState("gpu", func(is queue.HostState) bool { s = is; return s.State == queue.Unhealthy && s.Cause == cause })
	return s
}

func TestAFailureThatSmellsOfTheHostPutsItOnTrialAndAnotherWorkflowClearsIt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	if e := h.fails("one", saves, cuda()); e.Kind != failure.HostSick || e.Cause != failure.Poisoned || e.Proven {
		t.Errorf("failed is %+v", e)
	}
	h.onTrial()
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	same, other := h.queued(job.Spec{ID: "same"}), h.queued(job.Spec{ID: "other", Workflow: json.RawMessage(another)})
	h.accepted(same)
	if r := h.offer(other); r.Answer != queue.Busy {
		t.Errorf("a second job on trial was answered %s", r.Answer)
	}
	close(release)
	h.event(same, job.Completed)
	h.onTrial() // that the workflow that failed completes proves nothing
	h.accepted(other)
	h.event(other, job.Completed)
	h.well()
	h.wantHostEvents("online")
}

func TestWhatCameFromTheCacheEndsNoTrial(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fails("one", saves, cuda())
	h.fake.returns(now(), &comfy.Result{OutputsReused: true}, nil)
	o := h.queued(job.Spec{ID: "two", Workflow: json.RawMessage(another)})
	h.accepted(o)
	h.event(o, job.Completed)
	h.onTrial()
	h.succeeds("three", another)
	h.well()
}

func TestTwoWorkflowsThatFailAlikeTakeTheHostOutUntilComfyUIIsAnotherProcess(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fails("one", saves, cuda())
	h.onTrial()
	if e := h.fails("again", saves, cuda()); e.Proven {
		t.Error("a workflow was its own witness")
	}
	if e := h.fails("two", another, cuda()); !e.Proven || e.Cause != failure.Poisoned {
		t.Errorf("the second workflow's failure is %+v", e)
	}
	s := h.out(failure.Poisoned)
	if s.Blame == nil || s.Blame.Job != "one" || !strings.Contains(s.Reason, "restart") {
		t.Errorf("the host is %+v", s)
	}
	next := h.queued(job.Spec{ID: "next"})
	if r := h.offer(next); r.Answer != queue.Unfit || !strings.Contains(r.Reason, "CUDA error") {
		t.Errorf("an offer was answered %+v", r)
	}
	// A lost answer and a lost websocket do not end the condition.
	h.fake.set(func() { h.fake.down, h.fake.state.Connected = errors.New("connection reset by peer"), false })
	h.out(failure.Down)
	h.fake.set(func() { h.fake.down, h.fake.state.Connected = nil, true })
	h.out(failure.Poisoned)
	h.fake.set(func() { h.fake.process, h.fake.state.Connected = "second", false })
	h.well()
	h.fake.returns(now(), &comfy.Result{}, nil)
	h.accepted(next)
	h.event(next, job.Completed)
	h.wantHostEvents("online unhealthy recovered")
}

func TestAProcessThatCannotBeToldIsTriedAgainAfterAnOutage(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{})
	h.fake.set(func() { h.fake.unnamed = errors.New("HTTP 404") })
	h.run()
	h.online()
	h.fails("one", saves, cuda())
	h.fails("two", another, cuda())
	h.out(failure.Poisoned)
	h.fake.set(func() { h.fake.down = errors.New("connection refused") })
	h.out(failure.Down)
	h.fake.set(func() { h.fake.down = nil })
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online && s.Trial })
}

func TestAFullDiskIsProvenByAProbeAndEndsWithRoom(t *testing.T) {
	t.Parallel()
	full := &failure.Failure{Kind: failure.HostSick, Cause: failure.DiskFull, Message: "[Errno 28] No space left on device"}
	h := start(t, agent.Config{})
	h.online()
	if e := h.fails("liar", saves, full); e.Proven {
		t.Errorf("room was there, and failed is %+v", e)
	}
	h.well()
	h.fake.set(func() { h.fake.full = fmt.Errorf("write a file: %w", comfy.ErrNoRoom) })
	if e := h.fails("one", another, full); !e.Proven || e.Cause != failure.DiskFull {
		t.Errorf("the disk was full, and failed is %+v", e)
	}
	if s := h.out(failure.DiskFull); s.Blame != nil || !strings.Contains(s.Reason, "free some space") {
		t.Errorf("the host is %+v", s)
	}
	h.fake.set(func() { h.fake.full = nil })
	h.well()
	h.succeeds("two", saves)
}

func TestARefusalByAProxyTakesTheHostOutOnlyWhenItRefusesOurOwnSubmitToo(t *testing.T) {
	t.Parallel()
	refused := failure.New(failure.Refused, "HTTP 403 in answer to the POST")
	h := start(t, agent.Config{})
	h.online()
	if e := h.fails("odd", saves, refused); e.Kind != failure.Refused || e.Proven {
		t.Errorf("ComfyUI takes submits, and failed is %+v", e)
	}
	h.well()
	h.fake.set(func() { h.fake.barred = errors.New("HTTP 401; check user and password of the host in COMFY_HOSTS") })
	if e := h.fails("plain", saves, refused); e.Kind != failure.Refused || !e.Proven || e.Cause != failure.Barred {
		t.Errorf("ComfyUI takes no submit, and failed is %+v", e)
	}
	if s := h.out(failure.Barred); s.Blame != nil || !strings.Contains(s.Reason, "check user and password") {
		t.Errorf("the host is %+v", s)
	}
	h.fake.set(func() { h.fake.barred = nil })
	h.well()
	h.succeeds("next", saves)
}

// timesOut runs a job into a timeout whose prompt does not stop, and another one behind it, of a tenant.
func (h *house) timesOut(log string, tenant job.Tenant) (one, behind queue.Offer) {
	h.t.Helper()
	release := make(chan struct{})
	h.fake.set(func() {
		h.fake.perform = func(ctx context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			w.Running()
			w.Progress(comfy.Progress{Node: "1", Class: "EmptyImage", Value: 5, Max: 20})
			<-release
			return nil, failure.New(failure.Timeout, "no progress for 10m")
		}
	})
	one, behind = h.queued(job.Spec{ID: "one"}), h.queuedBy(tenant, job.Spec{ID: "behind"})
	h.accepted(one)
	await(h, h.fake.posted, "the POST")
	h.fake.set(func() {
		h.fake.perform, h.fake.stuck, h.fake.sick = h.fake.waits, errors.New("it is still running"), log
	})
	h.accepted(behind)
	await(h, h.fake.posted, "the second POST")
	close(release)
	return one, behind
}

func TestATimeoutWhosePromptDoesNotStopIsASickHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log  string
		want failure.Cause
		cure func(f *fake)
	}{
		"ItRunsOn":        {"", failure.Stuck, func(f *fake) { f.stuck = nil }},
		"TheWorkerIsGone": {"the worker thread has died", failure.WorkerGone, func(f *fake) { f.process, f.sick, f.stuck, f.state.Connected = "second", "", nil, false }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{CancelTimeout: time.Second})
			h.online()
			one, behind := h.timesOut(c.log, "acme")
			e := h.event(one, job.Failed)
			if e.Kind != failure.HostSick || e.Cause != c.want || e.Proven || e.Node != "1" || e.Class != "EmptyImage" || e.Progress != 0.25 || e.NodeRan <= 0 {
				t.Errorf("failed is %+v", e)
			}
			if e := h.event(behind, job.Failed); e.Kind != failure.HostSick || e.Cause != c.want || !e.Proven {
				t.Errorf("the job behind it: failed is %+v", e)
			}
			if s := h.out(c.want); s.Blame == nil || s.Blame.Job != "one" {
				t.Errorf("the host is %+v", s)
			}
			h.fake.set(func() { c.cure(h.fake) })
			h.well()
		})
	}
}

func (h *house) restart(cfg agent.Config) {
	h.t.Helper()
	before, _, err := h.q.Host(h.ctx, "gpu")
	if err != nil {
		h.t.Fatal(err)
	}
	h.kill()
	h.ended()
	cfg.Hosts = []agent.HostConfig{{Name: "gpu", Comfy: h.fake}}
	a, err := agent.New(h.q, cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.a = a
	h.run()
	h.awaitState("gpu", func(s queue.HostState) bool { return s.Instance != before.Instance })
}

func TestWhatAilsAHostOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fails("one", saves, cuda())
	h.onTrial()
	h.restart(agent.Config{})
	h.onTrial()
	if e := h.fails("two", another, cuda()); !e.Proven {
		t.Errorf("after a restart of the agent the second workflow's failure is %+v", e)
	}
	h.out(failure.Poisoned)
	h.restart(agent.Config{})
	if s := h.out(failure.Poisoned); s.Blame == nil || s.Blame.Job != "one" {
		t.Errorf("after a restart of the agent the host is %+v", s)
	}
	h.kill()
	h.ended()
	h.fake.set(func() { h.fake.process = "second" }) // ComfyUI is restarted while no agent looks
	h.restart(agent.Config{})
	h.well()
	h.restart(agent.Config{})
	h.well()
}

func TestADrainedHostStaysDrainedWhenItsAgentRestarts(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	if r, err := h.q.Control(h.ctx, "gpu", queue.Control{Drain: true, By: "ann"}); err != nil || r.Answer != queue.Accepted || r.State.State != queue.Draining {
		t.Fatalf("drain was answered %+v, %v", r, err)
	}
	if c, err := h.q.Condition(h.ctx, "gpu"); err != nil || !c.Drained || c.DrainedBy != "ann" {
		t.Errorf("the condition that stands when drain was answered is %+v, %v", c, err)
	}
	h.restart(agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	if r := h.offer(o); r.Answer != queue.Drain {
		t.Errorf("after a restart an offer was answered %s", r.Answer)
	}
	if r, err := h.q.Control(h.ctx, "gpu", queue.Control{Resume: true}); err != nil || r.Reason != "" || r.State.State != queue.Online {
		t.Errorf("resume was answered %+v, %v", r, err)
	}
	h.restart(agent.Config{})
	h.well()
	h.accepted(o)
}

func TestResumeSaysWhyTheHostTakesNoJobsAllTheSame(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fails("one", saves, cuda())
	resume := func(want string) {
		t.Helper()
		if _, err := h.q.Control(h.ctx, "gpu", queue.Control{Drain: true}); err != nil {
			t.Fatal(err)
		}
		if r, err := h.q.Control(h.ctx, "gpu", queue.Control{Resume: true}); err != nil || !strings.HasPrefix(r.Reason, want) || !strings.Contains(r.Reason, "CUDA error") {
			t.Errorf("resume was answered %+v, %v", r, err)
		}
	}
	resume("it takes one job at a time: ")
	h.fails("two", another, cuda())
	resume("it is not drained any more, but takes no jobs: ")
	if r, err := h.q.Control(h.ctx, "gpu", queue.Control{}); err != nil || r.Answer != queue.Unfit {
		t.Errorf("a control that asks for nothing was answered %+v, %v", r, err)
	}
}

func TestAHostThatIsLostNamesTheJobThatItRan(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.down, h.fake.state.Connected = errors.New("connection refused"), false })
	if s := h.out(failure.Down); s.Blame == nil || s.Blame.Job != "one" || s.Blame.Tenant != "acme" || s.Blame.Hash != o.Hash {
		t.Errorf("the host is %+v", s)
	}
	h.fake.set(func() { h.fake.down, h.fake.state.Connected = nil, true })
	h.well()
}
