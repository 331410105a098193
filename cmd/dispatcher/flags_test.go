package main_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// The names that do not follow from the flag (the rest is COMFYHERD_<FLAG>).
var ownVariables = map[string]string{
	"otlp-endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT", "trace-ratio": "OTEL_TRACES_SAMPLER_ARG", "nats-url": "NATS_URL", "nats-creds": "NATS_CREDS", "nats-token": "NATS_TOKEN", "comfy-hosts": "COMFY_HOSTS", "demo dashboard": "COMFYHERD_DEMO_DASHBOARD"}

func TestEveryFlagHasAVariableAndAHelp(t *testing.T) {
	t.Parallel()
	line, err := main.CommandLine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(node *kong.Node)
	walk = func(node *kong.Node) {
		for _, flag := range node.Flags {
			if flag.Name == "help" || flag.Name == "version" {
				continue
			}
			seen++
			want := ownVariables[flag.Name]
			if of := ownVariables[node.Name+" "+flag.Name]; of != "" {
				want = of
			}
			if want == "" {
				want = "COMFYHERD_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
			}
			if len(flag.Envs) != 1 || flag.Envs[0] != want {
				t.Errorf("%s --%s: variables %v, want %s", node.FullPath(), flag.Name, flag.Envs, want)
			}
			if !strings.HasSuffix(flag.Help, ".") {
				t.Errorf("%s --%s: the help %q is no sentence", node.FullPath(), flag.Name, flag.Help)
			}
		}
		for _, child := range node.Children {
			if child.Help == "" {
				t.Errorf("%s has no help", child.FullPath())
			}
			walk(child)
		}
	}
	walk(line.Model.Node)
	if seen < 100 {
		t.Errorf("only %d flags were seen", seen)
	}
}

func TestWhatIsNotGivenLeavesNATSAsItStands(t *testing.T) { // not parallel: the environment belongs to the process
	t.Setenv("NATS_URL", "")
	keep, policy, url, err := main.RunFlags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(queue.Config{}, keep); diff != "" || url != "" {
		t.Errorf("keep %s, url %q", diff, url)
	}
	if want := (route.Policy{Cooldown: time.Minute, Cap: 15 * time.Minute, MaxFailures: 1}); policy != want {
		t.Errorf("policy %+v", policy)
	}
}

func TestVariablesStandForFlagsAndFlagsWin(t *testing.T) { //nolint:paralleltest // the environment belongs to the process
	for name, value := range map[string]string{
		"NATS_URL": "nats://a:1", "COMFYHERD_LANE_CAP": "7", "COMFYHERD_COOLDOWN_CAP": "1h", "COMFYHERD_EVENTS_AGE": "24h",
		"COMFYHERD_PRESET": "development", "COMFYHERD_COMPRESSION": "true", "COMFYHERD_REPLICAS": "3", "COMFYHERD_FILES_AGE": "",
		"COMFYHERD_PRESENCE_TTL": "5s", "COMFYHERD_ACK_WAIT": "20s", "COMFYHERD_DEAD_AGE": "48h", "COMFYHERD_MAX_FAILURES": "2",
		"COMFYHERD_MAX_DISK": "20GiB", "COMFYHERD_MAX_JOB": "4MiB", "COMFYHERD_OUTPUTS_BYTES": "1GB",
	} {
		t.Setenv(name, value)
	}
	keep, policy, url, err := main.RunFlags(t.Context(), "--ack-wait", "10s", "--cooldown=2m")
	if err != nil {
		t.Fatal(err)
	}
	want := queue.Config{
		Replicas: 3, Compression: true, AckWait: 10 * time.Second, LaneCap: 7, EventsAge: 24 * time.Hour, DeadAge: 48 * time.Hour,
		PresenceTTL: 5 * time.Second, MaxDisk: 20 << 30, MaxJob: 4 << 20, OutputsBytes: 1_000_000_000,
	}
	if diff := cmp.Diff(want, keep); diff != "" {
		t.Error(diff)
	}
	if want := (route.Policy{Cooldown: 2 * time.Minute, Cap: time.Hour, MaxFailures: 2}); policy != want || url != "nats://a:1" {
		t.Errorf("policy %+v, url %q", policy, url)
	}
}

func TestPresetsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	for preset, want := range map[string]route.Policy{
		"production":        {Cooldown: 60 * time.Second, Cap: 15 * time.Minute, MaxFailures: 1},
		"development":       {Cooldown: 30 * time.Second, Cap: 15 * time.Minute, MaxFailures: 3},
		"high-availability": {Cooldown: 120 * time.Second, Cap: 15 * time.Minute, MaxFailures: 1},
	} {
		_, got, _, err := main.RunFlags(t.Context(), "--preset", preset)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", preset, got, err)
		}
	}
}

func TestRunRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ args, want string }{
		"Preset":      {"--preset=fast", `--preset must be one of "production","development","high-availability"`},
		"TooShort":    {"--ack-wait=10ms", "--ack-wait=10ms is out of range; give 1s or more"},
		"Negative":    {"--cooldown=-5s", "--cooldown=-5s is out of range; give 1s or more"},
		"CapTooLow":   {"--cooldown=1h", "--cooldown 1h0m0s is longer than --cooldown-cap 15m0s"},
		"NotDuration": {"--park=ten", `expected duration but got "ten"`},
		"Replicas":    {"--replicas=2", "--replicas=2 is not possible; give 1, 3 or 5"},
		"NoSize":      {"--jobs-bytes=many", `"many" is no size; write it like 512MiB`},
		"LittleDisk":  {"--max-disk=1MiB", "--max-disk=1 MiB is out of range; give 1GiB or more"},
		"LittleDead":  {"--dead-bytes=1K", "--dead-bytes=1 KiB is out of range; give 16MiB or more"},
		"LargeJob":    {"--max-job=1GiB", "--max-job=1 GiB is out of range; give 4KiB to 63MiB"},
		"Typo":        {"--coldown=5s", `did you mean "--cooldown"?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := main.RunFlags(t.Context(), tc.args)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWhatAnotherNATSDoesNotHearIsSaid(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"ItsOwn":  {[]string{"--listen=:4333", "--sync=always", "--nats-url="}, ""},
		"Another": {[]string{"--listen=:4333", "--sync=always", "--nats-url=nats://n1"}, "--listen, --sync concern the NATS in this process"},
		"Both":    {[]string{"--listen=:4333", "--embedded", "--nats-url=nats://n1"}, ""},
		"Nothing": {[]string{"--nats-url=nats://n1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := main.Unused(t.Context(), tc.args...)
			if err != nil || !strings.HasPrefix(got, tc.want) || (got == "") != (tc.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestListenAddress(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]struct {
		host string
		port int
		bad  bool
	}{
		"": {}, "127.0.0.1:4222": {host: "127.0.0.1", port: 4222}, ":4333": {host: "0.0.0.0", port: 4333},
		"127.0.0.1:0": {host: "127.0.0.1", port: -1}, "[::1]:4222": {host: "::1", port: 4222},
		"4222": {bad: true}, "host": {bad: true}, "host:port": {bad: true}, "host:70000": {bad: true},
	} {
		host, port, err := main.ListenAddress(addr)
		if host != want.host || port != want.port || (err != nil) != want.bad {
			t.Errorf("%q: %q %d %v", addr, host, port, err)
		}
	}
}

func TestSyncPolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		always bool
		every  time.Duration
		bad    bool
	}{
		"": {}, "always": {always: true}, "10s": {every: 10 * time.Second}, "0s": {bad: true}, "-1s": {bad: true}, "never": {bad: true},
		"1ns": {bad: true}, "1ms": {every: time.Millisecond},
	} {
		always, every, err := main.SyncPolicy(text)
		if always != want.always || every != want.every || (err != nil) != want.bad {
			t.Errorf("%q: %v %s %v", text, always, every, err)
		}
	}
}

func TestTheVersionThatTheAPITellsIsSemantic(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"v1.2.3 (ea7f1ab03e12, go1.26.8)": "1.2.3", "0.1.0-dev (go1.26.8)": "0.1.0-dev", "v0.0.0-20260101000000-abcdef012345+dirty (x)": "0.0.0-20260101000000-abcdef012345+dirty",
	} {
		if got := main.Semantic(version); got != want {
			t.Errorf("%s: %s", version, got)
		}
	}
}

func TestTheStatesOfTheFlagAreThoseOfJobs(t *testing.T) {
	t.Parallel()
	jobs := command(t, "jobs")
	if jobs == nil {
		t.Fatal("there is no command jobs")
	}
	for _, flag := range jobs.Flags {
		if flag.Name != "state" {
			continue
		}
		var want []string
		for _, kind := range job.EventKinds() {
			want = append(want, string(kind))
		}
		got := strings.Split(flag.Tag.Get("oneof"), ",")
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func command(t *testing.T, name string) *kong.Node {
	t.Helper()
	for _, child := range commandLine(t).Model.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}
