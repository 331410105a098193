package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func (h *house) stored(object string) string {
	h.t.Helper()
	body, _, err := h.q.OpenOutput(h.ctx, object)
	if err != nil {
		h.t.Fatal(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(content)
}

func TestTextsAreOutputsAndLongOnesAreStored(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	just, long := strings.Repeat("ä", 2048), strings.Repeat("y", 4097)
	h.fake.returns(now(), &comfy.Result{Texts: map[string][]string{"10": {"ten"}, "2": {just, long}}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	got := h.event(o, job.Completed).Outputs
	if len(got) != 3 || !strings.HasPrefix(got[1].Digest, "SHA-256=") {
		t.Fatalf("the outputs are %+v", got)
	}
	got[1].Digest, got[1].Blake3 = "", ""
	const plain = "text/plain; charset=utf-8"
	want := []job.Output{
		{Node: "2", Media: "text", Filename: "text.txt", Type: "output", Size: 4096, ContentType: plain, Text: just},
		{Node: "2", Media: "text", Filename: "text.txt", Type: "output", Size: 4097, ContentType: plain, Object: "acme/one/2/text.txt"},
		{Node: "10", Media: "text", Filename: "text.txt", Type: "output", Size: 3, ContentType: plain, Text: "ten"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if h.stored("acme/one/2/text.txt") != long {
		t.Error("the stored text is another")
	}
}

func TestManyTextsAreStoredInsteadOfFillingTheEvent(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	texts := make([]string, 40)
	for i := range texts {
		texts[i] = strings.Repeat("z", 4096)
		if i < 20 {
			texts[i] += "z" // too long for the event, so that it takes no room there
		}
	}
	h.fake.returns(now(), &comfy.Result{Texts: map[string][]string{"2": texts}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	inline := 0
	for _, out := range h.event(o, job.Completed).Outputs {
		if out.Text != "" {
			inline++
		}
	}
	if inline != 16 { // of 4 KiB, which is 64 KiB
		t.Errorf("%d texts stand in the event, want 16", inline)
	}
}

func TestPicturesThatNoFolderHasAreStoredWhateverHappensToFiles(t *testing.T) {
	t.Parallel()
	for _, outputs := range []string{agent.OutputsStore, agent.OutputsNone} {
		for _, kind := range []string{comfy.Websocket, workflow.CachedOutput} {
			t.Run(outputs+" "+kind, func(t *testing.T) {
				t.Parallel()
				h := start(t, agent.Config{Outputs: outputs})
				h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{{Node: "2", Media: "images", Filename: "2_00001_.png", Type: kind}}}, nil)
				o := h.queued(job.Spec{ID: "one"})
				h.accepted(o)
				got := h.event(o, job.Completed).Outputs
				if len(got) != 1 || got[0].Object != "acme/one/2/2_00001_.png" || got[0].ContentType != "image/png" || h.stored(got[0].Object) != "picture 2_00001_.png" {
					t.Errorf("the outputs are %+v", got)
				}
			})
		}
	}
}

func TestAFileOfUnknownTypeIsStoredAsBytes(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.makes(0, picture)
	h.fake.set(func() {
		h.fake.open = func(comfy.Output) (io.ReadCloser, string, int64, error) {
			return io.NopCloser(strings.NewReader("bytes")), "", 5, nil
		}
	})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	got := h.event(o, job.Completed).Outputs
	if len(got) != 1 || got[0].ContentType != "application/octet-stream" || got[0].Size != 5 || h.stored(got[0].Object) != "bytes" {
		t.Errorf("the outputs are %+v", got)
	}
}

func TestACompletedJobWithoutOutputsSaysSoAndWhatWasBlocked(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{Missing: true, Blocked: []string{"node 2 (SaveImage): nope"}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	if e := h.event(o, job.Completed); !e.OutputsMissing || !strings.Contains(e.Message, "node 2 (SaveImage): nope") {
		t.Errorf("completed is %+v", e)
	}
}

// An earlier attempt that was taken for lost may still be writing.
func TestALaterAttemptStoresUnderNamesOfItsOwn(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{picture, picture}}, nil)
	o := h.queued(job.Spec{ID: "one"})
	o.Attempt = 2
	h.accepted(o)
	got := h.event(o, job.Completed).Outputs
	if len(got) != 2 || got[0].Object != "acme/one/2/a-a2.png" || got[1].Object != "acme/one/2/a-a2-2.png" || got[0].Filename != "a.png" {
		t.Errorf("the outputs are %+v", got)
	}
}

func TestFilesOfAnEndedJobAreRemovedFromItsHostOnceItIsAcked(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	acked := h.words(string(o.Lease), "+ACK")
	h.fake.makes(10, picture)
	begun, release := h.fake.blocks(10)
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	await(h, begun, "the storing of the result")
	if len(h.fake.cleared) != 0 {
		t.Error("files were removed before they were stored")
	}
	close(release)
	if id := await(h, h.fake.cleared, "the removal"); id != p.ID {
		t.Errorf("prompt %s was removed, not %s", id, p.ID)
	}
	h.wantChain(o, "queued started completed")
	await(h, acked, "the ack")

	failing := h.queued(job.Spec{ID: "two"})
	h.fake.returns(now(), nil, failure.New(failure.ExecutionError, "x"))
	h.accepted(failing)
	h.event(failing, job.Failed)
	await(h, h.fake.cleared, "the removal after a failure")

	stopped := h.queued(job.Spec{ID: "three"})
	h.fake.set(func() { h.fake.perform = h.fake.waits })
	h.accepted(stopped)
	await(h, h.fake.posted, "the second POST")
	await(h, h.fake.posted, "the third POST")
	h.append(stopped, job.Event{EventKind: job.Cancelled, By: "test"})
	await(h, h.fake.cleared, "the removal after a cancel")
}

func TestFilesOfALostPromptAreRemovedWhenItHasStopped(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fake.set(func() {
		h.fake.perform = func(context.Context, comfy.Prompt, comfy.Watch) (*comfy.Result, error) {
			h.fake.set(func() { h.fake.down = errors.New("connection refused"); h.fake.stuck = h.fake.down })
			return nil, failure.New(failure.HostLost, "ComfyUI is gone")
		}
	})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	h.event(o, job.Failed)
	p := await(h, h.fake.posted, "the POST")
	if len(h.fake.cleared) != 0 {
		t.Error("files were removed while their prompt may run")
	}
	h.fake.set(func() { h.fake.down, h.fake.stuck = nil, nil })
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	if id := await(h, h.fake.cleared, "the removal"); id != p.ID {
		t.Errorf("prompt %s was removed, not %s", id, p.ID)
	}
}

func TestFilesAreKeptWhenThatIsWanted(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]agent.Config{"KeepFiles": {KeepFiles: true}, "OutputsNone": {Outputs: agent.OutputsNone}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, cfg)
			h.fake.makes(10, picture)
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			h.event(o, job.Completed)
			h.stop()
			h.ended()
			if len(h.fake.cleared) != 0 {
				t.Error("files were removed")
			}
		})
	}
}

func TestOnlyACopyThatStandsStillIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := agent.Lively(slow{8 * time.Second}, time.AfterFunc(10*time.Second, cancel), 10*time.Second)
		for range 5 {
			if _, err := r.Read(make([]byte, 1)); err != nil || ctx.Err() != nil {
				t.Fatalf("a copy that goes on was given up: %v, %v", err, ctx.Err())
			}
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("a copy that stands still goes on")
		}
	})
}

