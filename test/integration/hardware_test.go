package integration_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// sized is paint with a latent of its own size.
func sized(checkpoint, prompt string, side int) json.RawMessage {
	var nodes map[string]any
	if err := json.Unmarshal(paint(checkpoint, prompt, side), &nodes); err != nil {
		panic(err)
	}
	nodes["5"] = node("EmptyLatentImage", "width", side, "height", side, "batch_size", 1)
	return graph(nodes)
}

func TestComplexWorkflowsGoToBigHostsAndOneFailingCombinationStaysAlone(t *testing.T) {
	t.Parallel()
	const flux, small = "flux1-dev.safetensors", checkpoint
	both := map[string][]string{"checkpoints": {small, flux}}
	few := map[string][]string{"checkpoints": {small}}
	cursed := comfysim.Fault{Kind: comfysim.FaultRaise, Text: "CursedUpscaler", Exception: "RuntimeError", Message: "shape mismatch"}
	outOfMemory := comfysim.Fault{Kind: comfysim.FaultOOM, MinSize: 512 * 512}
	configs := []comfysim.Config{
		{Name: "big-1", VRAM: 80 << 30, Models: both, Nodes: []string{"CursedUpscaler"}, Faults: []comfysim.Fault{cursed}},
		{Name: "big-2", VRAM: 80 << 30, Models: both, Nodes: []string{"CursedUpscaler"}},
		{Name: "small-1", VRAM: 8 << 30, Models: few, Faults: []comfysim.Fault{outOfMemory}},
		{Name: "small-2", VRAM: 8 << 30, Models: few, Faults: []comfysim.Fault{outOfMemory}},
	}
	f := start(t, setup{noAgents: true, hosts: configs})
	for name, sim := range f.sims {
		label := "gpu=" + strings.SplitN(name, "-", 2)[0]
		f.agent(name, sim.URL(), agent.Config{Labels: []string{label}})
	}
	f.awaitPresence(len(configs))
	for range 2 {
		f.dispatcher(dispatcher.Config{Policy: route.Policy{Cooldown: time.Minute, Cap: 10 * time.Minute, MaxFailures: 1}})
	}
	blocks := f.notes("comfy.events.blocks.>")

	// One combination fails: this workflow on big-1. It completes on big-2, and the next ones go there at once.
	upscaled := func(prompt string) json.RawMessage {
		var nodes map[string]any
		if err := json.Unmarshal(sized(flux, prompt, 1024), &nodes); err != nil {
			panic(err)
		}
		nodes["10"] = node("CursedUpscaler", "image", link("8"))
		nodes["9"] = node("SaveImage", "images", link("10"), "filename_prefix", "out")
		return graph(nodes)
	}
	first := f.chain(f.submit("studio", job.Spec{Workflow: upscaled("one"), PreferHosts: []string{"big-1"}}))
	if got, want := story(first), "queued started@big-1 failed@big-1 retrying started@big-2 completed@big-2"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
	// Complex ones go to big hosts for what these have; simple ones are kept off them by a wish.
	var heavy, simple []jetstream.Receipt
	for n := range 12 {
		heavy = append(heavy, f.submit("studio", job.Spec{Workflow: sized(flux, "a city", 1024+8*n)}))
		simple = append(simple, f.submit("web", job.Spec{Workflow: sized(small, "a cat", 64+8*n), ExcludeHosts: []string{"gpu=big"}}))
	}
	for range 3 {
		if end := f.end(f.submit("studio", job.Spec{Workflow: upscaled("again"), PreferHosts: []string{"big-1"}})); end.Host != "big-2" || end.Attempt != 1 {
			t.Errorf("the failing combination ended %s on %s in attempt %d", end.EventKind, end.Host, end.Attempt)
		}
	}
	for _, r := range slices.Concat(heavy, simple) {
		f.end(r)
	}
	f.idle() // a job does not wait for a host that it prefers
	// A picture too big for a small host moves to one with more memory, and small pictures stay where they were.
	large := f.chain(f.submit("web", job.Spec{Workflow: sized(small, "a wall", 768), PreferHosts: []string{"small-1"}}))
	if end := large[len(large)-1]; end.EventKind != job.Completed || !strings.HasPrefix(end.Host, "big-") {
		t.Errorf("the large picture: %s", story(large))
	}
	if got, want := story(large), "queued started@small-1 failed@small-1 retrying"; !strings.HasPrefix(got, want) {
		t.Errorf("the large one's chain is %q, want %q first", got, want)
	}
	simple = append(simple, f.submit("web", onlyOn("small-1", sized(small, "a cat", 64))))
	for _, r := range heavy {
		if end := f.end(r); end.EventKind != job.Completed || !strings.HasPrefix(end.Host, "big-") || end.Attempt != 1 {
			t.Errorf("heavy job %s ended %s on %q in attempt %d", r.Job, end.EventKind, end.Host, end.Attempt)
		}
	}
	for _, r := range simple {
		if end := f.end(r); end.EventKind != job.Completed || !strings.HasPrefix(end.Host, "small-") || end.Attempt != 1 {
			t.Errorf("simple job %s ended %s on %q in attempt %d", r.Job, end.EventKind, end.Host, end.Attempt)
		}
	}
	f.announced()
	f.eventually("the blocks' events", func() bool { return len(blocks.of(".blocked")) == 2 })
	var told []string
	for _, n := range blocks.of(".blocked") {
		b := fields(t, n.Body)
		told = append(told, b["host"].(string)+" "+b["kind"].(string))
	}
	slices.Sort(told)
	if want := []string{"big-1 execution_error", "small-1 out_of_memory"}; !slices.Equal(told, want) {
		t.Errorf("blocks are %q, want %q and no other", told, want)
	}
}
