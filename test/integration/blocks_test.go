package integration_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// inverted is a picture with another structure, and so another hash, for every n.
func inverted(color, n int) json.RawMessage {
	nodes := map[string]any{"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", color)}
	last := "1"
	for range n {
		id := "1" + last
		nodes[id] = node("ImageInvert", "image", link(last))
		last = id
	}
	nodes["9"] = node("SaveImage", "images", link(last), "filename_prefix", "out")
	return graph(nodes)
}

// onlyOn is a spec for one host.
func onlyOn(host string, workflow json.RawMessage) job.Spec {
	return job.Spec{Workflow: workflow, OnlyHosts: []string{host}}
}

func TestAFailingPairIsBlockedAndNothingElse(t *testing.T) {
	t.Parallel()
	const until = 8 * time.Second
	raise := comfysim.Fault{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: "negative light", Times: 1}
	f := start(t, setup{
		dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{raise}}, {Name: "b"}},
		config: dispatcher.Config{Policy: route.Policy{Cooldown: until, Cap: time.Minute, MaxFailures: 1}},
	})
	x, y := inverted(0x102030, 1), picture(0x445566)
	blocks := f.subscribe("comfy.events.blocks.>")

	// X fails on A, and completes on B.
	first := f.submit("acme", job.Spec{ID: "first", Workflow: x, PreferHosts: []string{"a"}})
	chain := f.chain(first)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	f.wantPicture(chain[5], rgb(0xefdfcf))

	// One event tells of the block, and the table holds it with a time to live.
	told := f.next(blocks)
	if want := "comfy.events.blocks.a." + string(hashOf(t, x)) + ".blocked"; told.Subject != want {
		t.Fatalf("event %s %s, want %s", told.Subject, told.Data, want)
	}
	wantBlock(t, told.Data, x)
	key := f.stored("KV_COMFY_BLOCKS", "$KV.COMFY_BLOCKS.a."+string(hashOf(t, x)))
	if key == nil || key.Header.Get("Nats-TTL") != "8s" {
		t.Fatalf("the key in COMFY_BLOCKS is %+v, want one with Nats-TTL 8s", key)
	}
	wantBlock(t, key.Data, x)
	var block route.Block
	if err := json.Unmarshal(told.Data, &block); err != nil {
		t.Fatal(err)
	}

	// Y runs on A meanwhile, also for the same tenant; X waits when it may run on A alone.
	waiting := f.submit("acme", onlyOn("a", x))
	if e := f.await(waiting, job.Waiting); e.Reason != string(route.AllBlocked) || e.Until == nil || !e.Until.Equal(block.Until) {
		t.Errorf("waiting says %q until %v, want all_blocked until %v", e.Reason, e.Until, block.Until)
	}
	other := f.end(f.submit("acme", onlyOn("a", y)))
	f.wantPicture(other, rgb(0x445566))
	if other.Host != "a" || !other.Time.Before(block.Until) {
		t.Errorf("Y completed on %s at %v; want A, before %v", other.Host, other.Time, block.Until)
	}

	// The end of the block starts what waited.
	lifted := f.next(blocks)
	var unblocked queue.Unblocked
	if err := json.Unmarshal(lifted.Data, &unblocked); err != nil || !strings.HasSuffix(lifted.Subject, ".unblocked") {
		t.Fatalf("event %s %s: %v", lifted.Subject, lifted.Data, err)
	}
	if unblocked.Host != "a" || unblocked.Hash != hashOf(t, x) || unblocked.Cause != queue.Expired || unblocked.Time.Before(block.Until) {
		t.Errorf("unblocked is %s; want A, X, expired, after %v", lifted.Data, block.Until)
	}
	again := f.await(waiting, job.Started)
	// Nothing else would start it so soon: a host's next heartbeat comes after 5 s.
	if late := again.Time.Sub(unblocked.Time); again.Host != "a" || late > 4*time.Second {
		t.Errorf("X started on %s %v after the block ended, want A within 4s", again.Host, late)
	}
	f.wantPicture(f.end(waiting), rgb(0xefdfcf))
	f.announced()
	want := map[string]int{told.Subject: 1, lifted.Subject: 1}
	if got := f.subjects("COMFY_EVENTS", "comfy.events.blocks.>"); len(got) != 2 || got[told.Subject] != 1 || got[lifted.Subject] != 1 {
		t.Errorf("block events are %v, want %v", got, want)
	}
}