type slow struct{ pause time.Duration }

func (s slow) Read(p []byte) (int, error) {
	<-time.After(s.pause)
	return len(p), nil
}

func TestALeaseIsKeptWhileComfyUIIsSilent(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	o := h.queued(job.Spec{ID: "one"})
	o.AckWait = 1500 * time.Millisecond
	extended := h.extensions(o)
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.down, h.fake.state.Connected = errors.New("timeout"), false })
	h.out(failure.Down)
	for len(extended) > 0 {
		<-extended
	}
	await(h, extended, "an extension while ComfyUI is silent")
	await(h, extended, "another one")
	h.awaitState("gpu", func(s queue.HostState) bool { return len(s.Running) == 1 })
}

func TestASeedIsWithinTheLimitOfItsInputAndTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.set(func() { h.fake.seeds = 1000 })
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	seed := h.event(o, job.Started).Seeds["1"]
	if seed > 1000 || !strings.Contains(string(p.Workflow), fmt.Sprintf(`"seed":%d}`, seed)) {
		t.Errorf("the seed is %d; posted was %s", seed, p.Workflow)
	}
	h.fake.set(func() { h.fake.seeds = 0 }) // not read yet, which is not done beside the prompt
	h.restart(agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	h.accepted(o)
	if got := h.event(o, job.Completed).Seeds["1"]; got != seed {
		t.Errorf("completed says %d and started %d", got, seed)
	}
}

func TestNodesThatAreAddedForALinkedPrefixAreNotTold(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	const linked = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":4,"batch_size":2}},"3":{"class_type":"PrimitiveString","inputs":{"value":"pic"}},` +
		`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":["3",0]}}}`
	h.fake.set(func() {
		h.fake.perform = func(_ context.Context, p comfy.Prompt, _ comfy.Watch) (*comfy.Result, error) {
			var graph map[string]any
			if err := json.Unmarshal(p.Workflow, &graph); err != nil {
				return nil, err
			}
			times := map[string]time.Duration{}
			for node := range graph {
				times[node] = time.Second
			}
			return &comfy.Result{NodeTimes: times, CachedNodes: slices.Sorted(maps.Keys(graph))}, nil
		}
	})
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(linked)})
	h.accepted(o)
	e := h.event(o, job.Completed)
	if p := await(h, h.fake.posted, "the POST"); !strings.Contains(string(p.Workflow), "StringConcatenate") || !strings.Contains(string(p.Workflow), "comfyherd/"+p.ID) {
		t.Errorf("posted was %s", p.Workflow)
	}
	if len(e.NodeTimes) != 3 || len(e.CachedNodes) != 3 {
		t.Errorf("completed tells of %v and %v", e.NodeTimes, e.CachedNodes)
	}
}
