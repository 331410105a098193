package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	main "github.com/comfyherd/comfyherd/cmd/agent"
	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"), // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("os/signal.loop"))
}

const testTimeout = 75 * time.Second

func TestVariablesStandForFlagsAndFlagsWin(t *testing.T) { //nolint:paralleltest // the environment belongs to the process
	for name, value := range map[string]string{
		"COMFY_HOSTS": "http://h:1", "COMFYHERD_SLOTS": "2", "COMFYHERD_PREFETCH": "-1", "COMFYHERD_DRAIN": "5m", "COMFYHERD_LABEL": "gpu=4090,site=b",
		"COMFYHERD_START_TIMEOUT": "10s", "COMFYHERD_NODE_TIMEOUT": "20s", "COMFYHERD_TOTAL_TIMEOUT": "30s", "COMFYHERD_FREEZE_TIMEOUT": "", "COMFYHERD_OUTPUTS": "none", "COMFYHERD_INPUT_URLS": "any", "COMFYHERD_KEEP_FILES": "true", "COMFYHERD_THUMBS": "none",
	} {
		t.Setenv(name, value)
	}
	cfg, hosts, err := main.Flags(t.Context(), "--node-timeout=40s")
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Config{
		Slots: 2, Prefetch: -1, Drain: 5 * time.Minute, StartTimeout: 10 * time.Second, NodeTimeout: 40 * time.Second, TotalTimeout: 30 * time.Second, FreezeTimeout: 15 * time.Second,
		Outputs: "none", NoThumbs: true, KeepFiles: true, InputURLs: "any", Labels: []string{"gpu=4090", "site=b"}, Version: daemon.Version(), Machine: main.Machine(),
	}
	if diff := cmp.Diff(want, cfg); diff != "" || hosts != "http://h:1" {
		t.Errorf("hosts %q %s", hosts, diff)
	}
}

func TestWhatIsNotGivenIsTheAgentsDefault(t *testing.T) { // not parallel: the environment belongs to the process
	t.Setenv("NATS_URL", "")
	want := agent.Config{
		Slots: 1, Prefetch: 1, Drain: 10 * time.Minute, StartTimeout: time.Minute, NodeTimeout: 10 * time.Minute, FreezeTimeout: 15 * time.Second,
		Outputs: agent.OutputsStore, InputURLs: agent.URLsPublic, Version: daemon.Version(), Machine: main.Machine(),
	}
	cfg, _, err := main.Flags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFlagHasAVariable(t *testing.T) {
	t.Parallel()
	root := commandLine(t).Model.Node
	own := map[string]string{"nats-url": "NATS_URL", "nats-creds": "NATS_CREDS", "nats-token": "NATS_TOKEN", "comfy-hosts": "COMFY_HOSTS"}
	check := func(flag *kong.Flag) {
		want := own[flag.Name]
		if want == "" {
			want = "COMFYHERD_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		}
		if flag.Name != "help" && flag.Name != "version" && (len(flag.Envs) != 1 || flag.Envs[0] != want) {
			t.Errorf("--%s: variables %v, want %s", flag.Name, flag.Envs, want)
		}
	}
	for _, flag := range root.Flags {
		check(flag)
	}
	if len(root.Flags) < 20 {
		t.Errorf("only %d flags were seen", len(root.Flags))
	}
}

func TestAnErrorSaysWhatIsWrongAndWhatToDoNext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"NoHosts": {[]string{"--comfy-hosts="}, "agent: no ComfyUI host is given; set COMFY_HOSTS, as in COMFY_HOSTS=http://127.0.0.1:8188 agent\n"},
		"Typo":    {[]string{"--slotz=1"}, "agent: unknown flag --slotz, did you mean \"--slots\"?; see `agent --help`\n"},
		"Outputs": {[]string{"--outputs=some"}, "agent: --outputs must be one of \"store\",\"none\" but got \"some\"; see `agent --help`\n"},
		"Health":  {[]string{"health"}, "agent: no address to ask for health; start the process with --http :8080 and give the same here\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, say bytes.Buffer
			code := main.Run(t.Context(), tc.args, &out, &say)
			if code != 1 || !strings.HasPrefix(say.String(), tc.want) || out.Len() > 0 {
				t.Errorf("code %d, out %q, say %q, want %q", code, out.String(), say.String(), tc.want)
			}
		})
	}
}

