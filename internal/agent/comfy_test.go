package agent_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// startOn runs an agent on a simulated ComfyUI.
func startOn(t *testing.T, sim comfysim.Config, cfg agent.Config) (*house, *comfysim.Server) {
	t.Helper()
	s, err := comfysim.Start(sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg.Hosts = []agent.HostConfig{{Name: "gpu", URL: s.URL()}}
	h := start(t, cfg)
	h.online()
	return h, s
}

func (h *house) online() {
	h.t.Helper()
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
}

// plain makes a picture of one colour.
func plain(rgb int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":%d}},`+
		`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"pic"}}}`, rgb))
}

// sleeps runs for a while with progress ticks.
func sleeps(seconds int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"0":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":1}},`+
		`"1":{"class_type":"SimSleep","inputs":{"image":["0",0],"seconds":%d,"steps":%d}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"pic"}}}`, seconds, 20*seconds))
}

func (h *house) colour(o job.Output) color.Color {
	h.t.Helper()
	body, _, err := h.q.OpenOutput(h.ctx, o.Object)
	if err != nil {
		h.t.Fatal(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		h.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(content))
	if err != nil {
		h.t.Fatal(err)
	}
	return color.RGBAModel.Convert(picture.At(0, 0))
}

func TestAPictureComesFromComfyUIAndIsTheRightOne(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	h, _ := startOn(t, comfysim.Config{}, agent.Config{Registerer: registry})
	for _, rgb := range []int{0xff0000, 0x0000ff} {
		o := h.queued(job.Spec{Workflow: plain(rgb)})
		h.accepted(o)
		done := h.event(o, job.Completed)
		if len(done.Outputs) != 1 || done.Outputs[0].Filename != "pic_00001_.png" || done.Outputs[0].Subfolder != "" {
			t.Fatalf("the outputs are %+v", done.Outputs)
		}
		want := color.RGBA{R: uint8(rgb >> 16), B: uint8(rgb), A: 255}
		if got := h.colour(done.Outputs[0]); got != want {
			t.Errorf("the picture is %v, want %v", got, want)
		}
		h.acked(o)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, f := range families {
		counted = counted || f.GetName() == "comfyherd_agent_comfyui_requests_seconds"
	}
	if !counted {
		t.Error("the requests to ComfyUI were not counted")
	}
}

func TestAnUploadedPictureIsWhatTheNodeLoads(t *testing.T) {
	t.Parallel()
	h, _ := startOn(t, comfysim.Config{}, agent.Config{})
	green := color.RGBA{G: 255, A: 255}
	source := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		source.Set(i%4, i/4, green)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, source); err != nil {
		t.Fatal(err)
	}
	o := h.queued(job.Spec{
		Workflow: json.RawMessage(`{"1":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"pic"}}}`),
		Inputs:   []job.Input{{Node: "1", Input: "image", URL: "data:image/png;base64," + base64.StdEncoding.EncodeToString(file.Bytes())}},
	})
	h.accepted(o)
	if got := h.colour(h.event(o, job.Completed).Outputs[0]); got != green {
		t.Errorf("the picture is %v, want %v", got, green)
	}
}

func TestACancelInterruptsTheRunningPrompt(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{}, agent.Config{})
	o := h.queued(job.Spec{Workflow: sleeps(60)})
	h.accepted(o)
	h.running(sim, 1)
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	runs, err := sim.WaitEnded(h.ctx, 1)
	if err != nil || runs[0].Outcome != comfysim.Interrupted {
		t.Errorf("the run ended %v, %v", runs, err)
	}
	h.acked(o)
	h.wantChain(o, "queued started cancelled")
	next := h.queued(job.Spec{Workflow: plain(1)})
	h.awaitState("gpu", func(s queue.HostState) bool { return len(s.Running) == 0 })
	h.accepted(next)
	h.event(next, job.Completed)
}

func (h *house) running(sim *comfysim.Server, n int) {
	h.t.Helper()
	if err := sim.Wait(h.ctx, func() bool { return len(sim.Runs()) >= n }); err != nil {
		h.t.Fatal(err)
	}
}

func TestADeadComfyUIIsNoticedAndComesBack(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{}, agent.Config{})
	o := h.queued(job.Spec{Workflow: sleeps(60)})
	h.accepted(o)
	h.running(sim, 1)
	sim.Kill()
	if e := h.event(o, job.Failed); e.Kind != failure.HostLost {
		t.Errorf("failed is %+v", e)
	}
	next := h.queued(job.Spec{Workflow: plain(1)})
	if r := h.offer(next); r.Answer != queue.Unfit {
		t.Errorf("an offer to a dead ComfyUI was answered %s", r.Answer)
	}
	if err := sim.Restart(); err != nil {
		t.Fatal(err)
	}
	h.wantHostEvents("online unhealthy recovered")
	h.accepted(next)
	h.event(next, job.Completed)
}

