package comfy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestTimeoutsNameWhichAndHowLong(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		limit func(*comfy.Prompt)
		want  failure.Failure
	}{
		"Node": {func(p *comfy.Prompt) { p.Node = time.Second }, failure.Failure{
			Kind: failure.Timeout, Message: "node 2 (SimSleep) made no progress for 1s (node timeout)", Node: "2", Class: "SimSleep",
		}},
		"Total": {func(p *comfy.Prompt) { p.Total = 200 * time.Millisecond }, failure.Failure{
			Kind: failure.Timeout, Message: "the prompt did not end within 200ms (total timeout)",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{})
			p := sleep(30, 0)
			c.limit(&p)
			_, err := r.run(p, comfy.Watch{})
			if diff := cmp.Diff(c.want, *failure.As(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProgressRestartsTheNodeLimit(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	for range 5 {
		p := sleep(1.2, 12)
		p.Node = 600 * time.Millisecond
		last := time.Now()
		_, err := r.run(p, comfy.Watch{Progress: func(comfy.Progress) { last = time.Now() }})
		if err == nil {
			return
		}
		if silent := time.Since(last); silent < p.Node {
			t.Fatalf("%v after it was told %v ago", err, silent)
		}
		t.Log("the machine stood still for longer than the limit, which shows nothing")
	}
	t.Error("no run was told of in time")
}

func TestTheStartLimitRunsOnlyAtTheHeadOfTheBacklog(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	first, second := sleep(4, 40), picture(1)
	second.Start, second.Total = 3*time.Second, 3500*time.Millisecond
	a := r.begin(first)
	r.until(r.runs(first.ID))
	if _, err := r.run(second, comfy.Watch{}); err != nil {
		t.Error(err)
	}
	if o := <-a; o.err != nil {
		t.Error(o.err)
	}
}

func TestAPromptDoesNotWaitForForeignPromptsForEver(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 2, For: time.Minute})
	p := picture(1)
	p.Start = 300 * time.Millisecond
	if _, err := r.run(p, comfy.Watch{}); failure.KindOf(err) != failure.RejectedBusy {
		t.Errorf("ends as %v, want rejected_busy", err)
	}
	if err := r.host.Cancel(within(t), p.ID); err != nil {
		t.Error(err)
	}
}

// backlogWith answers every look at promptID with one place in the backlog: it is "pending" or "running".
func backlogWith(t *testing.T, where string) routes {
	t.Helper()
	entry := fmt.Sprintf(`[0, %q, {}, {}, []]`, promptID)
	backlog := map[string]string{
		"pending": `{"queue_running": [], "queue_pending": [` + entry + `]}`,
		"running": `{"queue_running": [` + entry + `], "queue_pending": []}`,
	}[where]
	return routes{
		"POST /prompt": accepts(promptID), "GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 1}}`), "GET /queue": says(http.StatusOK, backlog),
	}
}

func TestAPromptThatNeverStartsEndsByItsStartLimit(t *testing.T) {
	t.Parallel()
	p := comfy.Prompt{ID: promptID, Workflow: []byte(graph), Start: 300 * time.Millisecond}
	_, err := serve(t, backlogWith(t, "pending")).Run(within(t), p, comfy.Watch{})
	want := failure.Failure{Kind: failure.Timeout, Message: "the prompt did not start within 300ms (start timeout)"}
	if diff := cmp.Diff(want, *failure.As(err)); diff != "" {
		t.Error(diff)
	}
}

func TestAPromptThatNobodyTellsOfEndsByTheSumOfItsNodeLimits(t *testing.T) {
	t.Parallel()
	p := comfy.Prompt{ID: promptID, Workflow: []byte(graph), Node: 150 * time.Millisecond}
	_, err := serve(t, backlogWith(t, "running")).Run(within(t), p, comfy.Watch{})
	want := failure.Failure{Kind: failure.Timeout,
		Message: "the nodes that were left did not end within 300ms (node timeout for each of them; the host sent no events)"}
	if diff := cmp.Diff(want, *failure.As(err)); diff != "" {
		t.Error(diff)
	}
}

func TestAPromptThatStartsAndNamesNoNodeEndsByItsNodeLimit(t *testing.T) {
	t.Parallel()
	answers, posted := backlogWith(t, "running"), make(chan struct{})
	answers["POST /prompt"] = func(w http.ResponseWriter, r *http.Request) { accepts(promptID)(w, r); close(posted) }
	answers["GET /ws"] = sockets(t, func(conn *websocket.Conn, _ *http.Request) {
		<-posted
		tell(conn, "execution_start", promptID, "")
		untilClosed(conn)
	})
	host := serve(t, answers)
	listen(t, host)
	_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph), Node: 300 * time.Millisecond}, comfy.Watch{})
	want := failure.Failure{Kind: failure.Timeout, Message: "the prompt made no progress for 300ms (node timeout)"}
	if diff := cmp.Diff(want, *failure.As(err)); diff != "" {
		t.Error(diff)
	}
}

// The log may have megabytes: a prompt that is quiet for long does not make it be read at every look.
func TestTheLogOfAQuietHostIsReadEverLessOften(t *testing.T) {
	t.Parallel()
	looks, reads := atomic.Int32{}, atomic.Int32{}
	answers := backlogWith(t, "running")
	queue := answers["GET /queue"]
	ctx, cancel := context.WithCancel(within(t))
	answers["GET /queue"] = func(w http.ResponseWriter, r *http.Request) {
		if looks.Add(1) == 100 {
			cancel()
		}
		queue(w, r)
	}
	answers["GET /internal/logs/raw"] = func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		says(http.StatusOK, `{"entries": []}`)(w, r)
	}
	o := quick()
	o.PollInterval, o.QuietTime = 10*time.Millisecond, 10*time.Millisecond
	_, _ = serveWith(t, answers, o).Run(ctx, comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
	if n := reads.Load(); n < 2 || n > 20 { // after 10, 30, 70, 150, 310, 630 ms of a second
		t.Errorf("the log was read %d times beside %d looks", n, looks.Load())
	}
}

// A connection is made to find out whether the port of a silent host takes any. None is made while the host answers.
func TestThePortOfAHostThatAnswersIsNotKnockedAt(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	used := map[net.Conn]bool{}
	server := httptest.NewUnstartedServer(backlogWith(t, "running"))
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		used[c] = used[c] || s == http.StateActive
	}
	server.Start()
	t.Cleanup(server.Close)
	host := open(t, server.URL)
	p := comfy.Prompt{ID: promptID, Workflow: []byte(graph), Total: 500 * time.Millisecond}
	if _, err := host.Run(within(t), p, comfy.Watch{}); failure.KindOf(err) != failure.Timeout {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for c, asked := range used {
		if !asked {
			t.Errorf("the connection from %s asked nothing", c.RemoteAddr())
		}
	}
}
