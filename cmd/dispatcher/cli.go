package main

import (
	"context"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// commands are all that `dispatcher` can be asked to do.
type commands struct {
	daemon.Limits

	Version kong.VersionFlag `short:"v" env:"-" help:"Print the version and exit."`

	Run    runCmd    `cmd:"" group:"fleet" help:"Decide which host runs which job; starts NATS too when there is none."`
	Demo   demoCmd   `cmd:"" group:"fleet" help:"See the whole idea in under 30 s; needs nothing."`
	Bench  benchCmd  `cmd:"" group:"fleet" help:"Measure how fast it is, beside the raw limit of NATS."`
	Sim    simCmd    `cmd:"" group:"fleet" help:"Run a simulated ComfyUI."`
	Health healthCmd `cmd:"" group:"fleet" help:"Ask a dispatcher on this machine whether it does its work."`

	Submit submitCmd `cmd:"" group:"jobs" help:"Publish workflows as jobs; with --wait until they have ended."`
	Wait   waitCmd   `cmd:"" group:"jobs" help:"Wait until jobs that were submitted before have ended."`
	Fetch  fetchCmd  `cmd:"" group:"jobs" help:"Get the files of completed jobs."`
	Jobs   jobsCmd   `cmd:"" group:"jobs" help:"List jobs, newest first."`
	Status statusCmd `cmd:"" group:"jobs" help:"Tell the story of a job."`
	Why    whyCmd    `cmd:"" group:"jobs" help:"Say for every host why it does or does not take a job or workflow."`
	Watch  watchCmd  `cmd:"" group:"jobs" help:"Show events of jobs, blocks and hosts as they happen."`
	Cancel cancelCmd `cmd:"" group:"jobs" help:"End jobs wherever they are."`
	Queue  queueCmd  `cmd:"" group:"jobs" help:"Show lanes with their depth, age and share."`

	Hosts    hostsCmd    `cmd:"" group:"rules" help:"List hosts; drain or resume one."`
	Blocks   blocksCmd   `cmd:"" group:"rules" help:"List or clear blocks."`
	Dead     deadCmd     `cmd:"" group:"rules" help:"List, show, requeue or purge dead letters."`
	Affinity affinityCmd `cmd:"" group:"rules" help:"Rules that tie a workflow to hosts."`
	Tenants  tenantsCmd  `cmd:"" group:"rules" help:"Weights and caps of tenants."`
	Access   accessCmd   `cmd:"" group:"rules" help:"Keys of a closed fleet: who may do what in NATS."`
}

const about = `A queue for ComfyUI fleets on NATS JetStream: publish workflows, and failing pairs of host and
workflow are blocked for a while and nothing else is.

Every flag has an environment variable, shown beside it.`

// Exit codes of waiting for jobs.
const (
	exitDied      daemon.Exit = 2
	exitCancelled daemon.Exit = 3
	exitTimedOut  daemon.Exit = 4
)

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, c daemon.Console) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	line, err := newCommandLine(ctx, &commands{}, &c)
	if err != nil {
		return c.End("dispatcher", err)
	}
	return line.Run(args)
}

func newCommandLine(ctx context.Context, all *commands, c *daemon.Console) (*daemon.CommandLine, error) {
	return daemon.NewCommandLine(ctx, "dispatcher", about, all, c, kong.ExplicitGroups([]kong.Group{
		{Key: "fleet", Title: "Running a fleet:"}, {Key: "jobs", Title: "Jobs:"}, {Key: "rules", Title: "Looking after it:"},
		{Key: "nats", Title: "Connection to NATS:"}, {Key: "log", Title: "Log:"}, {Key: "keep", Title: "What NATS keeps:"},
	}))
}
