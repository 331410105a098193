package comfy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// bystander sees the threads that the test lists, and thread 2, which runs prompts, as long as the simulation's does.
type bystander struct {
	mu     sync.Mutex
	others map[int]time.Duration // how busy each is per look
	looks  int
	sim    *comfysim.Server
	name   string
}

func (b *bystander) Read(context.Context) (comfy.Snapshot, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	s := comfy.Snapshot{Process: "1", Main: 1, Threads: map[int]comfy.Thread{1: {Busy: time.Hour}}}
	if b.sim.Working() {
		s.Threads[2] = comfy.Thread{Name: b.name, Busy: time.Duration(b.looks) * 100 * time.Millisecond}
	}
	for id, busy := range b.others {
		s.Threads[id] = comfy.Thread{Busy: time.Duration(b.looks) * busy}
	}
	return s, true
}

func withThreads(t *testing.T, b *bystander) rig {
	t.Helper()
	o := quick()
	o.ProcessReader = b
	sim, err := comfysim.Start(comfysim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	b.sim = sim
	host, err := comfy.New(sim.URL(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	r := listen(t, host)
	r.sim = sim
	return r
}

func TestAWorkerThatIsGoneWithoutAWordIsSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		others  map[int]time.Duration
		name    string
		learn   bool
		noticed bool
	}{
		"OnlyThread":             {noticed: true},
		"NamedAmongOthers":       {name: "Thread-1 (promp", others: map[int]time.Duration{3: time.Second}, noticed: true},
		"LearntAmongIdleOthers":  {others: map[int]time.Duration{3: 0, 4: time.Millisecond * 0}, learn: true, noticed: true},
		"NotLearntAmongOthers":   {others: map[int]time.Duration{3: 0}},
		"WhileAnotherOneIsBusy":  {others: map[int]time.Duration{3: time.Millisecond}, learn: true},
		"AnotherThreadWasBusier": {others: map[int]time.Duration{3: time.Second}, learn: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := withThreads(t, &bystander{others: c.others, name: c.name})
			if c.learn {
				if _, err := r.run(sleep(0.1, 2), comfy.Watch{}); err != nil {
					t.Fatal(err)
				}
			}
			r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultExitWorker, Class: "SimSleep"})
			p := sleep(0.1, 3)
			p.Node = 5 * time.Second
			_, err := r.run(p, comfy.Watch{})
			f := failure.As(err)
			if c.noticed && (f.Kind != failure.HostSick || f.Cause != failure.WorkerGone || f.Exception != failure.WorkerDied || f.Node != "2" || f.Class != "SimSleep") {
				t.Errorf("ends as %v", err)
			}
			if !c.noticed && f.Kind != failure.Timeout {
				t.Errorf("without the facts it ends as %v", err)
			}
		})
	}
}

func TestALongNodeIsNoDeadWorker(t *testing.T) {
	t.Parallel()
	r := withThreads(t, &bystander{})
	if _, err := r.run(sleep(1.5, 0), comfy.Watch{}); err != nil {
		t.Error(err)
	}
}

func TestPromptsThatWaitBesideAnIdleWorkerAreASign(t *testing.T) {
	t.Parallel()
	o := quick()
	comfy.SetIdleTime(&o, 200*time.Millisecond)
	host := serveWith(t, routes{
		"GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`),
		"GET /queue":  says(http.StatusOK, `{"queue_running": [], "queue_pending": [[1, "x", {}, {}, []]]}`),
	}, o)
	ctx := within(t)
	for {
		_, cause, err := host.Sick(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if cause == failure.WorkerGone {
			return
		}
	}
}

func TestAPromptThatGoesOnAfterItWasToldToStopMakesTheHostStuck(t *testing.T) {
	t.Parallel()
	o := quick()
	o.StuckTime = 300 * time.Millisecond
	r := simulateWith(t, comfysim.Config{}, o)
	p := sleep(6, 0)
	ended := r.begin(p)
	r.until(r.runsNode(p.ID, "2")) // which notices no interrupt; between two nodes it would
	if _, cause, err := r.host.Sick(within(t)); cause != "" || err != nil {
		t.Errorf("before: %s, %v", cause, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := r.host.Cancel(ctx, p.ID); err == nil {
		t.Fatal("it stopped, which shows nothing")
	}
	if reason, cause, err := r.host.Sick(within(t)); cause != failure.Stuck || err != nil {
		t.Errorf("while it goes on: %s, %s, %v", cause, reason, err)
	}
	<-ended
	if _, cause, err := r.host.Sick(within(t)); cause != "" || err != nil {
		t.Errorf("after: %s, %v", cause, err)
	}
}

func TestTheThreadsOfAPythonProcessAreSeen(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // no other system is read
	}
	// Our own process listens, and is no Python: it must not be taken for a ComfyUI.
	sim, err := comfysim.Start(comfysim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	if s, ok := comfy.Seen(within(t), sim.URL(), "python"); ok {
		t.Errorf("%+v", s)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, ok := comfy.Seen(within(t), sim.URL(), filepath.Base(program))
	if !ok || s.Main != os.Getpid() || len(s.Threads) < 2 || s.Process == "" {
		body, _ := json.Marshal(s)
		t.Errorf("%s, %v", body, ok)
	}
}
