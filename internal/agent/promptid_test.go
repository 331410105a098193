package agent_test

import (
	"bytes"
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// The expected id was computed with Python's hmac and uuid.
func TestAPromptsIDIsTheAttemptsAndCannotBeGuessed(t *testing.T) {
	t.Parallel()
	secret, created := bytes.Repeat([]byte{7}, 32), time.Unix(1_700_000_000, 5).UTC()
	o := queue.Offer{Job: "j1", Attempt: 2, Message: job.Message{Tenant: "acme", Sequence: 41}}
	id := agent.PromptID(secret, &o, created)
	if id != "23c1b2d5-aa3c-8efb-9547-6f49092808b8" {
		t.Errorf("the id is %s", id)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%s is no UUID that ComfyUI takes", id)
	}
	later := o
	later.Attempt = 12
	if id := agent.PromptID(secret, &later, created); id != "64796d7a-830e-8722-b4a5-062dd07a81f7" {
		t.Errorf("the id of attempt 12 is %s", id)
	}
	others := map[string]string{id: "the attempt", agent.FormerPromptID(&o, created): "the former rule"}
	another := func(what string, secret []byte, o queue.Offer, created time.Time) {
		other := agent.PromptID(secret, &o, created)
		if same, taken := others[other]; taken {
			t.Errorf("%s has the id of %s", what, same)
		}
		others[other] = what
	}
	another("another secret", bytes.Repeat([]byte{8}, 32), o, created)
	another("another stream", secret, o, created.Add(1))
	next, tenant, sequence := o, o, o
	next.Attempt, tenant.Message.Tenant, sequence.Message.Sequence = 3, "bolt", 42
	another("another attempt", secret, next, created)
	another("another tenant", secret, tenant, created)
	another("another job", secret, sequence, created)
}

// An agent of the version before was stopped while its prompt ran.
func TestAPromptWithAFormerIDIsResumed(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{})
	former := agent.FormerPromptID(&o, h.q.Created())
	h.append(o, job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, Hash: o.Hash, PromptID: former})
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	h.accepted(o)
	if p := await(h, h.fake.posted, "the resumed prompt"); !p.Resume || p.ID != former {
		t.Errorf("resumed %v, prompt %s, want %s", p.Resume, p.ID, former)
	}
	if e := h.event(o, job.Completed); e.PromptID != former {
		t.Errorf("completed with prompt %s", e.PromptID)
	}
}

func TestAnAgentThatIsStoppedBeforeItHasTheSecretEnds(t *testing.T) {
	t.Parallel()
	h := found(t)
	h.hire(h.q, agent.Config{})
	stop, cancel := context.WithCancel(h.ctx)
	cancel()
	if err := h.a.Run(stop, h.ctx); err != nil {
		t.Error(err)
	}
}
