package agent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// reconnects closes and opens the websocket of the fake, so that it is looked at again.
func (h *house) reconnects(edit func()) {
	h.t.Helper()
	h.fake.set(func() { h.fake.state.Connected = false; edit() })
	h.awaitLooks(1)
	h.fake.set(func() { h.fake.state.Connected = true })
}

// A worker thread that has died is found in the log when ComfyUI is back, and lives again in another process.
func TestADeadWorkerThatTheLogTellsTakesTheHostOut(t *testing.T) {
	t.Parallel()
	for name, unnamed := range map[string]error{"Named": nil, "Unnamed": errors.New("HTTP 404")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := build(t, agent.Config{})
			h.fake.set(func() { h.fake.unnamed = unnamed })
			h.run()
			h.online()
			h.reconnects(func() { h.fake.sick = "the worker thread has died: KeyError" })
			if s := h.out(failure.WorkerGone); s.Reason != "the worker thread has died: KeyError" || s.Blame != nil {
				t.Errorf("the host is %+v", s)
			}
			h.reconnects(func() { h.fake.sick, h.fake.process = "", "second" })
			h.well()
		})
	}
}

// A failure that says that ComfyUI is down, or runs what cannot be stopped, leaves a prompt that may go on: it is cancelled.
func TestThePromptOfAHostThatIsDownOrStuckIsCancelled(t *testing.T) {
	t.Parallel()
	for _, cause := range []failure.Cause{failure.Down, failure.Stuck} {
		t.Run(string(cause), func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			h.online()
			h.fake.set(func() { h.fake.stuck = errors.New("it goes on") })
			e := h.fails("one", saves, &failure.Failure{Kind: failure.HostSick, Cause: cause, Message: "no answer"})
			if e.Kind != failure.HostSick || e.Cause != cause || e.Proven {
				t.Errorf("failed is %+v", e)
			}
			if s := h.out(failure.Stuck); s.Blame == nil && cause == failure.Stuck || s.Blame != nil && s.Blame.Job != "one" {
				t.Errorf("the host is %+v", s)
			}
			h.fake.set(func() { h.fake.stuck = nil })
			if id := await(h, h.fake.cancelled, "the cancel"); id != e.PromptID {
				t.Errorf("%s was cancelled, not %s", id, e.PromptID)
			}
			h.well()
		})
	}
}

// After these failures ComfyUI has no record, or that of another run.
func TestAFailureWithoutAnEntryInTheHistoryHasNoRecord(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fake.set(func() { h.fake.record = []byte(`{"p":{}}`) })
	for _, kind := range []failure.Kind{failure.Refused, failure.Lost, failure.RejectedBusy, failure.Incapable, failure.InvalidWorkflow} {
		h.fake.returns(now(), nil, failure.New(kind, "no"))
		id := job.ID(kind)
		o := h.queued(job.Spec{ID: id, Record: true})
		h.accepted(o)
		h.event(o, job.Failed)
		if _, _, err := h.q.OpenOutput(h.ctx, queue.RecordName("acme", id)); !errors.Is(err, queue.ErrNoFile) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// The answer to an earlier try may have been lost: the event is there, and it is ours.
func TestAnEventThatAnEarlierTryHasStoredIsNotAppendedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*job.Event)
		ours bool
	}{
		"Ours":           {func(*job.Event) {}, true},
		"OfAnotherHost":  {func(e *job.Event) { e.Host = "other" }, false},
		"OtherAttempt":   {func(e *job.Event) { e.Attempt = 2 }, false},
		"OfOtherPrompts": {func(e *job.Event) { e.PromptID = "x" }, false},
		"OfAnotherKind":  {func(e *job.Event) { e.EventKind, e.Kind = job.Failed, failure.Lost }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			h.fake.returns(now(), &comfy.Result{Ran: time.Second}, nil)
			o := h.queued(job.Spec{ID: "one"})
			secret, err := h.q.Secret(h.ctx, queue.PromptSecret)
			if err != nil {
				t.Fatal(err)
			}
			stored := job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, PromptID: agent.PromptID(secret, &o, h.q.Created())}
			c.edit(&stored)
			h.append(o, stored)
			if !c.ours {
				h.dropped(o)
				return
			}
			h.accepted(o)
			h.event(o, job.Completed)
			h.wantChain(o, "queued started completed")
		})
	}
}
