package integration_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

var update = flag.Bool("update", false, "write the generated parts of the docs")

func duration(d time.Duration) *job.Duration {
	v := job.Duration(d)
	return &v
}

// nap is a picture that takes a time, in ticks of progress, or in one piece with steps 0.
func nap(seconds float64, steps, color int) json.RawMessage {
	return graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", color),
		"2": node("SimSleep", "image", link("1"), "seconds", seconds, "steps", steps, "preview", "none", "seed", color),
		"9": node("SaveImage", "images", link("2"), "filename_prefix", "out"),
	})
}

// spy is a proxy before a simulated host that counts requests and can swallow the first ones of a path.
type spy struct {
	*httptest.Server
	mu      sync.Mutex // guards all below
	seen    map[string]int
	swallow map[string]int // requests left to swallow, by method and path
}

func (s *spy) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[request]
}

func (f *fleet) spy(target string) *spy {
	f.t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		f.t.Fatal(err)
	}
	s := &spy{seen: map[string]int{}, swallow: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.Path
		s.mu.Lock()
		s.seen[key]++
		swallow := s.swallow[key] > 0
		if swallow {
			s.swallow[key]--
		}
		s.mu.Unlock()
		if swallow {
			_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice that the client hangs up
			<-r.Context().Done()
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	f.stops = append(f.stops, func() { s.CloseClientConnections(); s.Close() })
	return s
}

// Every kind that a fault of ComfyUI can cause, from what ComfyUI sends to what becomes of the job. The job prefers
// host a, where the fault is; host b is well.
func TestEveryKindOfFailureIsRecognisedAndHasItsConsequences(t *testing.T) {
	t.Parallel()
	fault := func(kind comfysim.FaultKind, edit ...func(*comfysim.Fault)) []comfysim.Fault {
		f := comfysim.Fault{Kind: kind, Times: 1}
		for _, e := range edit {
			e(&f)
		}
		return []comfysim.Fault{f}
	}
	raise := func(exception, message string) []comfysim.Fault {
		return fault(comfysim.FaultRaise, func(f *comfysim.Fault) { f.Exception, f.Message = exception, message })
	}
	elsewhere := "queued started@a failed@a retrying started@b completed@b"
	for name, c := range map[string]struct {
		faults  []comfysim.Fault
		job     job.Spec
		kind    failure.Kind
		counted bool
		blocked string // the tenants that the block of (a, hash) holds for; empty: no block
		out     bool   // host a has left the fleet
		story   string
	}{
		"CudaOutOfMemory": {faults: fault(comfysim.FaultOOM), kind: failure.OutOfMemory, counted: true, blocked: "acme", story: elsewhere},
		"HostOutOfMemory": {
			faults: raise("RuntimeError", "[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes."),
			kind:   failure.OutOfMemory, counted: true, blocked: "acme", story: elsewhere,
		},
		"ANodeRaises": {faults: raise("ValueError", "no"), kind: failure.ExecutionError, counted: true, blocked: "acme", story: elsewhere},
		"NodeTimeout": {
			faults: fault(comfysim.FaultHang), job: job.Spec{Timeouts: &job.Timeouts{Node: duration(3 * time.Second)}},
			kind: failure.Timeout, counted: true, blocked: "acme", story: elsewhere,
		},
		"TotalTimeout": {
			faults: fault(comfysim.FaultSlow, func(f *comfysim.Fault) { f.Factor = 1000 }),
			job:    job.Spec{Workflow: nap(0.05, 500, 7), Timeouts: &job.Timeouts{Total: duration(4 * time.Second)}},
			kind:   failure.Timeout, counted: true, blocked: "acme", story: elsewhere,
		},
		"TheProcessDies": {
			faults: fault(comfysim.FaultDie, func(f *comfysim.Fault) { f.Restart = 100 * time.Millisecond }),
			kind:   failure.HostLost, counted: true, story: elsewhere,
		},
		"TheHostFreezes": {faults: fault(comfysim.FaultFreeze), kind: failure.HostLost, counted: true, out: true, story: elsewhere},
		"PoisonedCuda": {
			faults: raise("RuntimeError", "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
			kind:   failure.HostSick, counted: true, blocked: "acme", story: elsewhere, // the host is on trial
		},
		"DiskFull":      {faults: fault(comfysim.FaultDiskFull), kind: failure.HostSick, counted: true, blocked: "acme", story: elsewhere}, // the agent can write
		"WorkerWedged":  {faults: fault(comfysim.FaultWedge), kind: failure.HostSick, counted: true, blocked: "acme", out: true, story: elsewhere},
		"Interrupted":   {faults: fault(comfysim.FaultInterrupt), kind: failure.Interrupted, story: elsewhere},
		"DeletedInLine": {faults: fault(comfysim.FaultDeletePending), kind: failure.Interrupted, story: elsewhere},
		"TooManyRequests": {
			faults: fault(comfysim.FaultRefuse, func(f *comfysim.Fault) { f.Status = http.StatusTooManyRequests }),
			kind:   failure.RejectedBusy, story: "queued started@a failed@a retrying started@a completed@a",
		},
		"ServiceUnavailable": {faults: fault(comfysim.FaultRefuse), kind: failure.RejectedBusy, story: "queued started@a failed@a retrying started@a completed@a"},
		"PartOfTheOutputsDropped": {
			faults: fault(comfysim.FaultNodeErrors), kind: failure.Incapable, blocked: "*", story: elsewhere,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{hosts: names("b")}) // which is well, also when the machine stands still for seconds
			f.sim(comfysim.Config{Name: "a", Faults: c.faults})
			var limits agent.Config
			if c.faults[0].Kind == comfysim.FaultFreeze {
				limits.FreezeTimeout = 700 * time.Millisecond
			}
			f.agent("a", f.sims["a"].URL(), limits)
			f.awaitPresence(2)
			f.dispatcher(dispatcher.Config{})
			spec := c.job
			spec.PreferHosts = []string{"a"}
			spec.RetryDelay = job.Duration(100 * time.Millisecond)
			if spec.Workflow == nil {
				spec.Workflow = nap(0.05, 5, 7)
			}
			chain := f.chain(f.submit("acme", spec))
			if got := story(chain); got != c.story && got != strings.Replace(c.story, "retrying", "retrying waiting", 1) {
				t.Fatalf("chain is %q, want %q: %s", got, c.story, chain[2].Message)
			}
			failed := chain[2]
			if failed.Kind != c.kind || failed.Counted == nil || *failed.Counted != c.counted || failed.Message == "" {
				t.Errorf("failed is %s, counted %v, %q; want %s, %v", failed.Kind, *failed.Counted, failed.Message, c.kind, c.counted)
			}
			f.wantBlockOf("a", spec.Workflow, c.blocked)
			f.wantOut("a", c.out)
		})
	}
}

