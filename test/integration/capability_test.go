package integration_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// untouched checks that hosts were never sent a prompt.
func (f *fleet) untouched(hosts ...string) {
	f.t.Helper()
	for _, name := range hosts {
		if n := len(f.sims[name].Prompts()); n != 0 {
			f.t.Errorf("host %s was sent %d prompts", name, n)
		}
	}
}

func TestAJobThatNoHostCanRunTellsWhyAndIsDeadAfterCapableWait(t *testing.T) {
	t.Parallel()
	hosts := painters("a", "b")
	hosts[1].Missing = []string{"KSampler"}
	f := start(t, setup{dispatchers: 2, hosts: hosts, config: dispatcher.Config{CapableWait: time.Second}})
	chain := f.chain(f.submit("acme", job.Spec{Workflow: paint("flux.safetensors", "a cat", 1)}))
	if got, want := kinds(chain), "queued waiting dead"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	const model = "missing model flux.safetensors in CheckpointLoaderSimple.ckpt_name"
	want := map[string]string{"a": model, "b": "missing node KSampler; " + model}
	waiting, dead := chain[1], chain[2]
	if waiting.Reason != "none_capable" || waiting.Message == "" || !maps.Equal(waiting.Hosts, want) {
		t.Errorf("waiting says %q, %q, %v; want %v", waiting.Reason, waiting.Message, waiting.Hosts, want)
	}
	if dead.Reason != string(failure.NoCapableHost) || dead.Message == "" || !maps.Equal(dead.Hosts, want) {
		t.Errorf("dead says %q, %q, %v; want %v", dead.Reason, dead.Message, dead.Hosts, want)
	}
	if waited := dead.Time.Sub(waiting.Time); waited < time.Second {
		t.Errorf("it was given up after %v, before capable_wait was over", waited)
	}
	f.untouched("a", "b")
}

func TestAHostThatGainsTheModelInTimeGetsTheJob(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: painters("a", "b")})
	r := f.submit("acme", job.Spec{Workflow: paint("flux.safetensors", "a cat", 1)})
	f.await(r, job.Waiting)
	if err := f.sims["b"].AddModel("checkpoints", "flux.safetensors"); err != nil {
		t.Fatal(err)
	}
	f.sims["b"].Kill()
	if err := f.sims["b"].Restart(); err != nil { // its agent reads anew what it can run
		t.Fatal(err)
	}
	if got, want := story(f.chain(r)), "queued waiting started@b completed@b"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
	f.untouched("a")
}

func TestASurpriseHasTheCapabilityReadAnew(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: painters("a"), config: dispatcher.Config{CapableWait: time.Second}})
	f.eventually("a socket", func() bool { return f.sims["a"].Sockets() == 1 && f.hosts()[0].Capability > 0 })
	f.end(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 1)}))
	before := f.stored("KV_COMFY_CAPABILITIES", "$KV.COMFY_CAPABILITIES.a").Header.Get("Nats-Sequence")
	if err := f.sims["a"].RemoveModel("checkpoints", checkpoint); err != nil {
		t.Fatal(err)
	}
	// The host is thought to have the model until it refuses the job; the next job is not even offered.
	for n, want := range []string{"queued started@a failed@a retrying waiting dead@a", "queued waiting dead"} {
		chain := f.chain(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a dog", n)}))
		if got := story(chain); got != want {
			t.Errorf("chain is %q, want %q", got, want)
		}
	}
	if after := f.stored("KV_COMFY_CAPABILITIES", "$KV.COMFY_CAPABILITIES.a").Header.Get("Nats-Sequence"); after == before {
		t.Error("the capability was not written again")
	}
	if n := len(f.sims["a"].Prompts()); n != 2 {
		t.Errorf("%d prompts were sent, want 2", n)
	}
}

