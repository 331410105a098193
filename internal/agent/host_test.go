package agent_test

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// surveyed is a ComfyUI that calls look before each survey.
type surveyed struct {
	*fake
	look func()
}

func (s surveyed) Survey(ctx context.Context) (comfy.Probe, error) {
	s.look()
	return s.fake.Survey(ctx)
}

func TestAHostIsLookedAtAndSoToldOfWhenItHearsOffersAndControls(t *testing.T) {
	t.Parallel()
	var h *house
	var cfg agent.Config
	looked := make(chan string, 100)
	names := []string{"gpu", "gpu-1", "gpu-2", "gpu-3", "gpu-4", "gpu-5", "gpu-6", "gpu-7"} // each is a chance to be too early
	for _, name := range names {
		cfg.Hosts = append(cfg.Hosts, agent.HostConfig{Name: name, Comfy: surveyed{newFake(), sync.OnceFunc(func() {
			for _, what := range []string{"offer", "control"} {
				if !h.nats.GlobalAccount().SubscriptionInterest("comfy.hosts." + name + "." + what) {
					t.Errorf("%s was looked at before it heard %ss", name, what)
				}
			}
			looked <- name
		})}})
	}
	h = build(t, cfg)
	h.run()
	for range names {
		await(h, looked, "a first look")
	}
}

func TestSlotsAndPrefetchAreTheAgentsToGive(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{Ran: 5 * time.Second}, nil)
	one, two, three := h.queued(job.Spec{ID: "one"}), h.queued(job.Spec{ID: "two"}), h.queued(job.Spec{ID: "three"})
	if r := h.offer(one); r.Answer != queue.Accepted || len(r.State.Running) != 1 || r.State.Running[0].Job != "one" || r.State.Free() {
		t.Errorf("the first was answered %+v", r)
	}
	free := two
	free.FreeSlot = true
	if r := h.offer(free); r.Answer != queue.Busy {
		t.Errorf("the second was answered %+v although it was meant for a free slot", r)
	}
	if r := h.offer(two); r.Answer != queue.Accepted || len(r.State.Running) != 2 {
		t.Errorf("the second was answered %+v", r)
	}
	await(h, h.fake.posted, "the first POST")
	await(h, h.fake.posted, "the second POST") // at once: ComfyUI's backlog keeps the GPU busy
	busy := h.offer(three)
	if busy.Answer != queue.Busy {
		t.Errorf("the third was answered %+v", busy)
	}
	states := hears[queue.HostState](h, "comfy.hosts.gpu.state")
	h.accepted(one) // known already: nothing happens but a newer lease
	close(release)
	for freed := 0; freed < 2; {
		s := await(h, states, "the ends of both runs")
		if s.Ended == nil {
			continue // that the slots were taken is told a moment later
		}
		freed++
		if s.Serial <= busy.State.Serial || s.Ended.RanFor != job.Duration(5*time.Second) || !s.Ended.Success || len(s.Running) > 1 {
			t.Errorf("a freed slot was broadcast as %+v", s)
		}
	}
	h.accepted(three)
	h.event(three, job.Completed)
	h.wantChain(one, "queued started completed")
}

func TestTwoOffersOfOneAttemptAreOneRunWithTheNewerLease(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	release := make(chan struct{})
	h.fake.returns(release, nil, failure.New(failure.ExecutionError, "x"))
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	again := o
	again.Lease = queue.Lease(strings.Replace(string(o.Lease), ".dispatch_5.1.", ".dispatch_5.2.", 1))
	again.Resume = true
	h.accepted(again)
	other := o
	other.Attempt = 2
	if r := h.offer(other); r.Answer != queue.Busy {
		t.Errorf("another attempt of a job that runs was answered %s", r.Answer)
	}
	close(release)
	h.event(o, job.Failed)
	if got := h.last(o).Lease; got != again.Lease {
		t.Errorf("the lease in the event is %q, want %q", got, again.Lease)
	}
	if n := len(h.fake.posted); n != 0 {
		t.Errorf("%d more prompts were posted", n)
	}
}