// wantBlockOf checks for whom a pair is blocked right now.
func (f *fleet) wantBlockOf(host string, workflow json.RawMessage, tenants string) {
	f.t.Helper()
	got := ""
	if m := f.stored("KV_COMFY_BLOCKS", "$KV.COMFY_BLOCKS."+host+"."+string(hashOf(f.t, workflow))); m != nil && m.Header.Get("KV-Operation") == "" {
		var block route.Block
		if err := json.Unmarshal(m.Data, &block); err != nil {
			f.t.Fatal(err)
		}
		for i, tenant := range block.Tenants {
			got += strings.Repeat(" ", min(i, 1)) + string(tenant)
		}
	}
	if got != tenants {
		f.t.Errorf("the pair on %s is blocked for %q, want %q", host, got, tenants)
	}
}

// waitSim waits until a simulated host is as it should be.
func (f *fleet) waitSim(host string, done func() bool) {
	f.t.Helper()
	if err := f.sims[host].Wait(f.context(), done); err != nil {
		f.t.Fatal(err)
	}
}

// wantOut waits until a host is out of the fleet, or in it: one that died and came back may not be in it yet, and one
// that is sick never comes back.
func (f *fleet) wantOut(host string, out bool) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("host %s is out of the fleet: %v", host, out), func() bool {
		state, found, err := f.q.Host(f.context(), host)
		return err == nil && found && (state.State == queue.Unhealthy) == out
	})
}

