package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/demo"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// demoCmd shows on one machine what comfyherd does.
type demoCmd struct {
	ComfyHosts string `name:"comfy-hosts" env:"COMFY_HOSTS" placeholder:"URL,NAME=URL,…" unset:"three simulated hosts" help:"Real ComfyUI hosts to use."`
	Out        string `type:"path" placeholder:"DIR" unset:"a new temporary folder" help:"Where to write the pictures."`
	Dashboard  bool   `env:"COMFYHERD_DEMO_DASHBOARD" help:"Tell the story on a page too, and keep it and the fleet up until Ctrl-C."`
	Step       bool   `help:"Wait for Enter before each scene."`
	Keep       bool   `help:"Keep the fleet up until Ctrl-C, and show commands to try on it."`
	Verbose    bool   `help:"Log to standard error what dispatchers and agents do."`
}

// Help is shown after the flags.
func (*demoCmd) Help() string {
	return `Starts NATS in a temporary folder, two dispatchers and three simulated hosts, and tells five scenarios
live: normal runs, a failure with failover, the block, recovery, and a workflow that is itself at fault. Exit
code 0 says that every one of them was seen in the event stream. Real hosts need no models and no custom nodes for it; two small input
pictures stay on each, in the folder comfyherd-demo.

Examples:
  dispatcher demo
  dispatcher demo --dashboard
  dispatcher demo --step --keep
  COMFY_HOSTS=http://127.0.0.1:8188 dispatcher demo --out pictures`
}

// Run plays the demo and fails when any part of it was not observed.
func (d *demoCmd) Run(ctx context.Context, c *daemon.Console) error {
	hosts, err := demo.HostsOf(d.ComfyHosts)
	if err != nil {
		return err
	}
	if d.Out != "" {
		if err := daemon.Writable(d.Out); err != nil {
			return fmt.Errorf("--out %s: %w", d.Out, err)
		}
	}
	o := demo.Options{Hosts: hosts, Pictures: d.Out, Pace: time.Second, Keep: d.Keep, Colours: daemon.Colourful(c.Out), Width: daemon.Width(c.Out)}
	if d.Step {
		o.Step = c.In
	}
	if d.Verbose {
		o.Log = daemon.Logger(c.Err, slog.LevelDebug, false)
	}
	stop, _, release := daemon.Signals(ctx)
	defer release()
	if d.Dashboard {
		o.Page = func(q *queue.Queue) (string, func() error, error) { return servePage(stop, q, o.Log) }
	}
	defer daemon.IgnoreBrokenPipes()() // a broken pipe would end the process before NATS's folder is removed
	return interrupted(stop, c, demo.Run(stop, c.Out, o))
}
