package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// demoCmd shows the whole idea on one machine.
type demoCmd struct {
	ComfyHosts string `name:"comfy-hosts" env:"COMFY_HOSTS" placeholder:"URL,NAME=URL,…" help:"Real ComfyUI hosts to use instead of three simulated ones."`
	Out        string `type:"path" placeholder:"DIR" help:"Where to write the pictures (a new temporary folder)."`
	Verbose    bool   `help:"Log to standard error what dispatchers and agents do."`
}

// Help is shown after the flags.
func (*demoCmd) Help() string {
	return `Starts NATS in a temporary folder, two dispatchers and three simulated hosts, and tells four scenarios
live: normal runs, a failure with failover, the block, and recovery. Exit code 0 says that every one of
them was seen in the event stream. Real hosts need no models and no custom nodes for it; two small input
pictures stay on each, in the folder comfyherd-demo.

Examples:
  dispatcher demo
  COMFY_HOSTS=http://127.0.0.1:8188 dispatcher demo --out pictures`
}

// Run tells the story and fails when any part of it was not observed.
func (d *demoCmd) Run(ctx context.Context, c *daemon.Console) error {
	hosts, err := demoHosts(d.ComfyHosts)
	if err != nil {
		return err
	}
	if d.Out != "" {
		if err := daemon.Writable(d.Out); err != nil {
			return fmt.Errorf("--out %s: %w", d.Out, err)
		}
	}
	stop, _, release := daemon.Signals(ctx)
	defer release()
	o := demoOptions{hosts: hosts, pictures: d.Out, pace: time.Second, colours: daemon.Colourful(c.Out), width: daemon.Width(c.Out)}
	if d.Verbose {
		o.log = daemon.Logger(c.Err, slog.LevelDebug, false)
	}
	signal.Ignore(syscall.SIGPIPE) // it would end the process before NATS's folder is gone
	defer signal.Reset(syscall.SIGPIPE)
	telling, left := context.WithCancelCause(stop)
	defer left(nil)
	err = runDemo(telling, &audience{Writer: c.Out, left: left}, o)
	switch {
	case stop.Err() != nil:
		c.Say("dispatcher: stopped")
		return daemon.ExitInterrupted
	case telling.Err() != nil:
		return daemon.ExitFailed
	}
	return err
}

// audience is whom the story is told to. When it has left, as head does after some lines, the demo ends.
type audience struct {
	io.Writer

	left context.CancelCauseFunc
}

func (a *audience) Write(line []byte) (int, error) {
	n, err := a.Writer.Write(line)
	if err != nil {
		a.left(err)
	}
	return n, err
}

// demoOptions are what a demo may differ in.
type demoOptions struct {
	hosts    []agent.HostConfig // real ones; none means three simulated hosts
	pictures string             // folder; empty makes a temporary one
	pace     time.Duration      // rest before each headline, for people who read along
	colours  bool
	width    int           // of the terminal; 0 cuts no line
	intact   bool          // nothing is broken, so that there is nothing to see: a test of the demo itself
	most     time.Duration // for the whole story; 0 is demoTime
	cooldown time.Duration // of the block; 0 is demoCooldown
	log      *slog.Logger
}

const (
	// demoTime is what the whole story may take. What was not seen by then was not seen.
	demoTime = 28 * time.Second
	// demoCooldown is long enough to look at the block, and short enough to wait for its end.
	demoCooldown = 5 * time.Second
)

var errDemoTime = errors.New("the demo's time is over")

// runDemo starts a whole comfyherd in this process, tells the story to out, and takes everything down again except
// the pictures. It fails when anything that it claims was not observed in the event stream.
func runDemo(ctx context.Context, out io.Writer, o demoOptions) (err error) {
	o.most, o.cooldown = cmp.Or(o.most, demoTime), cmp.Or(o.cooldown, demoCooldown)
	ctx, cancel := context.WithTimeoutCause(ctx, o.most, errDemoTime)
	defer cancel()
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
	d := &demo{
		o: o, stage: stage, fleet: fleet, record: demoRecord{started: time.Now()},
		tell: teller{c: &daemon.Console{Out: out}, colours: o.colours, width: o.width},
	}
	return d.play(ctx)
}

// demoHosts reads COMFY_HOSTS. A host without a name is comfy-1, comfy-2, ….
func demoHosts(text string) ([]agent.HostConfig, error) {
	var hosts []agent.HostConfig
	entry := 0
	for part := range strings.SplitSeq(text, ",") {
		entry++
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		host := agent.HostConfig{Name: fmt.Sprintf("comfy-%d", len(hosts)+1), URL: part}
		if name, address, found := strings.Cut(part, "="); found && !strings.Contains(name, "/") {
			host = agent.HostConfig{Name: name, URL: address}
		}
		if u, err := url.Parse(host.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			what := strconv.Quote(part)
			if strings.Contains(text, "@") { // its parts may be those of a password
				what = fmt.Sprintf("entry %d of COMFY_HOSTS", entry)
			}
			return nil, fmt.Errorf("%s is no address of a ComfyUI; write it like http://127.0.0.1:8188 or gpu-1=http://127.0.0.1:8188", what)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}