func TestWhatEveryComfyUIRefusesIsDeadAfterASecondOpinionAndBlamesNobody(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a", "b")})
	lacking := graph(map[string]any{"9": node("SaveImage", "filename_prefix", "out")})
	end := f.end(f.submit("acme", job.Spec{Workflow: lacking}))
	if end.EventKind != job.Dead || end.Reason != string(failure.WorkflowFault) || end.Kind != failure.Refused || len(end.Attempts) != 2 {
		t.Errorf("ended %s: %s, %s, %d attempts: %s", end.EventKind, end.Reason, end.Kind, len(end.Attempts), end.Message)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.blocks.>"); n != 0 {
		t.Errorf("%d block events", n)
	}
}

func TestAnInterruptedJobRunsOnceMoreAndIsThenDead(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultInterrupt}}}}})
	end := f.end(f.submit("acme", job.Spec{Workflow: picture(1)}))
	if end.EventKind != job.Dead || end.Reason != string(failure.NotRetryable) || end.Kind != failure.Interrupted || len(end.Attempts) != 2 {
		t.Errorf("ended %s: %s, %s, %d attempts", end.EventKind, end.Reason, end.Kind, len(end.Attempts))
	}
	f.wantBlockOf("a", picture(1), "")
}

// A node that raises SystemExit ends ComfyUI's worker thread without a trace in its log: the prompt stays where it
// is and nothing that follows ever runs. What can be seen is that a cancel does nothing.
func TestAPromptThatDoesNotStopTakesItsHostOutUntilComfyUIWasRestarted(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		dispatchers: 1, agent: agent.Config{CancelTimeout: 500 * time.Millisecond},
		hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultHangHard, Class: "ImageInvert"}}}, {Name: "b"}},
	})
	hosts := f.subscribe("comfy.events.hosts.a.*")
	stuck := f.submit("acme", job.Spec{
		Workflow: inverted(1, 1), PreferHosts: []string{"a"}, Timeouts: &job.Timeouts{Node: duration(8 * time.Second)}, // in which the job behind it comes
	})
	f.waitSim("a", func() bool { running, _ := f.sims["a"].Pending(); return running != "" })
	behind := f.submit("acme", onlyOn("a", picture(2))) // the host takes it and cannot begin
	f.await(behind, job.Started)

	if got, want := story(f.chain(stuck)), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".unhealthy") || !strings.Contains(string(msg.Data), "does not stop") {
		t.Errorf("told %s %s, want unhealthy", msg.Subject, msg.Data)
	}
	f.wantOut("a", true)
	if e := f.await(behind, job.Failed); e.Kind != failure.HostSick {
		t.Errorf("the job behind it failed as %s: %s; want host_sick", e.Kind, e.Message)
	}
	f.sims["a"].Kill()
	if err := f.sims["a"].Restart(); err != nil {
		t.Fatal(err)
	}
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".recovered") {
		t.Errorf("told %s, want recovered", msg.Subject)
	}
	if end := f.end(behind); end.EventKind != job.Completed || end.Host != "a" {
		t.Errorf("the job behind it ended %s on %s", end.EventKind, end.Host)
	}
}

