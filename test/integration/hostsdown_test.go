package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// mortal are hosts that a fault meets at every ImageInvert.
func mortal(fault comfysim.Fault, hosts ...string) []comfysim.Config {
	configs := names(hosts...)
	fault.Class = "ImageInvert"
	for i := range configs {
		configs[i].Faults = []comfysim.Fault{fault}
	}
	return configs
}

func TestAJobThatTakesTwoHostsDownIsDeadAndItsHashIsReported(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault comfysim.Fault
		kind  failure.Kind
		stay  int // hosts that are online afterwards
	}{
		"TheProcessDies": {comfysim.Fault{Kind: comfysim.FaultDie, Restart: 100 * time.Millisecond}, failure.HostLost, 3},
		"TheWorkerDies":  {comfysim.Fault{Kind: comfysim.FaultWedge}, failure.HostSick, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{dispatchers: 2, hosts: mortal(tc.fault, "a", "b", "c")})
			end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, 1), MaxAttempts: 9}))
			if end.EventKind != job.Dead || end.Reason != string(failure.TakesHostsDown) || end.Hash != hashOf(t, inverted(1, 1)) {
				t.Errorf("ended %s: %s, hash %s", end.EventKind, end.Reason, end.Hash)
			}
			if len(end.Attempts) != 2 || end.Attempts[0].Host == end.Attempts[1].Host || end.Attempts[1].Kind != tc.kind {
				t.Errorf("the attempts are %+v, want %s on two hosts", end.Attempts, tc.kind)
			}
			for _, a := range end.Attempts {
				if !strings.Contains(end.Message, a.Host+": ") {
					t.Errorf("the message does not name host %s: %s", a.Host, end.Message)
				}
			}
			if posted := len(f.sims["a"].Prompts()) + len(f.sims["b"].Prompts()) + len(f.sims["c"].Prompts()); posted != 2 {
				t.Errorf("%d hosts got the job, want 2", posted)
			}
			f.awaitPresence(tc.stay)
		})
	}
}

// Jobs of one attempt each, one after the other, and one that waits already: no third host is ever given one.
func TestFurtherJobsOfAWorkflowThatTakesHostsDownEndAtOnceUntilSomebodyLetsThemRun(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		dispatchers: 2, hosts: mortal(comfysim.Fault{Kind: comfysim.FaultDie, Restart: 100 * time.Millisecond}, "a", "b", "c"),
	})
	waiting := f.submit("acme", job.Spec{ID: "waiting", Workflow: inverted(2, 1), OnlyHosts: []string{"nowhere"}})
	f.await(waiting, job.Waiting)
	first := f.end(f.submit("acme", job.Spec{ID: "first", Workflow: inverted(1, 1), MaxAttempts: 1}))
	if first.Reason != string(failure.TakesHostsDown) || len(first.Attempts) != 2 {
		t.Errorf("the first ended %s: %s, %s", first.EventKind, first.Reason, first.Message)
	}
	next := f.submit("acme", job.Spec{ID: "next", Workflow: inverted(3, 1)})
	for _, r := range []jetstream.Receipt{waiting, next} {
		end := f.end(r)
		if end.EventKind != job.Dead || end.Reason != string(failure.TakesHostsDown) || len(end.Attempts) != 0 || !strings.Contains(end.Message, "job first: ") {
			t.Errorf("%s ended %s: %s after %d attempts: %s", r.Job, end.EventKind, end.Reason, len(end.Attempts), end.Message)
		}
	}
	f.awaitPresence(3)
	if end := f.end(f.submit("acme", job.Spec{Workflow: picture(1)})); end.EventKind != job.Completed {
		t.Errorf("another workflow of the tenant ended %s: %s", end.EventKind, end.Message)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.blocks.>"); n != 0 {
		t.Errorf("%d events of blocks: a host that went down is out because of itself only", n)
	}
	for _, sim := range f.sims {
		sim.ClearFaults()
	}
	if n := call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Hash: hashOf(t, inverted(1, 1))}).Count; n != 1 {
		t.Errorf("unblock let %d pairs go, want 1", n)
	}
	f.everyone("all dispatchers let the workflow run", func() bool {
		answer, _ := f.why(jetstream.WhyRequest{Tenant: "acme", Workflow: inverted(4, 1)})
		return answer.Text == "a host may take it at once"
	})
	if end := f.end(f.submit("acme", job.Spec{Workflow: inverted(4, 1)})); end.EventKind != job.Completed {
		t.Errorf("after unblock one ended %s: %s", end.EventKind, end.Message)
	}
}

func TestJobsOfOneHostEachThatTakeItDownAreSeenTogether(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		dispatchers: 2, hosts: mortal(comfysim.Fault{Kind: comfysim.FaultDie, Restart: 100 * time.Millisecond}, "a", "b", "c"),
	})
	first := f.end(f.submit("acme", once("a", inverted(1, 1))))
	if first.Reason != string(failure.AttemptsExhausted) || len(first.Attempts) != 2 {
		t.Errorf("the first ended %s: %s after %d attempts", first.EventKind, first.Reason, len(first.Attempts))
	}
	f.wantOut("a", false)
	second := f.end(f.submit("acme", once("b", inverted(2, 1))))
	if second.Reason != string(failure.TakesHostsDown) || len(second.Attempts) != 1 || !strings.Contains(second.Message, "a with job "+string(first.Job)) {
		t.Errorf("the second ended %s: %s after %d attempts: %s", second.EventKind, second.Reason, len(second.Attempts), second.Message)
	}
	if third := f.end(f.submit("acme", once("c", inverted(3, 1)))); third.Reason != string(failure.TakesHostsDown) || len(third.Attempts) != 0 {
		t.Errorf("the third ended %s: %s after %d attempts", third.EventKind, third.Reason, len(third.Attempts))
	}
}

