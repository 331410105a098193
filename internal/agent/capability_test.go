package agent_test

import (
	"context"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// reads tells of every reading of what ComfyUI can run, with how many prompts were there.
func (h *house) reads() <-chan int {
	read := make(chan int, 1000)
	h.fake.set(func() {
		h.fake.learn = func() {
			h.fake.mu.Lock()
			defer h.fake.mu.Unlock()
			read <- h.fake.state.QueueRemaining
		}
	})
	return read
}

// awaitLooks waits until ComfyUI was looked at so often from now on.
func (h *house) awaitLooks(n int) {
	h.t.Helper()
	for len(h.fake.probed) > 0 {
		<-h.fake.probed
	}
	for range n {
		await(h, h.fake.probed, "a look")
	}
}

func TestWhatComfyUICanRunIsNeverReadBesideAPrompt(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{LearnEvery: time.Millisecond})
	read := h.reads()
	h.run()
	h.online()
	await(h, read, "the first reading")
	await(h, read, "a reading while nothing is to be done")
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	h.fake.set(func() { h.fake.state.QueueRemaining = 1 })
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.awaitLooks(3)
	for len(read) > 0 {
		if n := <-read; n > 0 {
			t.Error("it was read beside a prompt")
		}
	}
	h.fake.set(func() { h.fake.state.QueueRemaining = 0 })
	close(release)
	h.event(o, job.Completed)
	await(h, read, "a reading after the prompt")
}

func TestAHostThatIsNeverIdleTakesNoJobUntilItWasReadAfterARefusal(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{LearnEvery: time.Millisecond, Prefetch: 2})
	read := h.reads()
	h.run()
	h.online()
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	long, next := h.queued(job.Spec{ID: "long"}), h.queued(job.Spec{ID: "next"})
	h.accepted(long)
	await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.state.QueueRemaining = 1 })
	for len(read) > 0 {
		<-read
	}
	h.fails("lacks", another, failure.New(failure.Incapable, "model lack.safetensors is not on this host"))
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Online && s.Slots == 1 && s.Prefetch == 0
	})
	if r := h.offer(next); r.Answer != queue.Busy || r.State.Free() {
		t.Errorf("an offer before the reading was answered %s: %s", r.Answer, r.Reason)
	}
	h.fake.set(func() { h.fake.state.QueueRemaining = 0 })
	close(release)
	h.event(long, job.Completed)
	if n := await(h, read, "the reading"); n != 0 {
		t.Errorf("it was read beside %d prompts", n)
	}
	h.accepted(next)
}

func TestALostSocketIsNoReasonToReadAgainWhenTheProcessIsTheSame(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{})
	read := h.reads()
	h.run()
	h.online()
	await(h, read, "the first reading")
	h.fake.set(func() { h.fake.state.Connected = false })
	h.awaitLooks(1)
	h.fake.set(func() { h.fake.state.Connected = true })
	h.awaitLooks(3)
	if len(read) != 0 {
		t.Error("it was read again")
	}
	h.fake.set(func() { h.fake.state.Connected, h.fake.process = false, "second" })
	await(h, read, "a reading of the new process")
}

func TestACapabilityIsStoredOnceAndAgainWhenItWasLost(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{LearnEvery: time.Millisecond})
	read := h.reads()
	h.run()
	h.online()
	var info struct {
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	for range 3 { // when the third begins, the second was stored or not
		await(h, read, "a reading")
	}
	if h.api("STREAM.INFO.KV_COMFY_CAPABILITIES", struct{}{}, &info); info.State.Last != 1 {
		t.Errorf("the capability was stored %d times", info.State.Last)
	}
	h.api("STREAM.PURGE.KV_COMFY_CAPABILITIES", struct{}{}, nil)
	h.awaitCapability()
}

func TestACapabilityThatCouldNotBeStoredIsReadAgainSoon(t *testing.T) {
	t.Parallel()
	h := found(t)
	h.wire = newWire(t, h.nats.Addr().String())
	_, q := h.connect(h.wire.url())
	h.hire(q, agent.Config{LearnEvery: time.Hour})
	read := h.reads()
	h.wire.swap("$KV.COMFY_CAPABILITIES.", "$KV.COMFY_CAPABILITIEX.")
	h.run()
	await(h, read, "the first reading")
	await(h, h.wire.swapped, "its storing")
	h.online()
	h.wire.swap("", "")
	h.fake.set(func() { h.fake.state.Connected = false }) // it is looked at sooner
	await(h, read, "another reading")
	h.awaitCapability()
}

// awaitCapability waits until the host's capability is stored.
func (h *house) awaitCapability() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	stored := false
	_ = h.q.WatchCapabilities(ctx, func(c queue.Change[workflow.Capability]) {
		if c.Phase == queue.Put && c.Key == "gpu" {
			stored = true
			cancel()
		}
	})
	if !stored {
		h.t.Error("the capability was not stored")
	}
}
