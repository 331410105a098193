package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

var (
	ListenAddress = listenAddress
	SyncPolicy    = syncPolicy
	DataDir       = dataDir
	Semantic      = semantic
	Share         = share
	HostState     = hostState
	Condition     = condition
	RestWords     = restWords
	ClockWords    = clockWords
	AfterControl  = afterControl
	NoHostAccepts = noHostAccepts
)

// Run is the command line in this process.
func Run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	return run(ctx, args, daemon.Console{In: in, Out: out, Err: err})
}

// Moment reads a time as a flag does.
func Moment(text string) (time.Time, error) {
	var m moment
	err := m.UnmarshalText([]byte(text))
	return m.Time, err
}

// CommandLine reads command lines and runs nothing.
func CommandLine(ctx context.Context) (*daemon.CommandLine, error) {
	line, _, err := quiet(ctx, nil)
	return line, err
}

func quiet(ctx context.Context, in io.Reader) (*daemon.CommandLine, *commands, error) {
	all := commands{}
	line, err := newCommandLine(ctx, &all, &daemon.Console{In: in, Out: io.Discard, Err: io.Discard})
	return line, &all, err
}

// RunFlags reads the flags of `dispatcher run` and gives what they say to the streams and to the dispatcher.
func RunFlags(ctx context.Context, args ...string) (keep queue.Config, policy route.Policy, url string, err error) {
	line, all, err := quiet(ctx, nil)
	if err != nil {
		return keep, policy, "", err
	}
	if err := line.Read(append([]string{"run"}, args...)); err != nil {
		return keep, policy, "", err
	}
	policy, err = all.Run.policy()
	return all.Run.keep(), policy, all.Run.URL, err
}

// Unused reads the flags of `dispatcher run` and says which of them have no effect.
func Unused(ctx context.Context, args ...string) (string, error) {
	line, all, err := quiet(ctx, nil)
	if err != nil {
		return "", err
	}
	err = line.Read(append([]string{"run"}, args...))
	return all.Run.unused(all.Run.URL), err
}

// SubmitSpecs reads the flags of `dispatcher submit` and gives the jobs that it would publish.
func SubmitSpecs(ctx context.Context, in io.Reader, args ...string) ([]jetstream.Spec, error) {
	line, all, err := quiet(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := line.Read(append([]string{"submit"}, args...)); err != nil {
		return nil, err
	}
	tenant, err := all.Submit.whose()
	if err != nil {
		return nil, err
	}
	return all.Submit.specs(&daemon.Console{In: in}, tenant)
}

// Line is a stored event as `dispatcher watch` shows it, without its time.
func Line(subject, body string, now time.Time) (who, host, why string) {
	note := jetstream.Note{Subject: subject, Body: []byte(body), Time: now}
	l := lineOf(&note, subject[lastDot(subject)+1:])
	return l.who, l.host, l.why
}

// JSONLine is a stored event as `dispatcher watch --json` prints it.
func JSONLine(subject, body string) string {
	note := jetstream.Note{Subject: subject, Body: []byte(body)}
	return string(jsonLine(&note, subject[lastDot(subject)+1:]))
}

func lastDot(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i
		}
	}
	return -1
}

// Verdict is the exit code of a wait that ended so.
func Verdict(completed, dead, cancelled, open int) int {
	w := waiter{client: jetstream.NewClient(nil, "acme"), c: &daemon.Console{Out: io.Discard, Err: io.Discard}, ends: map[job.EventKind]int{
		job.Completed: completed, job.Dead: dead, job.Cancelled: cancelled,
	}}
	jobs := make([]job.ID, completed+dead+cancelled+open)
	return w.c.End("dispatcher", w.verdict(context.Background(), jobs))
}

// RunSettings are the settings of `dispatcher run` with some flags: value and origin by name.
func RunSettings(t *testing.T, args ...string) map[string]string {
	t.Helper()
	line, all, err := quiet(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Read(append([]string{"run"}, args...)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range all.Run.settings() {
		got[s.Name] = s.Value + " " + s.From
	}
	return got
}

// GatewayKeys reads --gateway-keys.
func GatewayKeys(text string) (map[string]job.Tenant, error) {
	var keys gatewayKeys
	err := keys.UnmarshalText([]byte(text))
	return keys, err
}

// GatewayListeners reads --gateway-listen-as.
func GatewayListeners(text string) (map[string]job.Tenant, error) {
	var listeners gatewayListeners
	err := listeners.UnmarshalText([]byte(text))
	return listeners, err
}

// DrawTop are the lines that top shows.
func DrawTop(o queue.OverviewAnswer, running []jetstream.JobRow, problem string, width, height int) []string {
	return drawTop(&scene{o, running, problem}, width, height)
}

// GatewayExtensions are the node packs whose scripts a gateway serves in an open or closed fleet; "-" stands for no flag.
func GatewayExtensions(text string, closed bool) (gateway.Extensions, error) {
	var f gatewayFlags
	if text != "-" {
		if err := f.Extensions.UnmarshalText([]byte(text)); err != nil {
			return gateway.Extensions{}, err
		}
	}
	return f.config("", closed, nil, nil).Extensions, nil
}