// story is a chain with hosts.
func story(events []job.Event) string {
	words := make([]string, len(events))
	for i, e := range events {
		words[i] = string(e.EventKind)
		if e.Host != "" {
			words[i] += "@" + e.Host
		}
	}
	return strings.Join(words, " ")
}

func wantBlock(t *testing.T, body []byte, x json.RawMessage) {
	t.Helper()
	got := fields(t, body)
	wantKeys(t, "a block", got, "host", "hash", "kind", "message", "job", "tenant", "tenants", "failures", "level", "until")
	tenants, _ := got["tenants"].([]any)
	message, _ := got["message"].(string)
	until, err := time.Parse(time.RFC3339, got["until"].(string))
	if got["host"] != "a" || got["hash"] != string(hashOf(t, x)) || got["kind"] != string(failure.ExecutionError) || got["job"] != "first" || got["tenant"] != "acme" ||
		!strings.Contains(message, "negative light") || !slices.Equal(tenants, []any{"acme"}) || got["failures"] != 1.0 || got["level"] != 0.0 ||
		err != nil || until.Before(time.Now()) {
		t.Errorf("the block says %s", body)
	}
}

func TestThreeFailuresAreNeededWhenThePolicySaysThree(t *testing.T) {
	t.Parallel()
	hosts := painters("a")
	hosts[0].Faults = []comfysim.Fault{{Kind: comfysim.FaultRaise, Text: "unlucky"}}
	f := start(t, setup{
		dispatchers: 2, hosts: hosts,
		config: dispatcher.Config{Policy: route.Policy{Cooldown: time.Minute, Cap: time.Minute, MaxFailures: 3}},
	})
	hash := string(hashOf(t, paint(checkpoint, "unlucky", 0)))
	events := f.subscribe("comfy.events.blocks.>")
	blocks := func() int { return len(f.subjects("KV_COMFY_BLOCKS", "$KV.COMFY_BLOCKS.a."+hash)) }
	fail := func() {
		t.Helper()
		end := f.end(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "unlucky", 1), MaxAttempts: 1}))
		if end.EventKind != job.Dead || end.Kind != failure.ExecutionError || end.Reason != string(failure.AttemptsExhausted) {
			t.Fatalf("the job ended %s %s %s: %s", end.EventKind, end.Reason, end.Kind, end.Message)
		}
	}
	struck := func() int {
		var strikes route.Strikes
		if key := f.stored("KV_COMFY_STRIKES", "$KV.COMFY_STRIKES.a."+hash); key != nil && len(key.Data) > 0 {
			if err := json.Unmarshal(key.Data, &strikes); err != nil {
				t.Fatal(err)
			}
		}
		return strikes.Tenants["acme"]
	}
	fail()
	fail()
	if n := struck(); n != 2 || blocks() != 0 {
		t.Fatalf("after two failures %d strikes and %d blocks, want 2 and none", n, blocks())
	}
	if end := f.end(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "lucky", 1)})); end.EventKind != job.Completed {
		t.Fatalf("the lucky job ended %s: %s", end.EventKind, end.Message)
	}
	f.eventually("strikes cleared by the success", func() bool { return struck() == 0 })
	fail()
	fail()
	if n := struck(); n != 2 || blocks() != 0 {
		t.Fatalf("after two more failures %d strikes and %d blocks, want 2 and none", n, blocks())
	}
	fail()
	if blocks() != 1 {
		t.Fatal("three failures in a row made no block")
	}
	var block route.Block
	if err := json.Unmarshal(f.stored("KV_COMFY_BLOCKS", "$KV.COMFY_BLOCKS.a."+hash).Data, &block); err != nil || block.Failures != 3 {
		t.Errorf("the block counts %d failures (%v), want 3", block.Failures, err)
	}
	f.next(events)
	f.announced()
	if got := f.subjects("COMFY_EVENTS", "comfy.events.blocks.>"); len(got) != 1 || got["comfy.events.blocks.a."+hash+".blocked"] != 1 {
		t.Errorf("block events are %v, want one blocked", got)
	}
}