func TestAResumeAttachesToThePromptOrSaysGone(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	first := await(h, h.fake.posted, "the POST")
	h.kill() // as by kill -9: the chain keeps its open started
	h.ended()
	h.wantChain(o, "queued started")

	a, err := agent.New(h.q, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", Comfy: h.fake}}})
	if err != nil {
		t.Fatal(err)
	}
	h.a = a
	h.run()
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	h.fake.set(func() { h.fake.promptState = comfy.Unknown })
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
	if r := h.offer(o); r.Answer != queue.NotThere || r.Reason != "ComfyUI does not have the prompt any more" || r.State.Host != "gpu" {
		t.Errorf("a prompt that ComfyUI forgot was answered %+v", r)
	}
	h.fake.set(func() { h.fake.promptState = comfy.Running })
	h.fake.returns(now(), &comfy.Result{}, nil)
	h.accepted(o)
	second := await(h, h.fake.posted, "the resumed run")
	if !second.Resume || second.ID != first.ID || string(second.Workflow) != string(first.Workflow) {
		t.Errorf("resumed %+v, want %+v", second, first)
	}
	h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
	h.acked(o)
}

func TestDrainingGivesTheJobBackAndLeaves(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Drain: -1})
	o, late := h.queued(job.Spec{ID: "one"}), h.queued(job.Spec{ID: "late"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.stop()
	h.ended()
	e := h.event(o, job.Failed)
	if e.Kind != failure.Drained || e.Counted == nil || *e.Counted {
		t.Errorf("failed is %+v", e)
	}
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	if _, there, err := h.q.Host(h.ctx, "gpu"); there || err != nil {
		t.Errorf("the presence is still there: %t, %v", there, err)
	}
	if _, err := h.q.Offer(h.ctx, "gpu", &late); !errors.Is(err, queue.ErrNoAgent) {
		t.Errorf("a late offer gets %v", err)
	}
	h.wantHostEvents("online draining offline")
}

func TestADrainWaitsForTheRunningJob(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	o, late := h.queued(job.Spec{ID: "one"}), h.queued(job.Spec{ID: "late"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.stop()
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Draining })
	if r := h.offer(late); r.Answer != queue.Drain {
		t.Errorf("an offer to a draining host was answered %s", r.Answer)
	}
	close(release)
	h.ended()
	h.wantChain(o, "queued started completed")
	h.acked(o)
}

func TestAnOperatorDrainsAndResumesAHost(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
	if _, err := h.q.Control(h.ctx, "gpu", queue.Control{Drain: true}); err != nil {
		t.Fatal(err)
	}
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Draining })
	o := h.queued(job.Spec{ID: "one"})
	if r := h.offer(o); r.Answer != queue.Drain {
		t.Errorf("the offer was answered %s", r.Answer)
	}
	if _, err := h.q.Control(h.ctx, "gpu", queue.Control{Resume: true}); err != nil {
		t.Fatal(err)
	}
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
	h.accepted(o)
}

func TestAHostWithoutComfyUIComesUpByItself(t *testing.T) {
	t.Parallel()
	h := build(t, agent.Config{Labels: []string{"gpu=4090"}, Version: "v1"})
	h.fake.set(func() { h.fake.down = errors.New("connection refused") })
	h.run()
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Unhealthy && strings.Contains(s.Reason, "connection refused")
	})
	if err := h.a.Health(); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Health is %v", err)
	}
	o := h.queued(job.Spec{ID: "one"})
	if r := h.offer(o); r.Answer != queue.Unfit {
		t.Errorf("the offer was answered %s", r.Answer)
	}
	h.fake.set(func() { h.fake.down = nil })
	h.awaitState("gpu", func(s queue.HostState) bool {
		return s.State == queue.Online && s.Memory == 24<<30 && s.Labels[0] == "gpu=4090" && s.Agent == "v1" && s.Version == "0.33.0"
	})
	h.accepted(o)
	if err := h.a.Health(); err != nil {
		t.Errorf("Health is %v", err)
	}
	h.wantHostEvents("unhealthy recovered")
}

func TestForeignPromptsCountAsLoad(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Prefetch: -1})
	o := h.queued(job.Spec{ID: "one"})
	h.fake.set(func() { h.fake.state.QueueRemaining = 3 })
	h.awaitState("gpu", func(s queue.HostState) bool { return s.Foreign == 3 })
	if r := h.offer(o); r.Answer != queue.Busy {
		t.Errorf("the offer was answered %s", r.Answer)
	}
	h.fake.set(func() { h.fake.state.QueueRemaining = 0 })
	h.awaitState("gpu", func(s queue.HostState) bool { return s.Foreign == 0 })
	h.accepted(o)
}

func TestACancelDuringANATSOutageIsFoundAfterwards(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	other := h.queued(job.Spec{ID: "two"})
	h.accepted(other)
	await(h, h.fake.posted, "the second POST")

	folder, port := h.nats.StoreDir(), portOf(h)
	h.nats.Shutdown()
	h.nats.WaitForShutdown()
	close(release) // ends while NATS is away
	h.nats = startNATS(t, strings.TrimSuffix(folder, "/jetstream"), port)
	h.event(other, job.Completed)
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	await(h, h.fake.cancelled, "the cancel")
	h.acked(o)
	h.acked(other)
}

func portOf(h *house) int {
	h.t.Helper()
	u, err := url.Parse(h.nats.ClientURL())
	if err != nil {
		h.t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		h.t.Fatal(err)
	}
	return port
}

// wantHostEvents waits for as many events of the host as are wanted.
func (h *house) wantHostEvents(want string) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	var kinds []string
	for note, err := range h.q.Notes(ctx, "comfy.events.hosts.gpu.*", time.Time{}) {
		if err != nil {
			h.t.Errorf("the host's events are %q, want %q: %v", kinds, want, err)
			return
		}
		kinds = append(kinds, note.Subject[strings.LastIndexByte(note.Subject, '.')+1:])
		if len(kinds) == len(strings.Fields(want)) {
			break
		}
	}
	if got := strings.Join(kinds, " "); got != want {
		h.t.Errorf("the host's events are %q, want %q", got, want)
	}
}
