package bench_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/bench"
)

func TestAFleetOfProcessesSendsWhatTheArithmeticGives(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := bench.RunApart(ctx, bench.Config{
		Hosts: 6, Processes: 1, Dispatchers: 2, Jobs: 20, Rate: 200, Hashes: 2, PresenceTTL: time.Second, Quiet: time.Second, StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Dead != 0 || r.PublishToStarted.P50 <= 0 || r.DispatcherHeap == 0 {
		t.Errorf("20 jobs gave %+v", r)
	}
	const jobs, beat = "jobs", "presence of hosts"
	if got := r.Load.ToDispatchers[jobs].Messages * r.Load.Seconds; got < 19.9 || got > 22 { // one may be delivered again
		t.Errorf("the dispatchers received %v jobs, want 20", got)
	}
	sent, received := r.Idle.ByAgents[beat], r.Idle.ToDispatchers[beat]
	if sent.Messages < 6 || received.Messages < sent.Messages || received.Bytes < 300*received.Messages {
		t.Errorf("6 hosts that beat three times a second sent %+v, of which two dispatchers received %+v", sent, received)
	}
	want := map[string]float64{beat: 36, "presence of dispatchers": 12, "changes of slots": 0, jobs: 0}
	if diff := cmp.Diff(want, r.Expected(&r.Idle), rounded); diff != "" {
		t.Errorf("the arithmetic without jobs (-want +got):\n%s", diff)
	}
}

var rounded = cmp.Comparer(func(a, b float64) bool { return a-b < 0.1 && b-a < 0.1 })

// That no goroutine is left shows that all processes have ended, since one waits for each of them.
func TestAnInterruptedFleetEndsItsProcesses(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := bench.RunApart(ctx, bench.Config{
		Hosts: 2, Processes: 2, Dispatchers: 1, Jobs: 20, Rate: 1, PresenceTTL: time.Second, Quiet: hour, StoreDir: t.TempDir(),
		Progress: func(p bench.Progress) {
			if p.Stage == "no jobs" {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want that it was cancelled", err)
	}
}

func TestAPartEndsWithItsInput(t *testing.T) {
	t.Parallel()
	server, _ := named(t)
	for kind, order := range map[string]string{
		"agent": `{"url":"` + server.URL() + `","first":3,"hosts":2,"slots":1,"hashes":1}`, "dispatcher": `{"url":"` + server.URL() + `","dispatcher":"bench-7"}`,
	} {
		var out strings.Builder
		if err := bench.ServePart(t.Context(), strings.NewReader(order+"\ntraffic\nheap\n"), &out); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 2 || strings.Contains(lines[0], `"heap"`) || !strings.Contains(lines[1], `"heap"`) {
			t.Errorf("%s: it was asked for its traffic and then for its heap, and answered %q", kind, lines)
		}
	}
	err := bench.ServePart(t.Context(), strings.NewReader(""), &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "bench --processes") {
		t.Errorf("a part that was started by hand: %v", err)
	}
}

func TestAFleetOfProcessesRefusesOtherMeasurements(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]bench.Config{
		"1 to as many processes": {Hosts: 2, Processes: 3, Rate: 1},
		"with --rate":            {Hosts: 2, Processes: 1},
		"leave these out":        {Hosts: 2, Processes: 1, Rate: 1, Waiting: 5},
		"at least 1":             {Hosts: -1, Processes: 1, Rate: 1},
	} {
		if _, err := bench.RunApart(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: err = %v, want %q in it", cfg, err, want)
		}
	}
}

func TestMessagesAreCountedAsTheyComeInPieces(t *testing.T) {
	t.Parallel()
	stream := "INFO {}\r\nMSG comfy.hosts.gpu-1.state 7 5\r\nPING\n\r\nPING\r\n" +
		"HMSG $KV.COMFY_HOSTS.gpu-1 3 $JS.ACK.a.b 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB comfy.append.jobs.a.b.queued _INBOX.x.1 0\r\n\r\n+OK\r\n"
	want := map[string]bench.Flow{
		"changes of slots": {Messages: 1, Bytes: 40}, "presence of hosts": {Messages: 1, Bytes: 64}, "events, published": {Messages: 1, Bytes: 49},
	}
	for _, size := range []int{1, 2, 7, len(stream)} {
		if diff := cmp.Diff(want, bench.Counted(stream, size)); diff != "" {
			t.Errorf("in pieces of %d bytes (-want +got):\n%s", size, diff)
		}
	}
}