func TestACapabilityIsReadAgainAndAgainAndWrittenWhenItIsAnother(t *testing.T) {
	t.Parallel()
	const subject = "$KV.COMFY_CAPABILITIES.a"
	f := start(t, setup{noAgents: true, dispatchers: 1, hosts: painters("a")})
	proxy := f.spy(f.sims["a"].URL())
	f.agent("a", proxy.URL, agent.Config{LearnEvery: 100 * time.Millisecond})
	revision := func() string {
		if m := f.stored("KV_COMFY_CAPABILITIES", subject); m != nil && m.Header.Get("KV-Operation") == "" {
			return m.Header.Get("Nats-Sequence")
		}
		return ""
	}
	readAgain := func() { // a reading that began after the call has ended
		from := proxy.count("GET /object_info")
		f.eventually("two more readings", func() bool { return proxy.count("GET /object_info") >= from+3 })
	}
	f.eventually("a capability", func() bool { return revision() != "" })
	first := revision()
	readAgain()
	if now := revision(); now != first {
		t.Errorf("the same capability was written again, as %s after %s", now, first)
	}
	// A model that comes while nothing else happens is found, and the job that waited for it runs.
	r := f.submit("acme", job.Spec{Workflow: paint("flux.safetensors", "a cat", 1)})
	f.await(r, job.Waiting)
	if err := f.sims["a"].AddModel("checkpoints", "flux.safetensors"); err != nil {
		t.Fatal(err)
	}
	if got, want := story(f.chain(r)), "queued waiting started@a completed@a"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
	// A bucket that was purged by hand is filled again.
	var done struct{ Success bool }
	f.request(nats.NewMsg("$JS.API.STREAM.PURGE.KV_COMFY_CAPABILITIES"), &done)
	if !done.Success {
		t.Fatal("the bucket stands as before")
	}
	f.eventually("a capability again", func() bool { return revision() != "" })
}

func TestAJobIsNotGivenUpWhileAHostForItIsMerelyAway(t *testing.T) {
	t.Parallel()
	hosts := names("a", "b")
	hosts[0].Nodes = []string{"OnlyA"}
	f := start(t, setup{dispatchers: 2, hosts: hosts, config: dispatcher.Config{CapableWait: 500 * time.Millisecond}})
	special := func(class string) json.RawMessage {
		return graph(map[string]any{
			"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1),
			"2": node(class, "image", link("1")),
			"9": node("SaveImage", "images", link("2"), "filename_prefix", "out"),
		})
	}
	f.sims["a"].Kill()
	f.eventually("a known to be out", func() bool { return f.hosts()[0].State == queue.Unhealthy })
	patient := f.submit("acme", job.Spec{Workflow: special("OnlyA")})
	f.await(patient, job.Waiting)
	// That another job, which came later, is given up proves that capable_wait is over.
	if end := f.end(f.submit("acme", job.Spec{Workflow: special("Nobody")})); end.Reason != string(failure.NoCapableHost) {
		t.Errorf("the job for nobody ended %s, %s", end.EventKind, end.Reason)
	}
	if err := f.sims["a"].Restart(); err != nil {
		t.Fatal(err)
	}
	if got, want := story(f.chain(patient)), "queued waiting started@a completed@a"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
}

func TestAHostGetsModelsInItsOwnSpelling(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{
		{Name: "windows", Models: map[string][]string{"checkpoints": {`sd\15\base.safetensors`}}},
		{Name: "linux", Models: map[string][]string{"checkpoints": {"sd/15/base.safetensors"}}},
	}})
	for host, own := range map[string]string{"windows": `"sd\\15\\base.safetensors"`, "linux": `"sd/15/base.safetensors"`} {
		for _, given := range []string{`sd\15\base.safetensors`, "sd/15/base.safetensors"} {
			f.end(f.submit("acme", onlyOn(host, paint(given, "a cat", 1))))
		}
		prompts := f.sims[host].Prompts()
		if len(prompts) != 2 {
			t.Fatalf("host %s was sent %d prompts, want 2", host, len(prompts))
		}
		for _, p := range prompts {
			if !strings.Contains(string(p), own) {
				t.Errorf("host %s was sent %s, want its own spelling %s", host, p, own)
			}
		}
	}
}

func TestTheVersionOfAHostIsThatOfItsComfyUI(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Version: "0.31.2", VRAM: 8 << 30}}, agent: agent.Config{Version: "v9", Labels: []string{"gpu=3060"}}})
	hosts := f.hosts()
	if len(hosts) != 1 {
		t.Fatalf("there are %d hosts, want 1", len(hosts))
	}
	h := hosts[0]
	if h.Version != "0.31.2" || h.Agent != "v9" || h.Memory != 8<<30 || h.Labels[0] != "gpu=3060" || h.Capability == 0 || h.Strikes != 0 {
		t.Errorf("host is %+v", h)
	}
}
