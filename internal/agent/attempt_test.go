package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// An agent of another version finds the prompt again.
func TestThePromptIsNamedByTheJobAndItsAttempt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	secret, err := h.q.Secret(h.ctx, queue.PromptSecret)
	if err != nil {
		t.Fatal(err)
	}
	want := agent.PromptID(secret, &o, h.q.Created())
	if p := await(h, h.fake.posted, "the POST"); p.ID != want {
		t.Errorf("the prompt is %s, want %s", p.ID, want)
	}
	name := fmt.Sprintf("acme\x00one\x00%d\x00%d\x001", h.q.Created().UnixNano(), o.Message.Sequence)
	former := uuid.NewSHA1(uuid.MustParse("5b0f4c3e-7d0a-5f64-9a52-1f1c0e8f6d3b"), []byte(name)).String()
	if id := agent.FormerPromptID(&o, h.q.Created()); id != former {
		t.Errorf("its id was %s before there was a secret, want %s", id, former)
	}
}

// Only a dispatcher may overwrite what NATS has stored.
func TestAJobWithExtraDataGoesBackToBeErased(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one", ExtraData: json.RawMessage(`{"secret":"0123456789"}`)})
	back, acked := h.words(string(o.Lease), `-NAK {"delay":0}`), h.words(string(o.Lease), "+ACK")
	h.fake.returns(now(), &comfy.Result{Texts: map[string][]string{"2": {"the key is 0123456789"}}}, nil)
	h.accepted(o)
	if p := await(h, h.fake.posted, "the POST"); string(p.ExtraData) != `{"secret":"0123456789"}` {
		t.Errorf("the prompt has extra_data %s", p.ExtraData)
	}
	if done := h.event(o, job.Completed); len(done.Outputs) != 1 || done.Outputs[0].Text != "the key is [extra_data]" {
		t.Errorf("completed has %+v", done.Outputs)
	}
	await(h, back, "the job")
	if len(acked) > 0 {
		t.Error("the job was acked")
	}
	h.unacked(o)
}

// Nobody has read the job itself, whose file is missing, but its message may have secrets.
func TestAJobThatEndedUnreadGoesBackToBeErased(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	for id, more := range map[job.ID]string{"plain": "", "extra": `,"extra_data":{"secret":"0123456789"}`, "keys": `,"api_keys":true`} {
		o := h.queued(job.Spec{ID: id})
		o.Message.Body = []byte(`{"workflow_file":"acme/none.json"` + more + `}`)
		h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
		back, acked := h.words(string(o.Lease), `-NAK {"delay":0}`), h.words(string(o.Lease), "+ACK")
		h.accepted(o)
		if more == "" {
			await(h, acked, "the ack")
			continue
		}
		await(h, back, "the job")
		if len(acked) > 0 {
			t.Errorf("the job %s was acked", id)
		}
		h.unacked(o)
		h.wantChain(o, "queued cancelled")
	}
}

func TestAJobRunsFromTheOfferToTheAck(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{CachedNodes: []string{"1"}, NodeTimes: map[string]time.Duration{"2": time.Second}, Ran: 3 * time.Second}, nil)
	o := h.queued(job.Spec{ID: "one", Name: "a cat", Metadata: json.RawMessage(`{"a":1}`), IncludeOutputs: []string{"2"}})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	done := h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
	h.acked(o)

	started := h.event(o, job.Started)
	if started.Host != "gpu" || started.Attempt != 1 || started.PromptID != p.ID || started.Hash != o.Hash || string(started.Metadata) != `{"a":1}` {
		t.Errorf("started is %+v", started)
	}
	if started.Name != "a cat" || done.Name != "a cat" {
		t.Errorf("the job is called %q when it has started and %q in the end", started.Name, done.Name)
	}
	if done.RanFor != job.Duration(3*time.Second) || done.QueuedFor <= 0 || done.NodeTimes["2"] != job.Duration(time.Second) ||
		len(done.CachedNodes) != 1 || done.PromptID != p.ID {
		t.Errorf("completed is %+v", done)
	}
	if len(p.ExtraData) != 0 || len(p.Targets) != 1 || p.Start != time.Minute || p.Node != 10*time.Minute || p.Total != 0 {
		t.Errorf("the prompt is %+v", p)
	}
	if !strings.Contains(string(p.Workflow), `"filename_prefix":"comfyherd/`+p.ID+`/shot/pic"`) {
		t.Errorf("the workflow was posted as %s", p.Workflow)
	}
	var posted map[string]struct {
		Inputs struct {
			Seed *uint64 `json:"seed"`
		} `json:"inputs"`
	}
	if err := json.Unmarshal(p.Workflow, &posted); err != nil {
		t.Fatal(err)
	}
	if seed := posted["1"].Inputs.Seed; seed == nil || *seed != done.Seeds["1"] {
		t.Errorf("the seed is %v in the workflow and %v in the event", seed, done.Seeds)
	}
}

