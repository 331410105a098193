package agent_test

import (
	"context"
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

// told gives every extension of a lease and every event of a job, in their order: the lease, or job and kind.
func (h *house) told() <-chan string {
	h.t.Helper()
	all := make(chan string, 1000)
	_, err := h.nc.Subscribe(">", func(m *nats.Msg) { // one subscription, since the messages of two have no common order
		if what, is := strings.CutPrefix(m.Subject, "comfy.events.jobs.acme."); is {
			all <- what
		} else if strings.HasPrefix(m.Subject, "$JS.ACK.") && string(m.Data) == "+WPI" {
			all <- m.Subject
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// A dispatcher settles a failed attempt under its lease, and has a whole AckWait for that.
func TestTheLeaseIsExtendedBeforeAFailureIsTold(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	h.fake.returns(now(), nil, failure.New(failure.ExecutionError, "x"))
	o := h.queued(job.Spec{ID: "one"})
	o.AckWait = time.Hour // the loop that extends leases does not come by meanwhile
	told := h.told()
	h.accepted(o)
	before := ""
	for what := await(h, told, "failed"); what != "one.failed"; what = await(h, told, "failed") {
		before = what
	}
	if before != string(o.Lease) {
		t.Errorf("before failed came %q, want an extension of %s", before, o.Lease)
	}
}

func TestTheLeaseOfAJobThatWasStartedElsewhereIsNotExtended(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	release := make(chan struct{})
	h.fake.returns(release, nil, failure.New(failure.ExecutionError, "x"))
	mine, theirs := h.queued(job.Spec{ID: "mine"}), h.queued(job.Spec{ID: "theirs"})
	mine.AckWait, theirs.AckWait = time.Second, time.Second
	told := h.told()
	h.accepted(mine)
	h.accepted(theirs)
	await(h, h.fake.posted, "the POST")
	await(h, h.fake.posted, "the second POST")
	h.append(theirs, job.Event{EventKind: job.Failed, Host: "gpu", Attempt: 1, Kind: failure.Lost})
	h.append(theirs, job.Event{EventKind: job.Started, Host: "other", Attempt: 2, PromptID: "x"})
	for alone := 0; alone < 3; { // rounds in which only mine is extended
		switch await(h, told, "extensions of one lease alone") {
		case string(mine.Lease):
			alone++
		case string(theirs.Lease):
			alone = 0
		}
	}
	states := hears[queue.HostState](h, "comfy.hosts.gpu.state")
	close(release)
	for s := await(h, states, "the end of both"); len(s.Running) > 0; {
		s = await(h, states, "the end of both")
	}
	for what := await(h, told, "the failure of mine"); what != "mine.failed"; what = await(h, told, "the failure of mine") {
		if what == string(theirs.Lease) {
			t.Error("the lease of the other host was extended")
		}
	}
	h.stop()
	h.ended()
	for len(told) > 0 {
		if <-told == string(theirs.Lease) {
			t.Error("the lease of the other host was extended")
		}
	}
	h.wantChain(theirs, "queued started failed started")
}

// The loop that extends leases sleeps for a third of the shortest AckWait that it knows.
func TestAShorterLeaseIsExtendedBesideALongOne(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	long, short := h.queued(job.Spec{ID: "long"}), h.queued(job.Spec{ID: "short"})
	long.AckWait, short.AckWait = time.Hour, time.Second
	told := h.told()
	h.accepted(long)
	for what := ""; what != string(long.Lease); {
		what = await(h, told, "an extension of the long lease")
	}
	h.accepted(short) // while the loop sleeps for 20 minutes
	for n := 0; n < 2; {
		if await(h, told, "extensions of the short lease") == string(short.Lease) {
			n++
		}
	}
}

// What becomes of a run whose ComfyUI is slow to answer a resume.
func TestASlowComfyUIIsBusyToAResumeAndNotGone(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.slow = true })
	h.restart(agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	if r := h.offer(o); r.Answer != queue.Busy {
		t.Errorf("a resume was answered %s: %s", r.Answer, r.Reason)
	}
	h.fake.set(func() { h.fake.slow = false })
	h.accepted(o)
	h.event(o, job.Completed)
	if len(h.fake.cancelled) != 0 {
		t.Error("the prompt was cancelled")
	}
}

// late is a ComfyUI that never says in time which prompts it has.
type late struct{ *fake }

func (late) Find(context.Context, string) (comfy.PromptState, error) {
	return comfy.Unknown, context.DeadlineExceeded
}

// A host that is down for long would keep the job for as long.
func TestThePromptOfASlowHostIsWaitedForAndThatOfOneThatIsDownIsNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		down error
		want queue.Answer
	}{"Slow": {nil, queue.Busy}, "Down": {errRefused, queue.NotThere}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := found(t)
			h.fake.down = c.down
			h.hire(h.q, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", Comfy: late{h.fake}}}})
			h.run()
			if c.down == nil {
				h.online()
			}
			o := h.queued(job.Spec{ID: "one"})
			o.Resume = true
			r := h.offer(o)
			for c.down != nil && r.Answer == queue.Busy && h.ctx.Err() == nil { // it was not looked at yet
				r = h.offer(o)
			}
			if r.Answer != c.want {
				t.Errorf("the resume was answered %s: %s", r.Answer, r.Reason)
			}
		})
	}
}

func TestAPromptWhoseResumeWasRefusedIsStoppedWhenComfyUIIsBack(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.fake.set(func() { h.fake.down, h.fake.stuck = errRefused, errRefused })
	h.restart(agent.Config{})
	o.Resume, o.LastInChain = true, h.last(o).ChainSequence
	if r := h.offer(o); r.Answer != queue.NotThere || r.Reason != "ComfyUI does not answer: connection refused" {
		t.Errorf("a resume was answered %s: %s", r.Answer, r.Reason)
	}
	h.restart(agent.Config{}) // which does not forget the prompt
	h.fake.set(func() { h.fake.down, h.fake.stuck = nil, nil })
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
}