func TestWhatIsNoFaultOfAHostBlocksNothing(t *testing.T) {
	t.Parallel()
	sleepy := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1),
		"2": node("SimSleep", "image", link("1"), "seconds", 60, "steps", 6000),
		"9": node("SaveImage", "images", link("2"), "filename_prefix", "out"),
	})
	noOutput := graph(map[string]any{"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1)})
	noInput := graph(map[string]any{"1": node("EmptyImage", "width", 16), "9": node("SaveImage", "images", link("1"), "filename_prefix", "out")})
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b"), config: dispatcher.Config{Policy: quick()}})
	for name, tc := range map[string]struct {
		spec   job.Spec
		reason failure.Reason
		chain  string
	}{
		"AnInvalidJob":                {job.Spec{Workflow: json.RawMessage(`{"nodes":[],"links":[]}`)}, failure.InvalidJob, "dead"},
		"AWorkflowWithoutOutput":      {job.Spec{Workflow: noOutput}, failure.NotRetryable, "queued started failed dead"},
		"AWorkflowWithMissingInputs":  {job.Spec{Workflow: noInput}, failure.WorkflowFault, "queued started failed retrying started failed dead"},
		"AJobThatMustNotRunAnyLonger": {job.Spec{Workflow: picture(1), OnlyHosts: []string{"nowhere"}, ExpiresIn: job.Duration(50 * time.Millisecond)}, failure.Expired, "queued waiting dead"},
	} {
		chain := f.chain(f.published("acme", tc.spec))
		end := chain[len(chain)-1]
		if kinds(chain) != tc.chain || end.Reason != string(tc.reason) || end.Message == "" {
			t.Errorf("%s: chain %q ended with %s (%s), want %q with %s", name, kinds(chain), end.Reason, end.Message, tc.chain, tc.reason)
		}
	}
	running := f.submit("acme", job.Spec{Workflow: sleepy})
	host := f.await(running, job.Started).Host
	if err := f.sims[host].Wait(f.context(), func() bool { return len(f.sims[host].Runs()) == 1 }); err != nil {
		t.Fatal(err)
	}
	waiting := f.submit("acme", job.Spec{Workflow: picture(2), OnlyHosts: []string{"nowhere"}})
	f.await(waiting, job.Waiting)
	for _, r := range []jetstream.Receipt{running, waiting} {
		var answer jetstream.CancelAnswer
		if err := f.q.Call(f.context(), "cancel", jetstream.CancelRequest{Tenant: r.Tenant, Job: r.Job, By: "ops"}, &answer); err != nil || answer.State != job.Cancelled {
			t.Fatalf("cancel %s: %+v, %v", r.Job, answer, err)
		}
		if end := f.end(r); end.EventKind != job.Cancelled || end.By != "ops" {
			t.Errorf("job %s ended %s by %q", r.Job, end.EventKind, end.By)
		}
	}
	if runs, err := f.sims[host].WaitEnded(f.context(), 1); err != nil || runs[len(runs)-1].Outcome != comfysim.Interrupted {
		t.Errorf("the cancelled prompt on %s: %+v, %v", host, runs, err)
	}
	f.wantPicture(f.end(f.submit("acme", job.Spec{Workflow: picture(0x123456)})), rgb(0x123456)) // the lane moves
	for _, bucket := range []string{"COMFY_BLOCKS", "COMFY_STRIKES"} {
		if keys := f.subjects("KV_"+bucket, ">"); len(keys) != 0 {
			t.Errorf("%s holds %v, want nothing", bucket, keys)
		}
	}
}

// published submits a job that may be refused; then its id is ours.
func (f *fleet) published(tenant string, spec job.Spec) jetstream.Receipt {
	f.t.Helper()
	body, err := json.Marshal(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.ours(tenant, f.publish("comfy.jobs."+tenant+".5", body))
}

// A cancel that comes while the job is on its way into the waiting room finds no ticket yet, and one that comes while
// it is on its way into ComfyUI finds no prompt.
func TestAJobThatIsCancelledAtAnyMomentLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
	for n := range 60 {
		spec := onlyOn("nowhere", picture(1))
		moment := []job.EventKind{job.Queued, job.Waiting, job.Started}[n%3]
		if moment == job.Started {
			spec = job.Spec{Workflow: sleep(1, 60)}
		}
		r := f.submit("acme", spec)
		f.await(r, moment)
		if _, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "ops", false); err != nil {
			t.Fatal(err)
		}
	}
	f.drained()
	for name, sim := range f.sims {
		f.eventually("host "+name+" idle", func() bool {
			running, pending := sim.Pending()
			return running == "" && len(pending) == 0
		})
	}
}
