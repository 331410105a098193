package main

import (
	"context"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// commands is the grammar of the command line.
type commands struct {
	daemon.Limits
	daemon.ConfigFlag

	Version kong.VersionFlag `short:"v" env:"-" help:"Print the version and exit."`

	settings

	Run    runCmd    `cmd:"" default:"1" hidden:""`
	Health healthCmd `cmd:"" help:"Check the health of the agent on this machine."`
}

const about = `Runs the jobs of ComfyUI hosts for comfyherd's dispatchers.

Examples:
  COMFY_HOSTS=http://127.0.0.1:8188 agent
  agent --comfy-hosts big=http://10.0.0.5:8188,small=http://10.0.0.6:8188 --nats-url nats://10.0.0.1
  agent --comfy-hosts http://127.0.0.1:8188 --label gpu=4090 --http :8080

Every flag has an environment variable, shown beside it.`

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, c daemon.Console) int {
	line, err := newCommandLine(ctx, &commands{}, &c)
	if err != nil {
		return c.End("agent", err)
	}
	return line.Run(args)
}

func newCommandLine(ctx context.Context, all *commands, c *daemon.Console) (*daemon.CommandLine, error) {
	return daemon.NewCommandLine(ctx, "agent", about, all, c, kong.Bind(&all.settings), kong.ExplicitGroups([]kong.Group{
		{Key: "jobs", Title: "Jobs:"}, {Key: "nats", Title: "Connection to NATS:"}, {Key: "log", Title: "Log:"},
	}))
}
