package comfy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestAPromptRunsAndItsPictureCanBeFetched(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		start   func(*testing.T, comfysim.Config, comfy.Options) rig
		version string
	}{
		"Listening":            {simulateWith, ""},
		"PollingOnly":          {simulateDeaf, ""},
		"OldServer":            {simulateWith, "0.3.64"},
		"OldServerPollingOnly": {simulateDeaf, "0.3.64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.start(t, comfysim.Config{Version: c.version}, quick())
			result, err := r.run(picture(1), comfy.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Outputs) != 1 || result.Outputs[0].Node != "2" || result.OutputsReused {
				t.Fatalf("%+v", result)
			}
			body, contentType, size, err := r.host.Open(within(t), result.Outputs[0])
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			data, err := io.ReadAll(body)
			if err != nil || int64(len(data)) != size || contentType != "image/png" {
				t.Errorf("%d bytes of %d, %q, %v", len(data), size, contentType, err)
			}
			if _, err := png.Decode(bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAWatcherHearsEverythingInOrder(t *testing.T) {
	t.Parallel()
	o := quick()
	o.PollInterval, o.FreezeTimeout = time.Hour, 3*time.Hour // or a look may find the end before the events have come
	r := simulateWith(t, comfysim.Config{}, o)
	var heard []string
	var last comfy.Progress
	previews := 0
	result, err := r.run(sleep(0.3, 6), comfy.Watch{
		Submitted: func() { heard = append(heard, "submitted") },
		Running:   func() { heard = append(heard, "running") },
		Progress: func(p comfy.Progress) {
			if p.NodesDone < last.NodesDone || p.NodesTotal != 3 || p.Class == "" {
				t.Errorf("progress went from %+v to %+v", last, p)
			}
			last = p
		},
		Preview: func(contentType string, image []byte) {
			previews++
			if _, err := png.Decode(bytes.NewReader(image)); err != nil || contentType != "image/png" {
				t.Errorf("a preview of type %q: %v", contentType, err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"submitted", "running"}, heard); diff != "" {
		t.Error(diff)
	}
	if last.Node == "" || previews == 0 {
		t.Errorf("last progress %+v, %d previews", last, previews)
	}
	if result.NodeTimes["2"] < 100*time.Millisecond || result.Ran < 100*time.Millisecond {
		t.Errorf("%v, ran %s", result.NodeTimes, result.Ran)
	}
}

func TestACachedPromptEndsAlthoughItIsDoneBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultSlowAccept, Delay: 200 * time.Millisecond, Every: 2}}})
	for i := range 4 {
		p := picture(1)
		result, err := r.run(p, comfy.Watch{})
		if err != nil {
			t.Fatal(err)
		}
		if reused := i > 0; result.OutputsReused != reused || len(result.Outputs) != 1 {
			t.Errorf("run %d: %+v", i, result)
		}
	}
}

func TestSeedsBeyondFloatsArriveIntact(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	p := sleep(0, 1)
	p.Workflow = bytes.Replace(p.Workflow, []byte(`"seed":1`), []byte(`"seed":18446744073709551615`), 1)
	if _, err := r.run(p, comfy.Watch{}); err != nil {
		t.Fatal(err)
	}
	if runs := r.sim.Runs(); len(runs) != 1 || !cmp.Equal(runs[0].Seeds, []string{"18446744073709551615"}) {
		t.Errorf("%+v", runs)
	}
}

func TestEveryFaultOfTheHostHasItsKind(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		fault comfysim.Fault
		want  failure.Kind
	}{
		"Raise":         {comfysim.Fault{Kind: comfysim.FaultRaise, Exception: "ValueError", Message: "no"}, failure.ExecutionError},
		"OOM":           {comfysim.Fault{Kind: comfysim.FaultOOM}, failure.OutOfMemory},
		"DiskFull":      {comfysim.Fault{Kind: comfysim.FaultDiskFull}, failure.HostSick},
		"CUDA":          {comfysim.Fault{Kind: comfysim.FaultRaise, Exception: "RuntimeError", Message: "CUDA error: device-side assert triggered"}, failure.HostSick},
		"Die":           {comfysim.Fault{Kind: comfysim.FaultDie}, failure.HostLost},
		"DieAndRestart": {comfysim.Fault{Kind: comfysim.FaultDie, Restart: 10 * time.Millisecond}, failure.HostLost},
		"Freeze":        {comfysim.Fault{Kind: comfysim.FaultFreeze}, failure.HostLost},
		"Wedge":         {comfysim.Fault{Kind: comfysim.FaultWedge}, failure.HostSick},
		"SystemExit":    {comfysim.Fault{Kind: comfysim.FaultExitWorker}, failure.Timeout}, // nothing of it is seen from outside
		"Interrupt":     {comfysim.Fault{Kind: comfysim.FaultInterrupt}, failure.Interrupted},
		"Refuse":        {comfysim.Fault{Kind: comfysim.FaultRefuse, Status: http.StatusServiceUnavailable}, failure.RejectedBusy},
		"TooMany":       {comfysim.Fault{Kind: comfysim.FaultRefuse, Status: http.StatusTooManyRequests}, failure.RejectedBusy},
		"Hang":          {comfysim.Fault{Kind: comfysim.FaultHang}, failure.Timeout},
		"HangHard":      {comfysim.Fault{Kind: comfysim.FaultHangHard}, failure.Timeout},
		"Deaf":          {comfysim.Fault{Kind: comfysim.FaultDeaf}, ""},
		"Stall":         {comfysim.Fault{Kind: comfysim.FaultStall}, ""},
		"NaN":           {comfysim.Fault{Kind: comfysim.FaultNaN}, ""},
		"SlowAccept":    {comfysim.Fault{Kind: comfysim.FaultSlowAccept, Delay: 300 * time.Millisecond}, ""},
		"ResetAfterPut": {comfysim.Fault{Kind: comfysim.FaultResetAfterQueue}, ""},
		"JobsGarbled":   {comfysim.Fault{Kind: comfysim.FaultWrongJSON, Path: "/jobs"}, ""},
		"JobsSlow":      {comfysim.Fault{Kind: comfysim.FaultSlowAnswer, Path: "/jobs", Delay: 300 * time.Millisecond, Times: 2}, ""},
		"JobsBroken":    {comfysim.Fault{Kind: comfysim.FaultStatus, Path: "/jobs", Status: 500}, ""},
		"HistoryWiped":  {comfysim.Fault{Kind: comfysim.FaultHistoryWiped}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.fault.Class = "SimSleep"
			if c.fault.Path != "" {
				c.fault.Class = ""
			}
			o := quick()
			if c.fault.Kind == comfysim.FaultFreeze {
				o.FreezeTimeout = time.Second
			}
			r := simulateWith(t, comfysim.Config{Faults: []comfysim.Fault{c.fault}}, o)
			p := sleep(0.1, 2)
			if c.want == failure.Timeout {
				p.Node = 800 * time.Millisecond
			}
			result, err := r.run(p, comfy.Watch{})
			if got := failure.KindOf(err); got != c.want {
				t.Fatalf("ends as %q (%v), want %q", got, err, c.want)
			}
			if err == nil && len(result.Outputs) != 1 {
				t.Errorf("%+v", result)
			}
			if runs := r.sim.Runs(); len(runs) > 1 {
				t.Errorf("it ran %d times", len(runs))
			}
		})
	}
}

