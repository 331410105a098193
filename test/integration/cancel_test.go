package integration_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestACancelOutlivesARestartOfEverything(t *testing.T) {
	t.Parallel()
	f := start(t, setup{jetstream: shortLeases(), hosts: names("a"), noAgents: true})
	_, killAgent := f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.awaitPresence(1)
	_, killDispatcher := f.dispatcher(dispatcher.Config{})
	running := f.submit("acme", job.Spec{Workflow: sleep(1, 10)}) // until the kill, whatever comes before that
	f.await(running, job.Started)
	f.awaitRun("a")
	behind := f.submit("acme", job.Spec{Workflow: sleep(2, 1)}) // held by the agent, or waiting its turn
	soon := time.Now().Add(12 * time.Second)
	scheduled := f.submit("acme", job.Spec{Workflow: picture(3), RunAt: &soon})
	f.await(scheduled, job.Waiting)
	nowhere := f.submit("acme", onlyOn("nowhere", picture(4)))
	f.await(nowhere, job.Waiting)
	killAgent()
	killDispatcher()
	fresh := f.submit("acme", job.Spec{Workflow: picture(5)}) // nobody has seen it
	all := []jetstream.Receipt{running, behind, scheduled, nowhere, fresh}
	for _, r := range all {
		if e, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "ops", true); err != nil || e.EventKind != job.Cancelled {
			t.Fatalf("cancel %s: %s, %v", r.Job, e.EventKind, err)
		}
	}
	f.restartNATS(func() {})
	f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.dispatcher(dispatcher.Config{})
	f.drained()
	for _, r := range all {
		if end := f.end(r); end.EventKind != job.Cancelled || end.By != "ops" {
			t.Errorf("job %s ended %s by %q", r.Job, end.EventKind, end.By)
		}
	}
	last := f.submit("acme", job.Spec{Workflow: picture(6)})
	if end := f.end(last); end.EventKind != job.Completed {
		t.Errorf("the next job ended %s", end.EventKind)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.jobs.*.*.completed"); n != 1 {
		t.Errorf("%d jobs have completed, want the last alone", n)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.blocks.>"); n != 0 {
		t.Errorf("%d block events", n)
	}
}

func TestCancelAnswersHowTheJobEnded(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	ask := func(id string, force bool) (jetstream.CancelAnswer, error) {
		var answer jetstream.CancelAnswer
		err := f.q.Call(f.context(), "cancel", jetstream.CancelRequest{Tenant: "acme", Job: job.ID(id), Force: force, By: "ops"}, &answer)
		return answer, err
	}
	var missing *jetstream.NotFound
	if _, err := ask("never-seen", false); !errors.As(err, &missing) {
		t.Errorf("cancel of an unknown id: %v, want not found", err)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.jobs.acme.never-seen.*"); n != 0 {
		t.Errorf("it has begun a chain of %d events", n)
	}

	// By force its chain begins with the cancel, and the publish that follows never runs.
	for range 2 {
		if answer, err := ask("not-yet", true); err != nil || answer.State != job.Cancelled {
			t.Errorf("cancel by force: %s, %v", answer.State, err)
		}
	}
	f.publish("comfy.jobs.acme.5", fmt.Appendf(nil, `{"id":"not-yet","workflow":%s}`, picture(1)))
	f.drained()
	if chain := f.chain(receipt("acme", "not-yet")); story(chain) != "cancelled" {
		t.Errorf("chain is %q", story(chain))
	}

	done := f.submit("acme", job.Spec{ID: "done", Workflow: picture(2)})
	f.end(done)
	if answer, err := ask("done", true); err != nil || answer.State != job.Completed || answer.Event.Host != "a" {
		t.Errorf("cancel of a completed job: %+v, %v", answer, err)
	}
	var bad *jetstream.BadRequest
	if _, err := ask("no id", false); !errors.As(err, &bad) {
		t.Errorf("cancel of what is no id: %v", err)
	}
	if n := f.runs()["a"]; n != 1 {
		t.Errorf("ComfyUI ran %d prompts, want 1", n)
	}
}