func TestAKilledAgentsPromptIsResumedAndRunsOnce(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{}, agent.Config{})
	o := h.queued(job.Spec{Workflow: sleeps(2)})
	h.accepted(o)
	h.running(sim, 1)
	h.kill()
	h.ended()
	a, err := agent.New(h.q, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", URL: sim.URL()}}})
	if err != nil {
		t.Fatal(err)
	}
	h.a = a
	h.run()
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	for answer := queue.Answer(""); answer != queue.Accepted; { // the killed agent's presence still stands
		r, err := h.q.Offer(h.ctx, "gpu", &o)
		if r.Answer == queue.NotThere || err != nil && !errors.Is(err, queue.ErrNoAgent) {
			t.Fatalf("the resume was answered %+v, %v", r, err)
		}
		answer = r.Answer
	}
	done := h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
	h.acked(o)
	if n := len(sim.Runs()); n != 1 || len(done.Outputs) != 1 {
		t.Errorf("ComfyUI ran %d prompts; the outputs are %+v", n, done.Outputs)
	}
}

func TestAWedgedComfyUILeavesTheFleetUntilItWasRestarted(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultWedge, Times: 1}}}, agent.Config{})
	o := h.queued(job.Spec{Workflow: sleeps(60)})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.HostSick {
		t.Errorf("failed is %+v", e)
	}
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Unhealthy && strings.Contains(s.Reason, "worker thread")
	})
	sim.Kill()
	if err := sim.Restart(); err != nil {
		t.Fatal(err)
	}
	h.online()
	h.wantHostEvents("online unhealthy recovered")
}

func TestAFrozenComfyUILosesTheJob(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{}, agent.Config{FreezeTimeout: time.Second})
	o := h.queued(job.Spec{Workflow: sleeps(60)})
	h.accepted(o)
	h.running(sim, 1)
	sim.Freeze()
	if e := h.event(o, job.Failed); e.Kind != failure.HostLost {
		t.Errorf("failed is %+v", e)
	}
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Unhealthy })
	sim.Thaw()
	// The prompt that nobody waits for any more is stopped before the host takes more.
	runs, err := sim.WaitEnded(h.ctx, 1)
	if err != nil || runs[0].Outcome != comfysim.Interrupted {
		t.Errorf("the run ended %v, %v", runs, err)
	}
	h.online()
}

func TestAMissingModelIsAFactAboutTheHost(t *testing.T) {
	t.Parallel()
	h, _ := startOn(t, comfysim.Config{Models: map[string][]string{"checkpoints": {"have.safetensors"}}}, agent.Config{})
	o := h.queued(job.Spec{Workflow: json.RawMessage(`{"1":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"lack.safetensors"}},` +
		`"2":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["1",2]}},"3":{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":64,"batch_size":1}},` +
		`"4":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"pic"}}}`)})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.Incapable || e.Counted == nil || *e.Counted {
		t.Errorf("failed is %+v", e)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	size := 0
	_ = h.q.WatchCapabilities(ctx, func(c queue.Change[workflow.Capability]) {
		if c.Phase == queue.Put && c.Key == "gpu" {
			body, err := h.q.Capability(h.ctx, "gpu")
			if err != nil {
				t.Error(err)
			}
			size = len(body)
			cancel()
		}
	})
	if size < 100 {
		t.Errorf("the stored capability has %d bytes", size)
	}
}

func TestTheTotalTimeoutStopsThePromptFirst(t *testing.T) {
	t.Parallel()
	h, sim := startOn(t, comfysim.Config{}, agent.Config{TotalTimeout: 2 * time.Second})
	o := h.queued(job.Spec{Workflow: sleeps(60)})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.Timeout {
		t.Errorf("failed is %+v", e)
	}
	if runs := sim.Runs(); len(runs) != 1 || runs[0].Outcome != comfysim.Interrupted {
		t.Errorf("the runs were %+v when failed was appended", runs)
	}
}

func TestProgressIsToldAtMostFiveTimesASecond(t *testing.T) {
	t.Parallel()
	h, _ := startOn(t, comfysim.Config{}, agent.Config{})
	o := h.queued(job.Spec{ID: "one", Workflow: sleeps(1)})
	told := hears[jetstream.Progress](h, "comfy.live.jobs.acme.one.progress")
	before := time.Now()
	h.accepted(o)
	h.event(o, job.Completed)
	most := int(time.Since(before)/(200*time.Millisecond)) + 2 // the first and the last besides
	last, n := await(h, told, "progress"), 1
	for ; len(told) > 0; n++ {
		last = <-told
	}
	if n > most {
		t.Errorf("progress was told %d times, want at most %d", n, most)
	}
	if last.NodesTotal != 3 || last.Class == "" {
		t.Errorf("the last progress is %+v", last)
	}
}
