package integration_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// A ComfyUI of 0.3 has no /api/jobs and no cancel by it, and names a missing node in another form.
func TestAComfyUIOf2025IsServedLikeANewOne(t *testing.T) {
	t.Parallel()
	const old = "0.3.64"
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Version: old}, {Name: "b", Version: old}}})
	f.wantPicture(f.end(f.submit("acme", onlyOn("a", picture(0x123456)))), rgb(0x123456))

	// A prompt whose time is over is cancelled by its id before the next host begins.
	f.sims["a"].AddFault(comfysim.Fault{Kind: comfysim.FaultHang, Times: 1})
	limits := &job.Timeouts{Node: duration(3 * time.Second)}
	chain := f.chain(f.submit("acme", job.Spec{Workflow: nap(0.05, 5, 3), PreferHosts: []string{"a"}, Timeouts: limits}))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want || chain[2].Kind != failure.Timeout {
		t.Errorf("chain is %q, failed as %s: %s", got, chain[2].Kind, chain[2].Message)
	}
	if runs := f.sims["a"].Runs(); runs[len(runs)-1].Outcome != comfysim.Interrupted {
		t.Errorf("the prompt on host a ended %v, want interrupted", runs[len(runs)-1].Outcome)
	}

	// So is one that somebody cancels; it has another hash, since that of the first is blocked on a.
	r := f.submit("acme", onlyOn("a", sleep(2, 60)))
	f.await(r, job.Started)
	f.awaitRun("a")
	f.cancel(r)
	if end := f.end(r); end.EventKind != job.Cancelled {
		t.Errorf("ended %s", end.EventKind)
	}
	f.waitSim("a", func() bool { running, _ := f.sims["a"].Pending(); return running == "" })

	// What depends on what is installed is known by its old form, too: each host refuses it.
	if end := f.end(f.submit("acme", job.Spec{Workflow: graph(map[string]any{"9": node("SaveImage", "filename_prefix", "out")})})); end.Kind != failure.Refused {
		t.Errorf("a missing input ended %s, %s: %s", end.EventKind, end.Kind, end.Message)
	}
}
