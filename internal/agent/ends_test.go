package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Dispatchers count and rank hosts by these states.
func TestATakenSlotAndTheEndOfARunAreToldOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result *comfy.Result
		err    error
		kind   failure.Kind
	}{
		"Completed": {&comfy.Result{Outputs: []comfy.Output{picture}, Ran: time.Second}, nil, ""},
		"Failed":    {nil, failure.New(failure.ExecutionError, "x"), failure.ExecutionError},
		"Cancelled": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			h.online()
			release := make(chan struct{})
			if name != "Cancelled" {
				h.fake.returns(release, c.result, c.err)
			}
			o := h.queued(job.Spec{ID: "one"})
			states := hears[queue.HostState](h, "comfy.hosts.gpu.state")
			h.accepted(o)
			s := await(h, states, "the taken slot")
			for len(s.Running) == 0 {
				s = await(h, states, "the taken slot")
			}
			await(h, h.fake.posted, "the POST")
			if close(release); name == "Cancelled" {
				h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
			}
			for s.Ended == nil {
				s = await(h, states, "the end")
			}
			e := s.Ended
			if e.Tenant != "acme" || e.Job != "one" || e.Priority != 5 || e.Hash != o.Hash || e.Size != 8*4*2 || e.RanFor <= 0 || e.Success != (name == "Completed") || e.Kind != c.kind {
				t.Errorf("the end was told as %+v", e)
			}
			h.stop()
			h.ended()
			if err := h.nc.FlushWithContext(h.ctx); err != nil { // what was sent by then has come
				t.Fatal(err)
			}
			for len(states) > 0 {
				if s := <-states; s.Ended != nil {
					t.Errorf("another end was told: %+v", s.Ended)
				}
			}
		})
	}
}

// A page shows the last progress of a job before it shows the end.
func TestTheLastProgressComesBeforeTheEnd(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	told := make(chan string, 100)
	_, err := h.nc.Subscribe(">", func(m *nats.Msg) { // one subscription, since the messages of two have no common order
		switch m.Subject {
		case "comfy.live.jobs.acme.one.progress":
			var p comfy.Progress
			if err := json.Unmarshal(m.Data, &p); err != nil {
				t.Error(err)
			}
			told <- p.Node
		case "comfy.events.jobs.acme.one.completed":
			told <- "completed"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.fake.set(func() {
		h.fake.perform = func(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			for _, node := range []string{"1", "2", "3"} {
				w.Progress(comfy.Progress{Node: node})
			}
			return &comfy.Result{}, nil
		}
	})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	var all []string
	for len(all) == 0 || all[len(all)-1] != "completed" {
		all = append(all, await(h, told, "progress and the end"))
	}
	if len(all) < 2 || all[len(all)-2] != "3" {
		t.Errorf("it was told %q, want the progress of node 3 before the end", all)
	}
}

func TestAJobIsFollowedUntilItHasEnded(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.followed("one")
	close(release)
	h.acked(o)
	if id := await(h, h.fake.discarded, "the end of its pictures"); id != p.ID {
		t.Errorf("the pictures of %s were forgotten, not those of %s", id, p.ID)
	}
	h.unfollowed("one")
}

// An agent that runs for weeks would keep something of every job.
func TestTheContextOfARunEndsWithIt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	runs := make(chan (<-chan struct{}), 1)
	h.fake.set(func() {
		h.fake.perform = func(ctx context.Context, _ comfy.Prompt, _ comfy.Watch) (*comfy.Result, error) {
			runs <- ctx.Done()
			return &comfy.Result{}, nil
		}
	})
	h.accepted(h.queued(job.Spec{ID: "one"}))
	await(h, await(h, runs, "the run"), "the end of its context")
}

// A result that comes after the end of its job changes nothing.
func TestNothingIsAppendedAfterTheEndOfAJob(t *testing.T) {
	t.Parallel()
	for _, end := range []job.Event{{EventKind: job.Dead, Reason: "expired"}, {EventKind: job.Cancelled, By: "test"}} {
		t.Run(string(end.EventKind), func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			release := make(chan struct{})
			h.fake.set(func() {
				h.fake.perform = func(context.Context, comfy.Prompt, comfy.Watch) (*comfy.Result, error) {
					<-release // whatever becomes of the job
					return &comfy.Result{}, nil
				}
			})
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			await(h, h.fake.posted, "the POST")
			h.append(o, end)
			close(release)
			h.acked(o)
			h.stop()
			h.ended()
			h.wantChain(o, "queued started "+string(end.EventKind))
		})
	}
}

// A prompt that goes on after its job was cancelled keeps the host from running anything else.
func TestACancelledPromptThatDoesNotStopTakesItsHostOut(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{CancelTimeout: time.Second})
	h.online()
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.stuck = errors.New("it goes on") })
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	h.acked(o)
	if s := h.out(failure.Stuck); s.Blame == nil || s.Blame.Job != "one" {
		t.Errorf("the host is %+v", s)
	}
	h.wantChain(o, "queued started cancelled")
	if len(h.fake.cleared) != 0 {
		t.Error("files were removed while their prompt may write them")
	}
	h.fake.set(func() { h.fake.stuck = nil })
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	h.well()
}

// The workflow is made twice, before the inputs are there and with their names.
func TestAJobWithInputsRunsWithTheSeedsThatWereTold(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	const workflow = `{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"3":{"class_type":"KSampler","inputs":{"seed":-1,"image":["10",0]}},` +
		`"2":{"class_type":"SaveImage","inputs":{"images":["3",0],"filename_prefix":"a"}}}`
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(workflow), Inputs: []job.Input{{Node: "10", Input: "image", URL: "data:,miau"}}})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	seed, told := h.event(o, job.Started).Seeds["3"]
	if !told || !strings.Contains(string(p.Workflow), fmt.Sprintf(`"seed":%d,`, seed)) {
		t.Errorf("the seed is %d in the event, and the prompt is %s", seed, p.Workflow)
	}
	if e := h.event(o, job.Completed); e.Seeds["3"] != seed {
		t.Errorf("completed has the seed %d, started %d", e.Seeds["3"], seed)
	}
}

// Every agent hears every cancel.
func TestACancelStopsTheRunsOfItsJobAlone(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Slots: 3})
	h.online()
	release := make(chan struct{})
	h.fake.returns(release, &comfy.Result{}, nil)
	mine, other, elsewhere := h.queued(job.Spec{ID: "mine"}), h.queued(job.Spec{ID: "other"}), h.queuedBy("b", job.Spec{ID: "mine"})
	prompts := map[string]string{}
	for name, o := range map[string]queue.Offer{"mine": mine, "other": other, "elsewhere": elsewhere} {
		h.accepted(o)
		prompts[await(h, h.fake.posted, "the POST").ID] = name
	}
	h.append(other, job.Event{EventKind: job.Cancelled, By: "test"})
	h.acked(other)
	e := job.Event{EventKind: job.Cancelled, Tenant: "b", Job: "mine", Priority: 5, Time: time.Now(), By: "test"}
	link, _, err := h.q.Last(h.ctx, "b", "mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.q.Append(h.ctx, &e, link.ChainSequence, "test", ""); err != nil {
		t.Fatal(err)
	}
	h.acked(elsewhere)
	for range 2 {
		if name := prompts[await(h, h.fake.cancelled, "the cancel")]; name == "mine" {
			t.Error("the prompt of a job that nobody has cancelled was stopped")
		}
	}
	close(release)
	h.event(mine, job.Completed)
	h.wantChain(mine, "queued started completed")
}
