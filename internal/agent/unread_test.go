package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// What cannot be read may be a failure of this attempt, which must not run again.
func TestAnAttemptIsDroppedWhenWhatHappenedSinceItsOfferCannotBeRead(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.append(o, job.Event{EventKind: job.Waiting, Reason: "all_blocked"})
	h.wire.swap("DIRECT.GET.COMFY_EVENTS ", "DIRECT.GET.COMFY_EVENTX ") // chains; the last event of a chain has its subject behind the name
	h.dropped(o)
	h.wantChain(o, "queued waiting")
}

func TestAResumedAttemptWaitsUntilItsChainCanBeRead(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string]bool{"Read": false, "Stopped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startOnAWire(t, agent.Config{Drain: -1})
			h.fake.returns(now(), &comfy.Result{}, nil)
			o := h.queued(job.Spec{ID: "one"})
			secret, err := h.q.Secret(h.ctx, queue.PromptSecret)
			if err != nil {
				t.Fatal(err)
			}
			h.append(o, job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, Hash: o.Hash, PromptID: agent.PromptID(secret, &o, h.q.Created())})
			o.Resume, o.LastInChain = true, h.last(o).ChainSequence
			h.wire.swap("DIRECT.GET.COMFY_EVENTS.", "DIRECT.GET.COMFY_EVENTX.")
			h.accepted(o)
			for range 3 { // the first is for the prompt's id
				await(h, h.wire.swapped, "a question for the last event")
			}
			if stopped {
				h.stop()
				h.ended()
				if e := h.event(o, job.Failed); e.Kind != failure.Drained {
					t.Errorf("failed is %s: %s", e.Kind, e.Message)
				}
				return
			}
			h.wire.swap("", "")
			h.event(o, job.Completed)
			h.wantChain(o, "queued started completed")
		})
	}
}

func TestAFailureIsAppendedAsSoonAsNATSTakesIt(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string]bool{"Taken": false, "Stopped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startOnAWire(t, agent.Config{Drain: -1})
			release := make(chan struct{})
			h.fake.returns(release, nil, failure.New(failure.ExecutionError, "no"))
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			h.event(o, job.Started)
			h.wire.swap("comfy.append.jobs.acme.one.failed", "comfy.appenx.jobs.acme.one.failed")
			close(release)
			for range 3 { // each append asks twice
				await(h, h.wire.swapped, "the event")
			}
			if stopped {
				h.stop()
				h.ended()
				h.wantChain(o, "queued started")
				if len(h.fake.cleared) != 0 {
					t.Error("the files of an attempt whose end is not stored were removed")
				}
			} else {
				h.wire.swap("", "")
				h.event(o, job.Failed)
			}
			h.unacked(o)
		})
	}
}

// asked is a ComfyUI that does not say which prompts it has.
type asked struct {
	*fake
	finds chan string
}

func (a asked) Find(ctx context.Context, prompt string) (comfy.PromptState, error) {
	a.finds <- prompt
	<-ctx.Done()
	return comfy.Unknown, context.Cause(ctx)
}

// A dispatcher that is told that a prompt is gone has its job run elsewhere, although it may run still.
func TestAnAgentThatIsKilledDoesNotSayThatAPromptIsGone(t *testing.T) {
	t.Parallel()
	slow := asked{newFake(), make(chan string, 10)}
	h := start(t, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", Comfy: slow}}})
	o := h.queued(job.Spec{ID: "one"})
	o.Resume = true
	answers := make(chan *nats.Msg, 1000)
	if _, err := h.nc.ChanSubscribe("_INBOX.>", answers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	offered := make(chan error, 1)
	go func() {
		_, err := h.q.Offer(ctx, "gpu", &o)
		offered <- err
	}()
	await(h, slow.finds, "the question for the prompt")
	h.kill()
	await(h, h.done, "the end of the agent")
	h.done <- nil
	if err := h.nc.FlushWithContext(h.ctx); err != nil { // what was sent by then has come
		t.Fatal(err)
	}
	for len(answers) > 0 {
		if m := <-answers; strings.Contains(string(m.Data), `"answer":`) {
			t.Errorf("the offer was answered %s", m.Data)
		}
	}
	cancel()
	if err := await(h, offered, "the end of the offer"); !errors.Is(err, queue.ErrNoAnswer) {
		t.Errorf("the offer ended with %v", err)
	}
}