func TestASubmitThatAPortRefusedIsTheHostsFault(t *testing.T) {
	t.Parallel()
	r := simulateDeaf(t, comfysim.Config{}, quick())
	r.sim.Kill()
	_, err := r.run(picture(1), comfy.Watch{})
	if f := failure.As(err); f.Kind != failure.HostLost || !f.Proven || !strings.Contains(f.Message, "nothing was sent") {
		t.Errorf("ends as %v", err)
	}
}

func TestAKilledHostIsNoticedWithoutWaitingForAPoll(t *testing.T) {
	t.Parallel()
	o := quick()
	o.PollInterval, o.FreezeTimeout = time.Hour, 3*time.Hour
	r := simulateWith(t, comfysim.Config{}, o)
	p := sleep(60, 100)
	ended := r.begin(p)
	r.until(r.runs(p.ID))
	r.sim.Kill()
	if o := <-ended; failure.KindOf(o.err) != failure.HostLost {
		t.Errorf("ends as %v", o.err)
	}
	r.await(func(s comfy.State) bool { return !s.Connected })
	if err := r.sim.Restart(); err != nil {
		t.Fatal(err)
	}
	r.await(func(s comfy.State) bool { return s.Connected })
}

func TestManyPromptsRunAtOnceAndOnceEach(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			result, err := r.run(picture(i), comfy.Watch{})
			if err != nil || len(result.Outputs) != 1 || !strings.HasPrefix(result.Outputs[0].Filename, fmt.Sprintf("p%d_", i)) {
				t.Errorf("%d: %+v, %v", i, result, err)
			}
		})
	}
	all.Wait()
	if runs := r.sim.Runs(); len(runs) != 20 {
		t.Errorf("%d runs", len(runs))
	}
	if p, err := r.host.Probe(within(t)); err != nil || p.QueueRemaining != 0 || p.Foreign != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestCancelStopsPendingAndRunningPromptsAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.33.0", "0.3.64"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{Version: version})
			running, pending, last := sleep(30, 300), picture(1), picture(2)
			a := r.begin(running)
			r.until(r.runs(running.ID))
			b, c := r.begin(pending), r.begin(last)
			if got, err := r.host.Find(within(t), pending.ID); got != comfy.Pending || err != nil {
				t.Errorf("the pending one is %s, %v", got, err)
			}
			for _, p := range []comfy.Prompt{pending, running} {
				if err := r.host.Cancel(within(t), p.ID); err != nil {
					t.Error(err)
				}
			}
			for _, ended := range []<-chan outcome{a, b} {
				if o := <-ended; failure.KindOf(o.err) != failure.Interrupted {
					t.Errorf("ends as %v", o.err)
				}
			}
			if o := <-c; o.err != nil {
				t.Errorf("the one behind them ends as %v", o.err)
			}
			if err := r.host.Cancel(within(t), uuid.NewString()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRunReturnsAtOnceWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	cause := errors.New("cancelled by acme")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := r.host.Run(ctx, sleep(60, 10), comfy.Watch{Running: func() { cancel(cause) }})
	if !errors.Is(err, cause) {
		t.Errorf("ends as %v", err)
	}
}

