package integration_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// wire is a stretch of cable between an actor and NATS.
type wire struct {
	listener net.Listener
	to       string
	done     sync.WaitGroup

	mu    sync.Mutex // guards all below
	down  bool
	conns map[net.Conn]bool
}

func (f *fleet) wire() *wire {
	f.t.Helper()
	at, err := url.Parse(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	w := &wire{listener: l, to: at.Host, conns: map[net.Conn]bool{}}
	w.done.Go(w.accept)
	f.stops = append(f.stops, func() {
		_ = l.Close()
		w.cut()
		w.done.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil || !w.hold(near, far) {
			_ = near.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			w.done.Go(func() {
				_, _ = io.Copy(pair[0], pair[1]) // ends with either side
				_, _ = pair[0].Close(), pair[1].Close()
			})
		}
	}
}

func (w *wire) hold(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.down {
			_ = c.Close()
		}
		w.conns[c] = true
	}
	return !w.down
}

// cut breaks all connections and refuses new ones until heal.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// cutOff starts hosts a and b, of which a's agent reaches NATS by a wire of its own.
func cutOff(t *testing.T, a, b comfysim.Config) (*fleet, *wire) {
	t.Helper()
	f := start(t, setup{jetstream: shortLeases(), hosts: []comfysim.Config{b}})
	sim, err := comfysim.Start(a)
	if err != nil {
		t.Fatal(err)
	}
	f.sims["a"] = sim
	w := f.wire()
	f.agentOn(w.url(), agent.HostConfig{Name: "a", URL: sim.URL()}, agent.Config{})
	f.awaitPresence(2)
	f.dispatcher(setup{}.config)
	return f, w
}

// sim starts a simulated host without an agent.
func (f *fleet) sim(cfg comfysim.Config) {
	f.t.Helper()
	sim, err := comfysim.Start(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.sims[cfg.Name] = sim
}

func (f *fleet) awaitRun(host string) {
	f.t.Helper()
	f.waitSim(host, func() bool { running, _ := f.sims[host].Pending(); return running != "" })
}

func TestARestartedAgentResumesItsPromptAsTheSameAttempt(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, jetstream: shortLeases(), hosts: names("a"), noAgents: true})
	_, kill := f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.awaitHosts(1)
	r := f.submit("acme", job.Spec{Workflow: sleep(0x112233, 2+leaseTime.Seconds())}) // runs when it is delivered again
	f.await(r, job.Started)
	f.awaitRun("a")
	kill()
	f.agent("a", f.sims["a"].URL(), agent.Config{})
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a completed@a"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	f.wantPicture(chain[2], rgb(0x112233))
	if runs := f.sims["a"].Runs(); len(runs) != 1 || len(f.sims["a"].Prompts()) != 1 {
		t.Errorf("ComfyUI ran it %d times, want once", len(runs))
	}
}

func TestAPromptThatComfyUIForgotMeanwhileIsLost(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, jetstream: shortLeases(), hosts: names("a"), noAgents: true})
	_, kill := f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.awaitHosts(1)
	r := f.submit("acme", job.Spec{Workflow: sleep(1, 1)})
	f.await(r, job.Started)
	f.awaitRun("a")
	kill()
	f.sims["a"].Kill()
	if err := f.sims["a"].Restart(); err != nil {
		t.Fatal(err)
	}
	f.agent("a", f.sims["a"].URL(), agent.Config{})
	chain := f.chain(r)
	if got := strings.ReplaceAll(story(chain), " waiting", ""); got != "queued started@a failed@a retrying started@a completed@a" {
		t.Fatalf("chain is %q", got)
	}
	if e := f.await(r, job.Failed); e.Kind != failure.Lost || !strings.Contains(e.Message, "does not have the prompt") {
		t.Errorf("failed as %s: %s; want lost", e.Kind, e.Message)
	}
	f.wantBlockOf("a", sleep(1, 1), "")
}

