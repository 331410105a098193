package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestADrainedHostEndsWhatRunsAndTakesNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
	hosts := f.subscribe("comfy.events.hosts.a.*")
	running := f.submit("acme", onlyOn("a", sleep(1, 1)))
	f.await(running, job.Started)
	f.awaitRun("a")
	call[queue.DrainAnswer](f, "drain", queue.DrainRequest{Host: "a"})
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".draining") {
		t.Errorf("told %s, want draining", msg.Subject)
	}
	waiting := f.submit("acme", onlyOn("a", picture(2)))
	if e := f.await(waiting, job.Waiting); e.Hosts["a"] != "draining" {
		t.Errorf("waiting says %v", e.Hosts)
	}
	if end := f.end(f.submit("acme", job.Spec{Workflow: picture(3), PreferHosts: []string{"a"}})); end.Host != "b" {
		t.Errorf("a job that only prefers a ran on %s", end.Host)
	}
	if end := f.end(running); end.EventKind != job.Completed {
		t.Errorf("what ran ended %s", end.EventKind)
	}
	call[queue.DrainAnswer](f, "drain", queue.DrainRequest{Host: "a", Resume: true})
	if end := f.end(waiting); end.EventKind != job.Completed || end.Host != "a" {
		t.Errorf("what waited ended %s on %s", end.EventKind, end.Host)
	}
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".online") {
		t.Errorf("told %s, want online", msg.Subject)
	}
	var answer queue.CountAnswer
	if err := f.q.Call(f.context(), "drain", queue.DrainRequest{Host: "nowhere"}, &answer); err == nil {
		t.Error("a host that is not there was drained")
	}
}

func TestAnAgentThatIsStoppedGivesBackWhatDoesNotEndInTime(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("b")})
	f.sim(comfysim.Config{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultHang}}}) // until it is interrupted
	stop, _ := f.agent("a", f.sims["a"].URL(), agent.Config{Drain: 300 * time.Millisecond})
	f.awaitPresence(2)
	f.dispatcher(dispatcher.Config{})
	r := f.submit("acme", job.Spec{Workflow: picture(0x112233), PreferHosts: []string{"a"}, MaxAttempts: 1})
	f.await(r, job.Started)
	f.awaitRun("a")
	stop()
	if running, pending := f.sims["a"].Pending(); running != "" || len(pending) != 0 {
		t.Errorf("ComfyUI still runs %q, %v", running, pending)
	}
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	if e := chain[2]; e.Kind != failure.Drained || e.Counted == nil || *e.Counted {
		t.Errorf("failed as %s, counted %v; want drained, not counted", e.Kind, *e.Counted)
	}
	f.wantBlockOf("a", picture(1), "")
	if last := f.stored("COMFY_EVENTS", "comfy.events.hosts.a.*"); !strings.HasSuffix(last.Header.Get("Nats-Subject"), ".offline") {
		t.Errorf("the last word of a is %s", last.Header.Get("Nats-Subject"))
	}
}

func TestARollingRestartOfEverythingLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("a", "b", "c"), noAgents: true})
	var stopAgents, stopDispatchers []func()
	agentOf := func(name string) func() {
		stop, _ := f.agent(name, f.sims[name].URL(), agent.Config{})
		return stop
	}
	dispatch := func() func() {
		stop, _ := f.dispatcher(dispatcher.Config{})
		return stop
	}
	hosts := []string{"a", "b", "c"}
	for _, name := range hosts {
		stopAgents = append(stopAgents, agentOf(name))
	}
	f.awaitPresence(3)
	for range 2 {
		stopDispatchers = append(stopDispatchers, dispatch())
	}
	var jobs []jetstream.Receipt
	load := func(n int) {
		for range n {
			jobs = append(jobs, f.submit("acme", job.Spec{Workflow: sleep(len(jobs), 0.05)}))
		}
	}
	load(30)
	for i, name := range hosts {
		load(20)
		f.await(jobs[20*i], job.Started)
		stopAgents[i]()
		agentOf(name)
		load(10)
	}
	for _, stop := range stopDispatchers {
		load(20)
		stop()
		dispatch()
	}
	for i, r := range jobs {
		if end := f.end(r); end.EventKind != job.Completed {
			t.Errorf("job %d ended %s: %s", i, end.EventKind, end.Message)
		}
	}
	if n := f.runs(); n["a"]+n["b"]+n["c"] != len(jobs) {
		t.Errorf("runs are %v, want %d in all", n, len(jobs))
	}
	for _, kind := range []string{"failed", "retrying"} {
		if n := f.total("COMFY_EVENTS", "comfy.events.jobs.*.*."+kind); n != 0 {
			t.Errorf("%d events %s", n, kind)
		}
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.jobs.*.*.started"); n != len(jobs) {
		t.Errorf("%d events started for %d jobs", n, len(jobs))
	}
}