func TestAResumedPromptIsAttachedAndNeverPostedAgain(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	p := sleep(0.5, 5)
	ctx, leave := context.WithCancel(t.Context())
	_, _ = r.host.Run(ctx, p, comfy.Watch{Running: leave})
	p.Resume = true
	for range 2 { // while it runs, and after it has ended
		result, err := r.run(p, comfy.Watch{})
		if err != nil || len(result.Outputs) != 1 {
			t.Errorf("%+v, %v", result, err)
		}
	}
	if posts := r.sim.Prompts(); len(posts) != 1 {
		t.Errorf("%d posts", len(posts))
	}
	if err := r.host.Forget(within(t), p.ID); err != nil {
		t.Error(err)
	}
	_, err := r.run(p, comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Lost || !strings.HasPrefix(f.Message, "ComfyUI does not have the prompt any more") {
		t.Errorf("a forgotten one ends as %v", err)
	}
}

func TestAPromptThatWasDeletedWhilePendingIsInterrupted(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultDeletePending, Class: "SaveImage", Every: 2}}})
	p := sleep(1, 10)
	a := r.begin(p)
	r.until(r.runs(p.ID))
	_, err := r.run(picture(1), comfy.Watch{})
	if f := failure.As(err); f == nil || f.Kind != failure.Interrupted || !strings.Contains(f.Message, "deleted") {
		t.Errorf("ends as %v", err)
	}
	if o := <-a; o.err != nil {
		t.Error(o.err)
	}
}

func TestAPartlyValidPromptIsTakenBack(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultNodeErrors}}})
	_, err := r.run(sleep(30, 300), comfy.Watch{})
	if err == nil {
		t.Fatal("it counts as a success")
	}
	if running, pending := r.sim.Pending(); running != "" || len(pending) > 0 {
		t.Errorf("%q runs, %q wait", running, pending)
	}
}

func TestAMissingResultIsNotTheWorkflowsFault(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultMissingOutput}}})
	result, err := r.run(picture(1), comfy.Watch{})
	if err != nil || len(result.Outputs) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	_, _, _, err = r.host.Open(within(t), result.Outputs[0])
	if f := failure.As(err); f == nil || f.Kind != failure.Lost || f.Exception != "result_missing" {
		t.Errorf("%v", err)
	}
}

func TestUploadsKeepTheNameThatTheHostChose(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	for _, c := range []struct{ content, want string }{{"a", "job/cat.png"}, {"a", "job/cat.png"}, {"b", "job/cat (1).png"}} {
		got, err := r.host.Upload(within(t), "cat.png", "job", strings.NewReader(c.content))
		if got != c.want || err != nil {
			t.Errorf("%q is stored as %q, %v", c.content, got, err)
		}
	}
	if _, err := r.host.Upload(within(t), "../cat.png", "", strings.NewReader("a")); failure.KindOf(err) != failure.InvalidWorkflow {
		t.Errorf("a path is taken: %v", err)
	}
}

// ComfyUI says that a prompt has succeeded, stores its record, and only then says that no node runs. The record may be read before that.
func TestTheLastNodeEndsWithItsPrompt(t *testing.T) {
	t.Parallel()
	r := showing(t, outputNodes, func(conn *websocket.Conn, prompt string) {
		tell(conn, "execution_start", prompt, "")
		tell(conn, "executing", prompt, `,"node":"2"`)
		tell(conn, "executing", prompt, `,"node":"1"`)
		show(conn, prompt, "1", "image/png", []byte("picture"))
		tell(conn, "execution_success", prompt, "")
	})
	p := promptOf(t, map[string]any{"1": node("SaveImageWebsocket", nil), "2": node("KSampler", nil)})
	p.ID = promptID
	result, err := r.run(p, comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1", "2"}, slices.Sorted(maps.Keys(result.NodeTimes))); diff != "" {
		t.Error(diff)
	}
}
