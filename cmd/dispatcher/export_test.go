package main

import (
	"context"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

var (
	Span          = span
	Clean         = clean
	BytesText     = bytesText
	ListenAddress = listenAddress
	SyncPolicy    = syncPolicy
	DataDir       = dataDir
	Semantic      = semantic
	FileName      = fileName
	Moment        = moment
	Happening     = happening
	Share         = share
	HostState     = hostState
	Condition     = condition
	RestWords     = restWords
	ClockWords    = clockWords
	Obeyed        = obeyed
	Nobody        = nobody
)

// Run is the command line in this process.
func Run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	return run(ctx, args, console{in: in, out: out, err: err})
}

// Model is the whole grammar of the command line.
func Model(ctx context.Context) (*kong.Node, error) {
	ended := -1
	parser, err := newParser(ctx, &commands{}, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return nil, err
	}
	return parser.Model.Node, nil
}

// RunFlags reads the flags of `dispatcher run` and gives what they say to the streams and to the dispatcher.
func RunFlags(ctx context.Context, args ...string) (keep queue.Config, policy route.Policy, url string, err error) {
	ended := -1
	all := commands{}
	parser, err := newParser(ctx, &all, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return keep, policy, "", err
	}
	if _, err := parser.Parse(append([]string{"run"}, args...)); err != nil {
		return keep, policy, "", err
	}
	policy, err = all.Run.policy()
	return all.Run.keep(), policy, all.Run.URL, err
}

// Unused reads the flags of `dispatcher run` and says which of them go unheard.
func Unused(ctx context.Context, args ...string) (string, error) {
	ended := -1
	all := commands{}
	parser, err := newParser(ctx, &all, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return "", err
	}
	_, err = parser.Parse(append([]string{"run"}, args...))
	return all.Run.unused(all.Run.URL), err
}

// SubmitSpecs reads the flags of `dispatcher submit` and gives the jobs that it would publish.
func SubmitSpecs(ctx context.Context, in io.Reader, args ...string) ([]jetstream.Spec, error) {
	ended := -1
	all := commands{}
	c := console{in: in, out: io.Discard, err: io.Discard}
	parser, err := newParser(ctx, &all, &c, &ended)
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse(append([]string{"submit"}, args...)); err != nil {
		return nil, err
	}
	tenant, err := all.Submit.whose()
	if err != nil {
		return nil, err
	}
	if err := all.Submit.check(); err != nil {
		return nil, err
	}
	return all.Submit.specs(&c, tenant)
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

// Save writes an output of a job to a file.
func Save(ctx context.Context, open func(ctx context.Context, object string, offset int64) (io.ReadCloser, error), o *job.Output, path string) error {
	s := saver{open: open}
	return s.save(ctx, o, path)
}

// Verdict is the exit code of a wait that ended so.
func Verdict(completed, dead, cancelled, open int) int {
	w := waiter{client: jetstream.NewClient(nil, "acme"), c: &console{out: io.Discard, err: io.Discard}, ends: map[job.EventKind]int{
		job.Completed: completed, job.Dead: dead, job.Cancelled: cancelled,
	}}
	jobs := make([]job.ID, completed+dead+cancelled+open)
	return w.c.end(w.verdict(context.Background(), jobs))
}
