package integration_test

import (
	"encoding/json"
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
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

func blockIn(t *testing.T, msg *nats.Msg) route.Block {
	t.Helper()
	var b route.Block
	if err := json.Unmarshal(msg.Data, &b); err != nil || !strings.HasSuffix(msg.Subject, ".blocked") {
		t.Fatalf("event %s %s is no block: %v", msg.Subject, msg.Data, err)
	}
	return b
}

func causeIn(t *testing.T, msg *nats.Msg) queue.UnblockCause {
	t.Helper()
	var u queue.Unblocked
	if err := json.Unmarshal(msg.Data, &u); err != nil || !strings.HasSuffix(msg.Subject, ".unblocked") {
		t.Fatalf("event %s %s is no end of a block: %v", msg.Subject, msg.Data, err)
	}
	return u.Cause
}

// once is a job that is not tried again.
func once(host string, workflow json.RawMessage) job.Spec {
	s := onlyOn(host, workflow)
	s.MaxAttempts = 1
	return s
}

func TestABlockHoldsForOneTenantUntilASecondMeetsTheFailure(t *testing.T) {
	t.Parallel()
	hosts := painters("a")
	hosts[0].Faults = []comfysim.Fault{{Kind: comfysim.FaultRaise, Text: "unlucky"}}
	f := start(t, setup{dispatchers: 2, hosts: hosts})
	blocks := f.subscribe("comfy.events.blocks.a.>")
	unlucky, lucky := paint(checkpoint, "unlucky", 1), paint(checkpoint, "lucky", 1)
	f.end(f.submit("acme", once("a", unlucky)))
	first := blockIn(t, f.next(blocks))
	if len(first.Tenants) != 1 || first.Tenants[0] != "acme" {
		t.Errorf("the block holds for %v, want acme", first.Tenants)
	}
	if end := f.end(f.submit("umbrella", once("a", lucky))); end.EventKind != job.Completed {
		t.Errorf("the other tenant's job ended %s: %s", end.EventKind, end.Message)
	}
	f.end(f.submit("umbrella", once("a", unlucky)))
	second := blockIn(t, f.next(blocks))
	if len(second.Tenants) != 1 || second.Tenants[0] != route.Everyone || !second.Until.Equal(first.Until) || second.Level != first.Level {
		t.Errorf("the second block is %+v; want one for everyone, until %v, level %d", second, first.Until, first.Level)
	}
	f.everyone("both dispatchers have heard that the block holds for everyone", func() bool {
		_, hosts := f.why(jetstream.WhyRequest{Tenant: "third", Workflow: lucky})
		return hosts["a"].Code == route.CodeBlocked
	})
	third := f.submit("third", once("a", lucky))
	if e := f.await(third, job.Waiting); e.Reason != string(route.AllBlocked) {
		t.Errorf("a third tenant waits for %q", e.Reason)
	}
	if n := call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Host: "a", Hash: first.Hash}).Count; n != 1 {
		t.Errorf("unblock lifted %d", n)
	}
	if cause := causeIn(t, f.next(blocks)); cause != queue.Cleared {
		t.Errorf("unblocked because of %s, want cleared", cause)
	}
	if end := f.end(third); end.EventKind != job.Completed {
		t.Errorf("the third tenant's job ended %s", end.EventKind)
	}
	if n := f.total("KV_COMFY_STRIKES", "$KV.COMFY_STRIKES.>"); n != 1 {
		t.Errorf("COMFY_STRIKES holds %d messages", n)
	} else if m := f.stored("KV_COMFY_STRIKES", "$KV.COMFY_STRIKES.>"); m.Header.Get("KV-Operation") == "" {
		t.Errorf("the strikes stand after the unblock: %s", m.Data)
	}
}