func TestOutputsAreStoredUnderTheirVisibleNames(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.set(func() {
		h.fake.perform = func(_ context.Context, p comfy.Prompt, _ comfy.Watch) (*comfy.Result, error) {
			return &comfy.Result{Outputs: []comfy.Output{
				{Node: "2", Media: "images", Filename: "pic_00001_.png", Subfolder: "comfyherd/" + p.ID + "/shot", Type: "output"},
				{Node: "2", Media: "gifs", Filename: "pic_00001_.png", Subfolder: `comfyherd\` + p.ID, Type: "temp"},
				{Node: "1", Media: "images", Filename: "in.png", Type: "input"},
			}}, nil
		}
	})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	done := h.event(o, job.Completed)
	want := []job.Output{
		{Node: "2", Media: "images", Filename: "pic_00001_.png", Subfolder: "shot", Type: "output", Object: "acme/one/2/pic_00001_.png", Size: 22, ContentType: "image/png"},
		{Node: "2", Media: "gifs", Filename: "pic_00001_.png", Type: "temp", Object: "acme/one/2/pic_00001_-2.png", Size: 22, ContentType: "image/png"},
		{Node: "1", Media: "images", Filename: "in.png", Type: "input"},
	}
	for i := range done.Outputs {
		if want[i].Object != "" && !strings.HasPrefix(done.Outputs[i].Digest, "SHA-256=") {
			t.Errorf("output %d has digest %q", i, done.Outputs[i].Digest)
		}
		done.Outputs[i].Digest, done.Outputs[i].Blake3 = "", ""
	}
	if diff := cmp.Diff(want, done.Outputs); diff != "" {
		t.Error(diff)
	}
	body, _, err := h.q.OpenOutput(h.ctx, "acme/one/2/pic_00001_.png")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if content, err := io.ReadAll(body); err != nil || string(content) != "picture pic_00001_.png" {
		t.Errorf("the picture holds %q, %v", content, err)
	}
}

func TestAResultTooLargeForOneEventFailsTheAttempt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Outputs: agent.OutputsNone})
	many := make([]comfy.Output, 12_000) // of about 100 bytes each, beyond NATS' 1 MiB
	for i := range many {
		many[i] = comfy.Output{Node: "2", Media: "images", Filename: "a_rather_long_name.png", Type: "output"}
	}
	h.fake.returns(now(), &comfy.Result{Outputs: many, NodeTimes: map[string]time.Duration{"1": 1}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.ExecutionError || !strings.Contains(e.Message, "12000 files") {
		t.Errorf("failed is %+v", e)
	}
}

func TestOutputsNoneLeavesThemOnTheHost(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Outputs: agent.OutputsNone})
	h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{{Node: "2", Media: "images", Filename: "a.png", Subfolder: "comfyherd/x", Type: "output"}}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	want := []job.Output{{Node: "2", Media: "images", Filename: "a.png", Subfolder: "comfyherd/x", Type: "output"}}
	if diff := cmp.Diff(want, h.event(o, job.Completed).Outputs); diff != "" {
		t.Error(diff)
	}
}

func TestAFailureCarriesTheLeaseAndIsNotAcked(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), nil, &failure.Failure{Kind: failure.OutOfMemory, Message: "too big", Node: "1", Class: "EmptyImage", Exception: "torch.OutOfMemoryError"})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	e := h.event(o, job.Failed)
	if e.Kind != failure.OutOfMemory || e.Node != "1" || e.Class != "EmptyImage" || e.Exception != "torch.OutOfMemoryError" ||
		e.Counted == nil || !*e.Counted || e.Size != 8*4*2 || e.Host != "gpu" || e.Attempt != 1 {
		t.Errorf("failed is %+v", e)
	}
	if got := h.last(o).Lease; got != o.Lease {
		t.Errorf("the lease in the event is %q, want %q", got, o.Lease)
	}
	await(h, h.fake.freed, "POST /free")
	h.unacked(o)
}

func TestACancelStopsThePromptAndNothingFollows(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	h.acked(o)
	h.wantChain(o, "queued started cancelled")
}

func TestACancelBeforeTheStartIsAckedAndNothingIsPosted(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	h.accepted(o)
	h.acked(o)
	h.wantChain(o, "queued cancelled")
	if n := len(h.fake.posted); n != 0 {
		t.Errorf("%d prompts were posted", n)
	}
}

func TestAnOvertakenStartDropsTheJob(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.append(o, job.Event{EventKind: job.Started, Host: "other", Attempt: 1, PromptID: "x"})
	h.dropped(o)
	h.wantChain(o, "queued started")
}

// dropped offers a job and waits until the agent has dropped it without an event, an ack or a prompt.
func (h *house) dropped(o queue.Offer) {
	h.t.Helper()
	states := hears[queue.HostState](h, "comfy.hosts.gpu.state")
	h.accepted(o)
	s := await(h, states, "the end of the run")
	for s.Ended == nil {
		s = await(h, states, "the end of the run")
	}
	if len(s.Running) > 0 || s.Ended.Job != o.Job || s.Ended.Success || s.Ended.Kind != "" {
		h.t.Errorf("the end was told as %+v, and %d jobs run", s.Ended, len(s.Running))
	}
	h.unacked(o)
	if n := len(h.fake.posted); n != 0 {
		h.t.Errorf("%d prompts were posted", n)
	}
}

func TestAnAttemptThatHasFailedMeanwhileIsNotStartedAgain(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	for _, e := range []job.Event{
		{EventKind: job.Started, Host: "b", Attempt: 1}, {EventKind: job.Failed, Host: "b", Attempt: 1, Kind: failure.ExecutionError},
		{EventKind: job.Retrying, Attempt: 2}, {EventKind: job.Waiting, Reason: "all_blocked"},
	} {
		h.append(o, e)
	}
	h.dropped(o) // an offer that a frozen agent reads only now
	h.wantChain(o, "queued started failed retrying waiting")
}

func TestAStaleRunMayStillCompleteButNotFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result *comfy.Result
		err    error
		chain  string
	}{
		"Completes": {&comfy.Result{}, nil, "queued started failed retrying started completed"},
		"Fails":     {nil, failure.New(failure.ExecutionError, "x"), "queued started failed retrying started"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			release := make(chan struct{})
			h.fake.returns(release, c.result, c.err)
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			await(h, h.fake.posted, "the POST")
			h.append(o, job.Event{EventKind: job.Failed, Host: "gpu", Attempt: 1, Kind: failure.Lost})
			h.append(o, job.Event{EventKind: job.Retrying, Attempt: 1})
			h.append(o, job.Event{EventKind: job.Started, Host: "other", Attempt: 2, PromptID: "x"})
			close(release)
			if c.err == nil {
				h.event(o, job.Completed)
				h.acked(o)
			} else {
				await(h, h.fake.cleared, "the removal of its files")
				h.stop()
				h.ended()
				h.unacked(o)
			}
			h.wantChain(o, c.chain)
		})
	}
}

func TestTheLoserOfTwoRunsStopsItsPrompt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.append(o, job.Event{EventKind: job.Started, Host: "other", Attempt: 2, PromptID: "x"})
	h.append(o, job.Event{EventKind: job.Completed, Host: "other", Attempt: 2, PromptID: "x"})
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	h.stop()
	h.ended()
	h.wantChain(o, "queued started started completed")
}

func TestATimeoutCancelsBeforeItFails(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), nil, failure.New(failure.Timeout, "slow"))
	total := job.Duration(7 * time.Second)
	o := h.queued(job.Spec{ID: "one", Timeouts: &job.Timeouts{Total: &total, Node: new(job.Duration)}})
	h.accepted(o)
	if p := await(h, h.fake.posted, "the POST"); p.Total != 7*time.Second || p.Node != 10*time.Minute || p.Start != time.Minute {
		t.Errorf("the limits are %s %s %s", p.Start, p.Node, p.Total)
	}
	h.event(o, job.Failed)
	if len(h.fake.cancelled) != 1 {
		t.Error("failed was appended before the prompt was cancelled")
	}
}

// A job that asks for no timeout has those of the agent.
func TestATimeoutOfAJobIsNoLongerThanTheAgents(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{StartTimeout: 20 * time.Second, NodeTimeout: time.Minute, TotalTimeout: 3 * time.Minute})
	h.fake.returns(now(), &comfy.Result{}, nil)
	never, longer, shorter := job.Duration(0), job.Duration(time.Hour), job.Duration(time.Second)
	for name, c := range map[string]struct {
		wish *job.Duration
		want [3]time.Duration
	}{
		"never":   {&never, [3]time.Duration{20 * time.Second, time.Minute, 3 * time.Minute}},
		"longer":  {&longer, [3]time.Duration{20 * time.Second, time.Minute, 3 * time.Minute}},
		"shorter": {&shorter, [3]time.Duration{time.Second, time.Second, time.Second}},
	} {
		o := h.queued(job.Spec{ID: job.ID(name), Timeouts: &job.Timeouts{Start: c.wish, Node: c.wish, Total: c.wish}})
		h.accepted(o)
		p := await(h, h.fake.posted, "the POST")
		if got := [3]time.Duration{p.Start, p.Node, p.Total}; got != c.want {
			t.Errorf("%s: the limits are %v, want %v", name, got, c.want)
		}
		h.event(o, job.Completed)
	}
}

func TestInputsAreUploadedUnderANameOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	if _, err := h.q.StoreInput(h.ctx, "acme/in/cat.png", "image/png", strings.NewReader("miau")); err != nil {
		t.Fatal(err)
	}
	o := h.queued(job.Spec{
		ID: "one", Workflow: json.RawMessage(`{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"11":{"class_type":"LoadImage","inputs":{}}}`),
		Inputs: []job.Input{
			{Node: "10", Input: "image", Object: "acme/in/cat.png", Filename: "../../etc/cat.png"},
			{Node: "11", Input: "image", URL: "data:image/png;base64,d3VmZg=="},
		},
	})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	folder := "comfyherd/" + p.ID
	if got, want := await(h, h.fake.uploaded, "the cat"), folder+"/0-cat.png: miau"; got != want {
		t.Errorf("uploaded %q, want %q", got, want)
	}
	if got, want := await(h, h.fake.uploaded, "the dog"), folder+"/1-input: wuff"; got != want {
		t.Errorf("uploaded %q, want %q", got, want)
	}
	want := `{"10":{"class_type":"LoadImage","inputs":{"image":"` + folder + `/0-cat.png"}},"11":{"class_type":"LoadImage","inputs":{"image":"` + folder + `/1-input"}}}`
	if diff := cmp.Diff(want, string(p.Workflow)); diff != "" {
		t.Error(diff)
	}
	h.event(o, job.Completed)
}