// Two hosts that went down alike by chance, in a rolling restart, must not end all that a tenant has.
func TestAWorkflowThatHasJustCompletedIsNotGuiltyForOneJobOfIt(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b", "c")})
	if end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, 1)})); end.EventKind != job.Completed {
		t.Fatalf("ended %s: %s", end.EventKind, end.Message)
	}
	for _, sim := range f.sims {
		sim.AddFault(comfysim.Fault{Kind: comfysim.FaultDie, Class: "ImageInvert", Text: "deadly", Restart: 100 * time.Millisecond})
	}
	deadly := graph(map[string]any{
		"1":  node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 2),
		"11": node("ImageInvert", "image", link("1")),
		"9":  node("SaveImage", "images", link("11"), "filename_prefix", "deadly"),
	})
	if hashOf(t, deadly) != hashOf(t, inverted(1, 1)) {
		t.Fatal("two jobs of one workflow have different hashes")
	}
	if end := f.end(f.submit("acme", job.Spec{Workflow: deadly})); end.Reason != string(failure.TakesHostsDown) || len(end.Attempts) != 2 {
		t.Errorf("the deadly one ended %s: %s, %s", end.EventKind, end.Reason, end.Message)
	}
	if end := f.end(f.submit("acme", job.Spec{Workflow: inverted(3, 1)})); end.EventKind != job.Completed {
		t.Errorf("the next one ended %s: %s", end.EventKind, end.Message)
	}
}

// Each ComfyUI is restarted as soon as the job on it has come a good way further than on the host before.
func TestARollingRestartOfTheWholeFleetLosesNoLongJobAndBlocksNothing(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b", "c")})
	ticks := f.subscribe("comfy.live.jobs.acme.long.progress")
	long := nap(4, 400, 0x203040)
	r := f.submit("acme", job.Spec{ID: "long", Workflow: long, MaxAttempts: 1, RetryDelay: job.Duration(50 * time.Millisecond)})
	visited := map[string]bool{}
	for n := range 3 {
		host := f.nth(r, job.Started, n).Host
		visited[host] = true
		f.passes(ticks, float64(40+100*n))
		f.sims[host].Kill()
		if err := f.sims[host].Restart(); err != nil {
			t.Fatal(err)
		}
		if e := f.nth(r, job.Failed, n); e.Kind != failure.HostLost {
			t.Fatalf("loss %d is %s: %s", n+1, e.Kind, e.Message)
		}
		f.wantOut(host, false)
		if n == 1 { // nothing is held against the workflow on the restarted hosts
			if end := f.end(f.submit("acme", onlyOn(host, nap(0.01, 1, 5)))); end.EventKind != job.Completed {
				t.Errorf("a short job of the workflow ended %s: %s", end.EventKind, end.Message)
			}
		}
	}
	f.wantPicture(f.end(r), rgb(0x203040))
	if len(visited) != 3 {
		t.Errorf("the job was lost on %v, want three hosts", visited)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.blocks.>"); n != 0 {
		t.Errorf("%d events of blocks", n)
	}
}

// passes waits until a progress message tells of at least so many steps.
func (f *fleet) passes(ticks *nats.Subscription, steps float64) {
	f.t.Helper()
	f.eventually("progress", func() bool {
		msg, err := ticks.NextMsg(testTimeout)
		var p jetstream.Progress
		return err == nil && json.Unmarshal(msg.Data, &p) == nil && p.Node == "2" && p.Value >= steps
	})
}

// Hosts that are out because of one tenant are told by their agents; here by the test.
func TestWhileTwoHostsAreOutBecauseOfOneTenantItsJobsWaitAndThoseOfOthersRun(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a"), jetstream: queue.Config{PresenceTTL: 5 * time.Minute}})
	for _, host := range []string{"x", "y"} {
		state := queue.HostState{
			Host: host, Instance: "of-the-test", Serial: 1, State: queue.Unhealthy, Reason: "ComfyUI does not answer", Cause: failure.Down,
			Slots: 1, Time: f.q.Now(), Blame: &queue.Blame{Tenant: "acme", Job: job.ID("on-" + host), Hash: hashOf(t, picture(1))},
		}
		if err := f.q.Beat(f.context(), &state); err != nil {
			t.Fatal(err)
		}
	}
	f.everyone("all dispatchers know of both", func() bool {
		answer, hosts := f.why(jetstream.WhyRequest{Tenant: "acme", Workflow: picture(1)})
		return answer.Reason == route.HostsDown && hosts["x"].Text == "unhealthy (down): ComfyUI does not answer"
	})
	held := f.submit("acme", job.Spec{Workflow: picture(2)})
	e := f.await(held, job.Waiting)
	if e.Reason != string(route.HostsDown) || !strings.Contains(e.Message, "x (job on-x), y (job on-y)") {
		t.Errorf("it waits because of %s: %s", e.Reason, e.Message)
	}
	f.wantPicture(f.end(f.submit("bolt", job.Spec{Workflow: picture(3)})), rgb(3))
	if err := f.q.Leave(f.context(), "x"); err != nil {
		t.Fatal(err)
	}
	f.wantPicture(f.end(held), rgb(2))
}
