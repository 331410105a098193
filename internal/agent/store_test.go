package agent_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// api asks JetStream itself, as an operator does.
func (h *house) api(call string, request, answer any) {
	h.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		h.t.Fatal(err)
	}
	msg, err := h.nc.RequestWithContext(h.ctx, "$JS.API."+call, body)
	if err != nil {
		h.t.Fatalf("%s: %v", call, err)
	}
	var problem struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &problem); err != nil || problem.Error != nil {
		h.t.Fatalf("%s answers %s", call, msg.Data)
	}
	if answer != nil {
		if err := json.Unmarshal(msg.Data, answer); err != nil {
			h.t.Fatal(err)
		}
	}
}

// room gives COMFY_OUTPUTS so many bytes; -1 is no limit.
func (h *house) room(bytes int) {
	h.t.Helper()
	config := h.config("OBJ_COMFY_OUTPUTS")
	config["max_bytes"], config["discard"] = bytes, "new"
	h.api("STREAM.UPDATE.OBJ_COMFY_OUTPUTS", config, nil)
}

// makes has every prompt end with outputs, of which each file holds so many bytes.
func (f *fake) makes(size int, outputs ...comfy.Output) {
	f.returns(now(), &comfy.Result{Outputs: outputs, Ran: time.Second}, nil)
	f.set(func() {
		f.open = func(comfy.Output) (io.ReadCloser, string, int64, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("x", size))), "image/png", int64(size), nil
		}
	})
}

var picture = comfy.Output{Node: "2", Media: "images", Filename: "a.png", Type: "output"}

// cannotStore runs a job whose result does not fit into COMFY_OUTPUTS.
func (h *house) cannotStore() queue.Offer {
	h.t.Helper()
	h.online()
	h.room(2000)
	h.fake.makes(100_000, picture)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	h.out(failure.Unstorable)
	return o
}

func TestAFullStoreIsNobodysAttempt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.cannotStore()
	next := h.queued(job.Spec{ID: "two"})
	if r := h.offer(next); r.Answer != queue.Unfit || !strings.Contains(r.Reason, "results cannot be stored") || r.State.Blame != nil {
		t.Errorf("an offer to a host that cannot store was answered %+v", r)
	}
	extended := h.extensions(o)
	await(h, extended, "an extension of the lease")
	h.wantChain(o, "queued started")
	h.room(-1)
	if done := h.event(o, job.Completed); done.Attempt != 1 || len(done.Outputs) != 1 || done.Outputs[0].Size != 100_000 {
		t.Errorf("completed is %+v", done)
	}
	h.wantChain(o, "queued started completed")
	h.acked(o)
	h.well()
	h.accepted(next)
	h.event(next, job.Completed)
	if n := len(h.fake.posted); n != 2 {
		t.Errorf("%d prompts were posted, want one for each job", n)
	}
}

// extensions tells of every extension of an offer's lease.
func (h *house) extensions(o queue.Offer) <-chan string {
	h.t.Helper()
	return h.words(string(o.Lease), "+WPI")
}

func TestAJobThatIsCancelledIsNotStoredAnyFurther(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.cannotStore()
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	h.acked(o)
	h.well()
	h.wantChain(o, "queued started cancelled")
}

func TestAStoppedAgentLeavesWhatItCannotStoreToTheNext(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Drain: -1})
	o := h.cannotStore()
	await(h, h.fake.posted, "the POST")
	h.stop()
	h.ended()
	h.wantChain(o, "queued started")
	h.unacked(o)
	if len(h.fake.cleared) != 0 {
		t.Error("the files that are not stored were removed")
	}
	h.room(-1)
	h.restart(agent.Config{})
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	h.accepted(o)
	if p := await(h, h.fake.posted, "the resumed prompt"); !p.Resume {
		t.Errorf("the prompt was posted again: %+v", p)
	}
	h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
}

// blocks has every result wait to be read until released is closed or ctx ends; begun tells of each that begins.
func (f *fake) blocks(size int64) (begun chan comfy.Output, release chan struct{}) {
	begun, release = make(chan comfy.Output, 100), make(chan struct{})
	f.set(func() {
		f.open = func(o comfy.Output) (io.ReadCloser, string, int64, error) {
			return &gated{o, begun, release, false}, "image/png", size, nil
		}
	})
	return begun, release
}

type gated struct {
	output  comfy.Output
	begun   chan comfy.Output
	release chan struct{}
	told    bool
}

func (g *gated) Read([]byte) (int, error) {
	if !g.told {
		g.told = true
		g.begun <- g.output
	}
	<-g.release
	return 0, io.EOF
}

func (g *gated) Close() error { return nil }

func TestARunKeepsItsSlotWhileEightOthersStoreTheirResults(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Slots: 10})
	h.online()
	h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{picture}}, nil)
	begun, release := h.fake.blocks(10)
	for i := range 9 {
		h.accepted(h.queued(job.Spec{ID: job.ID(rune('a' + i))}))
		if i < 8 {
			await(h, begun, "the storing of a result")
		}
	}
	h.awaitState("gpu", func(s queue.HostState) bool { return len(s.Running) == 1 })
	h.succeeds("nothing", saves) // has nothing to store, and waits for nobody
	if r := h.offer(h.queued(job.Spec{ID: "z"})); len(r.State.Running) != 2 || len(begun) != 0 {
		t.Errorf("%d runs have a slot and %d more are stored, want the ninth and the new one to have a slot", len(r.State.Running), len(begun))
	}
	close(release)
	h.awaitState("gpu", func(s queue.HostState) bool { return len(s.Running) == 0 })
}

func TestLargeResultsAreStoredTwoAtATimeAndSmallOnesPassThem(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Slots: 10})
	h.online()
	large := make(chan struct{})
	begun := make(chan comfy.Output, 100)
	h.fake.set(func() {
		h.fake.perform = func(_ context.Context, p comfy.Prompt, _ comfy.Watch) (*comfy.Result, error) {
			o := picture
			o.Filename = "large.mp4"
			if strings.Contains(string(p.Workflow), "PreviewImage") {
				o.Filename = "small.png"
			}
			return &comfy.Result{Outputs: []comfy.Output{o}}, nil
		}
		h.fake.open = func(o comfy.Output) (io.ReadCloser, string, int64, error) {
			if o.Filename == "small.png" {
				return io.NopCloser(strings.NewReader("small")), "image/png", 5, nil
			}
			return &gated{o, begun, large, false}, "video/mp4", -1, nil
		}
	})
	for _, id := range []job.ID{"a", "b", "c"} {
		h.accepted(h.queued(job.Spec{ID: id}))
	}
	await(h, begun, "the first large file")
	await(h, begun, "the second large file")
	small := h.queued(job.Spec{ID: "small", Workflow: json.RawMessage(another)})
	h.accepted(small)
	h.event(small, job.Completed)
	if len(begun) != 0 {
		t.Error("three large files are stored at once")
	}
	close(large)
	await(h, begun, "the third large file")
}
