package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// asDispatcher in the environment has this test's binary be the command, for scripts of the pages.
const asDispatcher = "COMFYHERD_TEST_IS_DISPATCHER"

func TestMain(m *testing.M) {
	if os.Getenv(asDispatcher) != "" {
		os.Exit(main.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"), // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"), // as in test/integration
		goleak.IgnoreAnyFunction("os/signal.loop"))
}

const testTimeout = 75 * time.Second

// fleet is `dispatcher run` in this process with NATS on a free port, and an agent for one simulated host.
type fleet struct {
	url   string
	creds string // a file with the credentials that commands use; empty: none
	sim   *comfysim.Server
}

// start runs the command until the test ends, with an agent for a host.
func start(t *testing.T, host comfysim.Config, args ...string) *fleet {
	t.Helper()
	f := begin(t, host, args...)
	f.serve(t, daemon.NATS{}, queue.Config{}, "sim")
	f.until(t, []string{"hosts"}, "sim ", "online")
	return f
}

// begin runs the command until the test ends, and waits until its NATS has an address. The host has no agent yet.
func begin(t *testing.T, host comfysim.Config, args ...string) *fleet {
	t.Helper()
	said, say := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		all := append([]string{"run", "--embedded", "--listen=127.0.0.1:0", "--store-dir=" + t.TempDir(), "--log-level=error"}, args...)
		if code := main.Run(ctx, all, nil, io.Discard, say); code != 0 {
			t.Errorf("dispatcher run ended with %d", code)
		}
		_ = say.Close() // a pipe's Close never fails
	})
	f := &fleet{url: addressIn(t, said, &running)}
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	sim, err := comfysim.Start(host)
	if err != nil {
		t.Fatal(err)
	}
	f.sim = sim
	t.Cleanup(sim.Close)
	return f
}

// addressIn reads the line that says where NATS is, and goes on reading what the command says.
func addressIn(t *testing.T, said *io.PipeReader, running *sync.WaitGroup) string {
	t.Helper()
	found := make(chan string, 1)
	running.Go(func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "NATS      "); ok {
				address, _, _ := strings.Cut(rest, ",")
				found <- address
			}
		}
	})
	select {
	case address := <-found:
		return address
	case <-time.After(testTimeout):
		t.Fatal("dispatcher run did not say where NATS is")
		return ""
	}
}

// serve runs the agent of the host under a name.
func (f *fleet) serve(t *testing.T, as daemon.NATS, cfg queue.Config, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	as.URL, as.Name = f.url, "agent"
	nc, err := daemon.Connect(ctx, as)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(ctx, nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: name, URL: f.sim.URL()}}})
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		if err := a.Run(ctx, ctx); err != nil {
			t.Errorf("agent: %v", err)
		}
		q.Close()
		nc.Close()
	})
}

// ask runs a command of the fleet and gives its exit code and what it wrote.
func (f *fleet) ask(t *testing.T, in string, args ...string) (code int, out, say string) {
	t.Helper()
	var o, e bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	args = append(args, "--nats-url="+f.url)
	if f.creds != "" {
		args = append(args, "--nats-creds="+f.creds)
	}
	code = main.Run(ctx, args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestAFleetIsRunAndLookedAfterFromTheCommandLine(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	pictures := t.TempDir()

	code, out, say := f.ask(t, picture, "submit", "-", "--id=first", "--out="+pictures)
	path := strings.TrimSuffix(out, "\n")
	if code != 0 || filepath.Dir(path) != filepath.Join(pictures, "first") {
		t.Fatalf("submit: code %d, out %q, say %q", code, out, say)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	drawn, err := png.Decode(file)
	if err != nil || drawn.Bounds().Dx() != 64 {
		t.Errorf("the picture: %v", err)
	}
	for _, want := range []string{"first: queued\n", "first: started on sim\n", "first: completed on sim, ran "} {
		if !strings.Contains(say, want) {
			t.Errorf("%q is missing in %q", want, say)
		}
	}

	code, out, _ = f.ask(t, "", "status", "first", "--json")
	var status struct {
		State  string
		Events []struct{ Event, Host string }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 || status.State != "completed" || len(status.Events) != 3 || status.Events[2].Host != "sim" {
		t.Errorf("status: code %d, %q, %v", code, out, err)
	}
	f.expect(t, 0, []string{"status", "first"}, "job first of tenant default, priority 5", "completed", "COMFY_OUTPUTS")
	f.expect(t, 1, []string{"status", "nobody"}, "dispatcher: tenant default has no job nobody")
	f.expect(t, 0, []string{"hosts"}, "sim ", "online", "0/1")
	f.expect(t, 0, []string{"why", "first"}, "job first, completed")
	f.expect(t, 0, []string{"queue"}, "no job waits")
	f.expect(t, 0, []string{"tenants", "set", "acme", "--weight=2", "--max-running=4"}, "acme", "2", "4")
	f.expect(t, 0, []string{"tenants"}, "acme")
	f.expect(t, 1, []string{"hosts", "drain", "nowhere"}, "no agent serves host nowhere")
}

// expect runs a command and wants its exit code and these words in what it wrote.
func (f *fleet) expect(t *testing.T, want int, args []string, words ...string) {
	t.Helper()
	code, out, say := f.ask(t, "", args...)
	if code != want {
		t.Errorf("%v: code %d, want %d: %s%s", args, code, want, out, say)
	}
	for _, word := range words {
		if !strings.Contains(out+say, word) {
			t.Errorf("%v: %q is missing in %q %q", args, word, out, say)
		}
	}
}

func TestExitCodesTellDeadCancelledAndStillWaiting(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "EmptyImage", Message: "boom"}}})

	code, out, say := f.ask(t, picture, "submit", "-", "--id=bad", "--tenant=acme", "--max-attempts=1", "--wait")
	if code != 2 || out != "bad\n" || !strings.Contains(say, "dead on sim: attempts_exhausted: ") {
		t.Fatalf("a job that dies: code %d, out %q, say %q", code, out, say)
	}
	f.expect(t, 0, []string{"blocks"}, "sim", "execution_error", "acme", "boom")
	f.expect(t, 0, []string{"dead"}, "acme/bad", "attempts_exhausted")
	f.expect(t, 0, []string{"dead", "show", "acme/bad"}, "ATTEMPT", "boom")
	f.expect(t, 0, []string{"blocks", "clear", "--host=sim"}, "1 block lifted")
	f.expect(t, 0, []string{"blocks"}, "nothing is blocked")

	f.sim.ClearFaults()
	f.expect(t, 0, []string{"dead", "requeue", "--tenant=acme", "--kind=execution_error"}, "acme/bad-r1\n", "1 job requeued")
	f.expect(t, 0, []string{"dead", "requeue", "--all"}, "1 letter requeued before")
	f.expect(t, 1, []string{"dead", "purge", "--all"}, "standard input is no terminal to ask on; add --yes")
	f.expect(t, 0, []string{"dead", "purge", "--all", "--yes"}, "1 dead letter deleted")

	code, _, say = f.ask(t, picture, "submit", "-", "--id=later", "--in=1h", "--timeout=50ms", "--wait")
	if code != 4 || !strings.Contains(say, "end it with `dispatcher cancel later`") {
		t.Errorf("a wait that is over: code %d, %q", code, say)
	}
	f.expect(t, 0, []string{"cancel", "later"}, "later cancelled")
	f.expect(t, 0, []string{"cancel", "later"}, "later was already cancelled")
	f.expect(t, 1, []string{"cancel", "nobody"}, "give --force to cancel a job that is still to come")
	code, _, say = f.ask(t, picture, "submit", "-", "--id=later", "--wait")
	if code != 3 || !strings.Contains(say, "later: cancelled by ") {
		t.Errorf("a job that was cancelled: code %d, %q", code, say)
	}
}