func TestASubmitWhoseAnswerIsLostIsLookedUpBeforeAnythingIsSentTwice(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]comfysim.Fault{
		"Reset":      {Kind: comfysim.FaultResetAfterQueue, Times: 1},
		"SlowAnswer": {Kind: comfysim.FaultSlowAccept, Delay: 2 * time.Second, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{fault}}, {Name: "b"}}})
			chain := f.chain(f.submit("acme", job.Spec{Workflow: sleep(7, 0.5), PreferHosts: []string{"a"}}))
			if got, want := story(chain), "queued started@a completed@a"; got != want {
				t.Errorf("chain is %q, want %q", got, want)
			}
			if n := f.runs(); n["a"] != 1 || n["b"] != 0 || len(f.sims["a"].Prompts()) != 1 {
				t.Errorf("runs are %v, posts %d; want one on a", n, len(f.sims["a"].Prompts()))
			}
		})
	}
}

func TestTheLoserOfTwoRunsStopsItsPrompt(t *testing.T) {
	t.Parallel()
	slow := []comfysim.Fault{{Kind: comfysim.FaultSlow, Factor: 20}}
	f, w := cutOff(t, comfysim.Config{Name: "a"}, comfysim.Config{Name: "b", Faults: slow})
	r := f.submit("acme", job.Spec{Workflow: sleep(0x445566, 3), PreferHosts: []string{"a"}})
	f.await(r, job.Started)
	f.awaitRun("a")
	w.cut()
	if e := f.await(r, job.Failed); e.Kind != failure.Lost {
		t.Fatalf("failed as %s: %s; want lost", e.Kind, e.Message)
	}
	f.awaitRun("b")
	f.waitSim("a", func() bool { running, _ := f.sims["a"].Pending(); return running == "" })
	w.heal()
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@a"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	f.wantPicture(chain[5], rgb(0x445566))
	if runs, err := f.sims["b"].WaitEnded(f.context(), 1); err != nil || runs[0].Outcome != comfysim.Interrupted {
		t.Errorf("the other run ended %+v, %v; want interrupted", runs, err)
	}
}

func TestAStaleAgentNeitherDisturbsTheNewerRunNorSpeaksAfterTheEnd(t *testing.T) {
	t.Parallel()
	raise := []comfysim.Fault{{Kind: comfysim.FaultRaise, Delay: 4 * time.Second, Exception: "ValueError", Message: "too late"}}
	f, w := cutOff(t, comfysim.Config{Name: "a", Faults: raise}, comfysim.Config{Name: "b"})
	r := f.submit("acme", job.Spec{Workflow: sleep(0x778899, 2), PreferHosts: []string{"a"}})
	f.await(r, job.Started)
	f.awaitRun("a")
	w.cut()
	f.await(r, job.Retrying)
	f.awaitRun("b")
	f.waitSim("a", func() bool { running, _ := f.sims["a"].Pending(); return running == "" })
	w.heal()
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	f.wantPicture(chain[5], rgb(0x778899))
	f.awaitPresence(2) // a is back and has nothing more to say
	f.eventually("host a idle", func() bool {
		state, found, err := f.q.Host(f.context(), "a")
		return err == nil && found && len(state.Running) == 0
	})
	f.wantBlockOf("a", sleep(1, 2), "")
}

func TestNATSIsRestartedWhileJobsRunAndWait(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, jetstream: shortLeases(), hosts: names("a", "b")})
	soon := time.Now().Add(8 * time.Second)
	jobs := []jetstream.Receipt{
		f.submit("acme", job.Spec{Workflow: sleep(1, 2.5), OnlyHosts: []string{"a"}}),
		f.submit("acme", job.Spec{Workflow: picture(2), RunAt: &soon}),
		f.submit("acme", job.Spec{Workflow: picture(3), OnlyHosts: []string{"c"}}),
	}
	f.await(jobs[0], job.Started)
	f.awaitRun("a")
	f.await(jobs[1], job.Waiting)
	f.await(jobs[2], job.Waiting)
	f.restartNATS(func() {})
	f.restartNATS(func() {
		f.waitSim("a", func() bool { running, _ := f.sims["a"].Pending(); return running == "" })
	})
	late := f.submit("acme", job.Spec{Workflow: picture(4)})
	sim, err := comfysim.Start(comfysim.Config{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["c"] = sim
	f.agent("c", sim.URL(), agent.Config{})
	for _, r := range append(jobs, late) {
		chain := f.chain(r)
		if n := strings.Count(story(chain), "started"); n != 1 || chain[len(chain)-1].EventKind != job.Completed {
			t.Errorf("chain is %q", story(chain))
		}
	}
	if n := f.runs(); n["a"]+n["b"]+n["c"] != 4 {
		t.Errorf("runs are %v, want 4 in all", n)
	}
}
