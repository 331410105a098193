// Package demo shows what comfyherd promises, in under half a minute on one machine.
//
// Guarantee: everything that Run claims was observed in the event stream, and Run fails when anything was not. It starts NATS
// in a temporary folder, two dispatchers, and an agent for each of three simulated ComfyUI hosts or for the hosts that it is
// given, and plays five scenes: jobs that complete, a failure and the failover, the block, its end, and a workflow that is itself
// at fault. When it ends, nothing is left but the pictures.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Options of Run. The zero value shows three simulated hosts, without pauses and without colours.
type Options struct {
	Hosts    []agent.HostConfig // real ComfyUI hosts; empty: three simulated ones
	Pictures string             // folder to write the pictures to; empty: a temporary one
	Pace     time.Duration      // pause before each headline, for people who read along
	Colours  bool
	Width    int          // of the terminal; 0: lines are not cut
	Log      *slog.Logger // of dispatchers and agents; nil: none

	// Page serves the page of the fleet and gives its address, until end is called. With it the fleet stays up when the story is told,
	// and further jobs run, until ctx ends. nil: no page.
	Page func(q *queue.Queue) (address string, end func() error, err error)
	// Keep also has the fleet stay up, and prints commands to try on it.
	Keep bool
	// Step has each scene wait for a line from it, for as long as it takes. nil: no scene waits.
	Step io.Reader

	intact   bool          // nothing is broken, so that the claims are not observed: a test of the demo itself
	timeout  time.Duration // for the whole demo; 0: defaultTimeout
	cooldown time.Duration // of the block; 0: defaultCooldown
}

const (
	// defaultTimeout bounds the whole demo. What was not observed by then counts as not observed.
	defaultTimeout = 28 * time.Second
	// defaultCooldown leaves sceneTime for the scene of the block, and the block still ends within defaultTimeout.
	defaultCooldown = 5 * time.Second
)

var errTimeout = errors.New("the demo's time is over")

// Run plays the demo, prints it to out, and removes everything again except the pictures. It ends early with ctx, and
// with daemon.ExitFailed when out takes no more lines, as when its reader is `head`.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	whole := ctx
	o.timeout, o.cooldown = cmp.Or(o.timeout, defaultTimeout), cmp.Or(o.cooldown, defaultCooldown)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.Step == nil { // a person who reads along may take any time; each scene has its own limit then
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	ctx, readerGone := context.WithCancelCause(ctx)
	defer readerGone(nil)
	stage, err := openStage(&o)
	if err != nil {
		return err
	}
	defer stage.close()
	fleet, err := openFleet(ctx, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fleet.close()) }()
	address := ""
	if o.Page != nil {
		if address, err = fleet.page(o.Page); err != nil {
			return err
		}
	}
	d := &demo{
		o: o, address: address, stage: stage, fleet: fleet, record: record{started: time.Now()},
		out: printer{c: &daemon.Console{Out: &watchedWriter{Writer: out, failed: readerGone}}, colours: o.Colours, width: o.Width},
	}
	d.enter = o.lines(ctx)
	err = d.run(ctx)
	if errors.Is(context.Cause(ctx), daemon.ExitFailed) {
		return daemon.ExitFailed
	}
	if err == nil && (d.address != "" || o.Keep) {
		cancel() // the story's time no longer counts, and its events are no longer followed
		return d.stay(whole)
	}
	return err
}

// watchedWriter ends the demo when a write fails.
type watchedWriter struct {
	io.Writer

	failed context.CancelCauseFunc
}

func (w *watchedWriter) Write(line []byte) (int, error) {
	n, err := w.Writer.Write(line)
	if err != nil {
		w.failed(daemon.ExitFailed)
	}
	return n, err
}

// HostsOf reads COMFY_HOSTS. A host without a name is comfy-1, comfy-2, ….
func HostsOf(comfyHosts string) ([]agent.HostConfig, error) {
	given, err := daemon.ComfyHosts(comfyHosts)
	if err != nil {
		return nil, err
	}
	hosts := make([]agent.HostConfig, len(given))
	for i, h := range given {
		hosts[i] = agent.HostConfig{Name: cmp.Or(h.Name, fmt.Sprintf("comfy-%d", i+1)), URL: h.URL}
	}
	return hosts, nil
}