func TestASecondOpinionTellsAFaultyWorkflowFromAFaultyHost(t *testing.T) {
	t.Parallel()
	raise := func(message string) []comfysim.Fault {
		return []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: message}}
	}
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{
		{Name: "a", Faults: raise("bad size 12 in /home/a/x.py")}, {Name: "b", Faults: raise("bad size 99 in /srv/b/x.py")}, {Name: "c"},
	}})
	blocks := f.subscribe("comfy.events.blocks.>")
	end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, 1), PreferHosts: []string{"a"}, ExcludeHosts: []string{"c"}}))
	if end.EventKind != job.Dead || end.Reason != string(failure.WorkflowFault) || len(end.Attempts) != 2 {
		t.Errorf("ended %s, %s after %d attempts", end.EventKind, end.Reason, len(end.Attempts))
	}
	if b := blockIn(t, f.next(blocks)); b.Host != "a" {
		t.Errorf("blocked on %s", b.Host)
	}
	if cause := causeIn(t, f.next(blocks)); cause != queue.WorkflowFault {
		t.Errorf("unblocked because of %s, want workflow_fault", cause)
	}
	f.wantBlockOf("a", inverted(1, 1), "")
	f.wantBlockOf("b", inverted(1, 1), "")

	// When the other host succeeds, the block stays in force.
	var chain []job.Event
	f.eventually("a job is tried on a", func() bool { // which gets no job of this workflow for up to a second after the failure
		chain = f.chain(f.submit("acme", job.Spec{Workflow: inverted(2, 1), PreferHosts: []string{"a"}, ExcludeHosts: []string{"b"}}))
		return strings.Contains(story(chain), "started@a")
	})
	if done := chain[len(chain)-1]; done.EventKind != job.Completed || done.Host != "c" {
		t.Errorf("ended %s on %s", done.EventKind, done.Host)
	}
	f.wantBlockOf("a", inverted(1, 1), "acme")
}

func TestOutOfMemoryBlocksWhatIsAsBigAndFreesTheMemory(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("b")})
	f.sim(comfysim.Config{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultOOM, MinSize: 64 * 64}}})
	proxy := f.spy(f.sims["a"].URL())
	f.agent("a", proxy.URL, agent.Config{})
	f.awaitPresence(2)
	f.dispatcher(dispatcher.Config{})
	sized := func(side, color int) json.RawMessage {
		return graph(map[string]any{
			"1": node("EmptyImage", "width", side, "height", side, "batch_size", 1, "color", color),
			"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
		})
	}
	if got := story(f.chain(f.submit("acme", job.Spec{Workflow: sized(64, 1), PreferHosts: []string{"a"}}))); got != "queued started@a failed@a retrying started@b completed@b" {
		t.Errorf("chain is %q", got)
	}
	if n := proxy.count("POST /free"); n != 1 {
		t.Errorf("/free was called %d times, want once", n)
	}
	for _, tenant := range []string{"acme", "umbrella"} {
		if end := f.end(f.submit(tenant, onlyOn("a", sized(32, 2)))); end.EventKind != job.Completed {
			t.Errorf("a smaller job of %s ended %s: %s", tenant, end.EventKind, end.Message)
		}
	}
	f.wantBlockOf("a", sized(64, 1), "acme")              // a smaller job's success does not lift it
	f.end(f.submit("umbrella", once("a", sized(128, 3)))) // for all others it is unknown whether it is their doing
	f.wantBlockOf("a", sized(64, 1), "*")
	big := f.submit("third", onlyOn("a", sized(128, 3)))
	if e := f.await(big, job.Waiting); e.Reason != string(route.AllBlocked) {
		t.Errorf("a bigger job waits for %q", e.Reason)
	}
	if _, err := f.q.Cancel(f.context(), big.Tenant, big.Job, "ops", false); err != nil {
		t.Fatal(err)
	}
}

