package integration_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAHostThatIsKnownToLackSomethingIsNotEvenAsked(t *testing.T) {
	t.Parallel()
	hosts := painters("a", "b")
	hosts[0].Models, hosts[0].Missing = nil, []string{"ImageInvert"}
	f := start(t, setup{dispatchers: 2, hosts: hosts})
	for name, workflow := range map[string]json.RawMessage{
		"MissingClass": inverted(1, 1), "MissingCheckpoint": paint(checkpoint, "a cat", 1),
	} {
		chain := f.chain(f.submit("acme", job.Spec{Workflow: workflow, PreferHosts: []string{"a"}}))
		if got, want := story(chain), "queued started@b completed@b"; got != want {
			t.Errorf("%s: chain is %q, want %q", name, got, want)
		}
	}
	if n := len(f.sims["a"].Prompts()); n != 0 {
		t.Errorf("the incapable host was sent %d prompts", n)
	}
}

func TestAHostThatTurnsOutToLackSomethingIsBlockedAndTheNextOneRunsTheJob(t *testing.T) {
	t.Parallel()
	for name, workflow := range map[string]json.RawMessage{
		"MissingClass": inverted(1, 1), "MissingCheckpoint": paint(checkpoint, "a cat", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := painters("a", "b")
			hosts[0].Models, hosts[0].Missing = nil, []string{"ImageInvert"}
			// What A has cannot be read, so that nothing is held against it.
			hosts[0].Faults = []comfysim.Fault{{Kind: comfysim.FaultStatus, Path: "/object_info"}}
			f := start(t, setup{dispatchers: 2, hosts: hosts})
			blocks := f.subscribe("comfy.events.blocks.>")
			chain := f.chain(f.submit("acme", job.Spec{Workflow: workflow, PreferHosts: []string{"a"}, MaxAttempts: 1}))
			if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
				t.Fatalf("chain is %q, want %q: %s", got, want, chain[len(chain)-1].Message)
			}
			if e := chain[2]; e.Kind != failure.Incapable || e.Counted == nil || *e.Counted || e.Message == "" {
				t.Errorf("failed is %s, counted %v: %q; want incapable, not counted", e.Kind, e.Counted, e.Message)
			}
			if got := fields(t, f.next(blocks).Data); got["host"] != "a" || got["kind"] != string(failure.Incapable) {
				t.Errorf("the block says %v, want A and incapable", got)
			}
		})
	}
}

// refusing is a ComfyUI whose process is gone when the first prompt is sent.
type refusing struct {
	*comfy.Host
	kill func()
}

func (r refusing) Run(ctx context.Context, p comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	r.kill()
	return r.Host.Run(ctx, p, w)
}

func TestWhenTheConnectionIsRefusedTheNextHostRunsTheJob(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("b")})
	sim, err := comfysim.Start(comfysim.Config{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["a"] = sim
	host, err := comfy.New(sim.URL(), comfy.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f.agentOf(agent.HostConfig{Name: "a", URL: sim.URL(), Comfy: refusing{host, sync.OnceFunc(sim.Kill)}}, agent.Config{})
	f.awaitPresence(2)
	f.dispatcher(setup{}.config)
	f.dispatcher(setup{}.config)
	offline := f.subscribe("comfy.events.hosts.a.unhealthy")
	chain := f.chain(f.submit("acme", job.Spec{Workflow: picture(0x112233), PreferHosts: []string{"a"}}))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	if e := chain[2]; e.Kind != failure.HostLost || e.Message == "" {
		t.Errorf("failed is %s: %q, want host_lost", e.Kind, e.Message)
	}
	f.wantPicture(chain[5], rgb(0x112233))
	f.next(offline)
	if err := sim.Restart(); err != nil {
		t.Fatal(err)
	}
	f.eventually("host A online again", func() bool {
		state, found, err := f.q.Host(f.context(), "a")
		return err == nil && found && state.State == queue.Online
	})
	if end := f.end(f.submit("acme", onlyOn("a", inverted(1, 1)))); end.EventKind != job.Completed || end.Host != "a" {
		t.Errorf("after its restart, a job for A ended %s on %s: %s", end.EventKind, end.Host, end.Message)
	}
}