func TestInputsTravelWithTheJob(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	source := f.submitted(t, picture, "--id=source", "--out="+t.TempDir())
	load := `{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"9":{"class_type":"SaveImage","inputs":{"images":["10",0],"filename_prefix":"ComfyUI"}}}`
	copied := f.submitted(t, load, "--input=10.image="+source, "--out="+t.TempDir())
	if got := firstColour(t, copied); got != red {
		t.Errorf("the colour is %v, want the input's red", got)
	}
}

var red = color.RGBA{R: 0xff, A: 0xff}

// firstColour is the colour of a picture's first pixel.
func firstColour(t *testing.T, path string) color.RGBA {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	drawn, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := color.RGBAModel.Convert(drawn.At(0, 0)).(color.RGBA)
	return got
}

func TestWatchEndsWithItsSignalAndPrintsObjects(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	if code, _, say := f.ask(t, picture, "submit", "-", "--id=seen", "--wait"); code != 0 {
		t.Fatal(say)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	read, write := io.Pipe()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if code := main.Run(ctx, []string{"watch", "--all", "--json", "--tenant=default", "--nats-url=" + f.url}, nil, write, io.Discard); code != 0 {
			t.Errorf("watch ended with %d", code)
		}
		_ = write.Close() // a pipe's Close never fails
	})
	var events []string
	for lines := bufio.NewScanner(read); lines.Scan(); {
		var e struct{ Subject, Event, Job string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Job != "seen" {
			t.Errorf("%s: %v", lines.Text(), err)
		}
		if events = append(events, e.Event); len(events) == 3 {
			cancel()
			break
		}
	}
	_ = read.Close() // what comes now has no reader
	if got := strings.Join(events, " "); got != "queued started completed" {
		t.Errorf("got %s", got)
	}
}

func TestHealthOfNobodyIsBad(t *testing.T) {
	t.Parallel()
	var out, say bytes.Buffer
	code := main.Run(t.Context(), []string{"health", "--http=127.0.0.1:1"}, nil, &out, &say)
	if code != 1 || !strings.Contains(say.String(), "is it running") {
		t.Errorf("code %d, %q", code, say.String())
	}
}

func TestAWorkflowThatIsLargerThanAMessageIsSubmittedAsAFile(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	large := strings.Replace(picture, `{"1":`, `{"2":{"class_type":"SimText","inputs":{"text":"`+strings.Repeat("iVBORw0KGgo", 150_000)+`"}},"1":`, 1)
	code, out, say := f.ask(t, large, "submit", "-", "--id=large", "--tenant=acme", "--name=poster", "--wait")
	if code != 0 || out != "large\n" || !strings.Contains(say, "is stored as the file acme/prompts/large.json") {
		t.Errorf("code %d, out %q, say %q", code, out, say)
	}
	f.expect(t, 0, []string{"jobs", "--tenant=acme"}, "large", "poster", "completed")
}