func TestBlocksEscalateUpToTheCapAndLeaveThePairOnProbation(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Times: 3}}}},
		config: dispatcher.Config{Policy: route.Policy{Cooldown: time.Second, Cap: 2 * time.Second, MaxFailures: 1}},
		agent:  agent.Config{Slots: 2},
	})
	blocks := f.subscribe("comfy.events.blocks.>")
	slow := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1),
		"2": node("ImageInvert", "image", link("1")),
		"3": node("SimSleep", "image", link("2"), "seconds", 1, "steps", 10, "preview", "none", "seed", 1),
		"9": node("SaveImage", "images", link("3"), "filename_prefix", "out"),
	})
	r := f.submit("acme", job.Spec{Workflow: slow, MaxAttempts: 9, RetryDelay: job.Duration(time.Millisecond)})
	for level, cooldown := range []time.Duration{time.Second, 2 * time.Second, 2 * time.Second} { // the third is capped
		failed := f.nth(r, job.Failed, level)
		b := blockIn(t, f.next(blocks))
		left := b.Until.Sub(f.q.Now())
		if lasts := b.Until.Sub(failed.Time); b.Level != level || lasts < cooldown || left > cooldown {
			t.Errorf("block %d has level %d, lasts %v and is in force for %v more, want %v", level, b.Level, lasts, left, cooldown)
		}
		if cause := causeIn(t, f.next(blocks)); cause != queue.Expired {
			t.Errorf("unblocked because of %s, want expired", cause)
		}
	}
	f.nth(r, job.Started, 3)
	second := f.submit("acme", job.Spec{Workflow: slow})
	f.await(second, job.Queued)
	why := call[jetstream.WhyAnswer](f, "why", jetstream.WhyRequest{Tenant: "acme", Job: second.Job})
	if len(why.Hosts) != 1 || why.Hosts[0].Code != route.CodeProbe {
		t.Errorf("why says %+v, want probation", why.Hosts)
	}
	for _, r := range []jetstream.Receipt{r, second} {
		if end := f.end(r); end.EventKind != job.Completed {
			t.Errorf("ended %s: %s", end.EventKind, end.Message)
		}
	}
	f.eventually("strikes forgiven", func() bool {
		var s route.Strikes
		m := f.stored("KV_COMFY_STRIKES", "$KV.COMFY_STRIKES.a.*")
		return m != nil && json.Unmarshal(m.Data, &s) == nil && !s.OnProbation() && s.Level == 3
	})
}

// nth awaits the event of a kind that has n of its kind before it.
func (f *fleet) nth(r jetstream.Receipt, kind job.EventKind, n int) job.Event {
	f.t.Helper()
	for e, err := range f.q.Follow(f.context(), r.Tenant, r.Job) {
		if err != nil {
			f.t.Fatalf("job %s: waiting for %s: %v", r.Job, kind, err)
		}
		if e.EventKind != kind {
			continue
		}
		if n == 0 {
			return e
		}
		n--
	}
	f.t.Fatalf("job %s ended without that many %s", r.Job, kind)
	return job.Event{}
}

func TestACapabilityThatChangesLiftsWhatItHadCaused(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: painters("a"), config: dispatcher.Config{CapableWait: time.Minute}})
	blocks := f.subscribe("comfy.events.blocks.>")
	f.eventually("a socket", func() bool { return f.sims["a"].Sockets() == 1 && f.hosts()[0].Capability > 0 })
	f.end(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 1)})) // what the host has is read by now
	if err := f.sims["a"].RemoveModel("checkpoints", checkpoint); err != nil {
		t.Fatal(err)
	}
	r := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 2)})
	b := blockIn(t, f.next(blocks))
	if b.Kind != failure.Incapable || b.Host != "a" {
		t.Errorf("blocked as %s on %s", b.Kind, b.Host)
	}
	f.await(r, job.Waiting)
	if err := f.sims["a"].AddModel("checkpoints", checkpoint); err != nil {
		t.Fatal(err)
	}
	f.sims["a"].Kill()
	if err := f.sims["a"].Restart(); err != nil { // its agent reads anew what it can run
		t.Fatal(err)
	}
	if cause := causeIn(t, f.next(blocks)); cause != queue.CapabilityChanged {
		t.Errorf("unblocked because of %s, want capability_changed", cause)
	}
	if end := f.end(r); end.EventKind != job.Completed {
		t.Errorf("ended %s: %s", end.EventKind, end.Message)
	}
}