func TestASickHostComesBackWhenItsComfyUIWasRestarted(t *testing.T) {
	t.Parallel()
	poison := comfysim.Fault{Kind: comfysim.FaultRaise, Exception: "RuntimeError", Message: "CUDA error: an illegal memory access was encountered"}
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{poison}}}})
	hosts := f.subscribe("comfy.events.hosts.a.*")
	first := f.submit("acme", job.Spec{Workflow: picture(3)})
	if e := f.await(first, job.Failed); e.Kind != failure.HostSick || e.Cause != failure.Poisoned || e.Proven {
		t.Errorf("the first failed as %s of %q, proven %t", e.Kind, e.Cause, e.Proven)
	}
	f.everyone("all dispatchers know that the host is on trial", func() bool {
		_, verdicts := f.why(jetstream.WhyRequest{Tenant: "bolt", Workflow: inverted(1, 1)})
		return strings.Contains(verdicts["a"].Text, "on trial (poisoned)")
	})
	second := f.submit("bolt", job.Spec{Workflow: inverted(1, 1), MaxAttempts: 1}) // another workflow decides
	if e := f.await(second, job.Failed); !e.Proven || e.Counted == nil || *e.Counted {
		t.Errorf("the second failed as %s, proven %t, counted %v", e.Kind, e.Proven, *e.Counted)
	}
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".unhealthy") || !strings.Contains(string(msg.Data), "illegal memory access") {
		t.Errorf("told %s %s, want unhealthy", msg.Subject, msg.Data)
	}
	if e := f.await(second, job.Waiting); e.Reason == "" || e.Hosts["a"] == "" {
		t.Errorf("waiting says %q, %v", e.Reason, e.Hosts)
	}
	f.sims["a"].ClearFaults()
	f.sims["a"].Kill()
	if err := f.sims["a"].Restart(); err != nil {
		t.Fatal(err)
	}
	if msg := f.next(hosts); !strings.HasSuffix(msg.Subject, ".recovered") {
		t.Errorf("told %s, want recovered", msg.Subject)
	}
	if end := f.end(second); end.EventKind != job.Completed {
		t.Errorf("the second ended %s: %s", end.EventKind, end.Message)
	}
	f.wantBlockOf("a", picture(3), "acme")
	call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Host: "a"})
	f.wantPicture(f.end(first), rgb(3))
}

func TestAStartThatNeverComesIsATimeout(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("b")})
	sim, err := comfysim.Start(comfysim.Config{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["a"] = sim
	proxy := f.spy(sim.URL())
	proxy.swallow["POST /prompt"] = 1
	f.agent("a", proxy.URL, agent.Config{StartTimeout: 500 * time.Millisecond})
	f.awaitPresence(2)
	f.dispatcher(setup{}.config)
	chain := f.chain(f.submit("acme", job.Spec{Workflow: picture(4), PreferHosts: []string{"a"}}))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	if e := chain[2]; e.Kind != failure.Timeout || !strings.Contains(e.Message, "start timeout") {
		t.Errorf("failed as %s: %s", e.Kind, e.Message)
	}
	if n := len(sim.Runs()); n != 0 {
		t.Errorf("host a ran it %d times", n)
	}
}

func TestALongForeignBacklogIsLeftForAnotherHost(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a"), agent: agent.Config{StartTimeout: 700 * time.Millisecond}})
	f.sims["a"].AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 1, For: time.Minute})
	r := f.submit("acme", job.Spec{Workflow: picture(5), MaxAttempts: 1})
	if e := f.await(r, job.Failed); e.Kind != failure.RejectedBusy || e.Counted == nil || *e.Counted {
		t.Errorf("failed as %s, counted %v: %s; want rejected_busy, not counted", e.Kind, *e.Counted, e.Message)
	}
	sim, err := comfysim.Start(comfysim.Config{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["b"] = sim
	f.agent("b", sim.URL(), agent.Config{})
	if end := f.end(r); end.EventKind != job.Completed || end.Host != "b" {
		t.Errorf("ended %s on %s: %s", end.EventKind, end.Host, end.Message)
	}
}