func TestNoErrorShowsAPassword(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--comfy-hosts=htp://admin:s3cret@h:1"},
		{"--comfy-hosts=admin:s3cret@h:1"},
		{"--comfy-hosts=http://admin:s3cret,@h:1"},
		{"--comfy-hosts=http://admin:a/s3cret@h:1"},
		{"--comfy-hosts=http://admin:%s3cret@h:1"},
		{"--comfy-hosts=gpu=http://admin:s3cret@h:1?x=1"},
		{"--comfy-hosts=a=http://admin:s3cret@h:1,a=http://h:2"},
		{"--comfy-hosts=a.b=http://admin:s3cret@h:1"},
		{"http://admin:s3cret@h:1"},
		{"--comfy-host=http://admin:s3cret@h:1"},
		{"--slots=http://admin:s3cret@h:1"},
		{"--drain", "http://admin:s3cret@h:1"},
		{"--outputs=http://admin:s3cret@h:1"},
		{"health", "http://admin:s3cret@h:1"},
	} {
		var out, say bytes.Buffer
		if code := main.Run(t.Context(), args, &out, &say); code != 1 || strings.Contains(out.String()+say.String(), "cret") {
			t.Errorf("%q ended with %d and says %s", args, code, say.String())
		}
	}
}

func TestHelpShowsEveryFlagAndVersionIsOneLine(t *testing.T) {
	t.Parallel()
	var out, say bytes.Buffer
	if code := main.Run(t.Context(), []string{"--help"}, &out, &say); code != 0 || !strings.Contains(out.String(), "--freeze-timeout") || !strings.Contains(out.String(), "($COMFY_HOSTS)") {
		t.Errorf("code %d, help %s", code, out.String())
	}
	out.Reset()
	if code := main.Run(t.Context(), []string{"--version"}, &out, &say); code != 0 || !strings.HasPrefix(out.String(), "comfyherd agent ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("code %d, version %q", code, out.String())
	}
}

func TestAnAgentServesItsHostsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	url := startNATS(t, -1)
	stop := serve(t, url, func(line string) {
		if strings.HasPrefix(line, "agent: ") {
			t.Error(line)
		}
	})
	host := awaitHost(t.Context(), t, url)
	if host.Host != "gpu-1" || host.Slots != 1 || len(host.Labels) != 1 || host.Labels[0] != "gpu=4090" {
		t.Errorf("%+v", host)
	}
	stop()
}

// The services of a machine start in any order.
func TestAnAgentWaitsForANATSThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 100)
	stop := serve(t, fmt.Sprintf("nats://admin:s3cret@127.0.0.1:%d", port), func(line string) {
		if strings.Contains(line, "waiting for NATS") {
			waits <- line
		}
	})
	if line := <-waits; !strings.Contains(line, fmt.Sprintf("cannot reach NATS at nats://127.0.0.1:%d", port)) || strings.Contains(line, "s3cret") {
		t.Errorf("it says %s", line)
	}
	awaitHost(t.Context(), t, startNATS(t, port))
	stop()
}

func startNATS(t *testing.T, port int) (url string) {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: port, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() }) // the test is over
	return server.URL()
}

// serve runs an agent for a simulated ComfyUI until stop, and gives every line that it writes to hear.
func serve(t *testing.T, natsURL string, hear func(line string)) (stop func()) {
	t.Helper()
	sim, err := comfysim.Start(comfysim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	said, say := io.Pipe()
	var running sync.WaitGroup
	running.Go(func() {
		code := main.Run(ctx, []string{"--comfy-hosts=gpu-1=" + sim.URL(), "--nats-url=" + natsURL, "--label=gpu=4090"}, io.Discard, say)
		if code != 0 {
			t.Errorf("agent ended with %d", code)
		}
		_ = say.Close() // a pipe's Close never fails
	})
	running.Go(func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			hear(lines.Text())
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// awaitHost gives the first host that is online.
func awaitHost(ctx context.Context, t *testing.T, url string) queue.HostState {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: url, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var found queue.HostState
	err = q.WatchHosts(watching, func(c queue.Change[queue.HostState]) {
		if c.Phase == queue.Put && c.Value.State == queue.Online {
			found = c.Value
			stop()
		}
	})
	if found.Host == "" {
		t.Fatalf("no host came: %v", err)
	}
	return found
}
