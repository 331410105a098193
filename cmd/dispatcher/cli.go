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

	Run       runCmd       `cmd:"" group:"fleet" help:"Run a dispatcher, which decides what host runs what job; with an embedded NATS unless NATS_URL names one."`
	Demo      demoCmd      `cmd:"" group:"fleet" help:"Show failover, a block and its end on this machine, in under 30 s; needs nothing."`
	Gateway   gatewayCmd   `cmd:"" group:"fleet" help:"Serve programs that were written for ComfyUI: its own API, and the Comfy API v2."`
	Bench     benchCmd     `cmd:"" group:"fleet" help:"Measure the throughput and latency of the queue beside the raw limit of NATS."`
	BenchPart benchPartCmd `cmd:"" hidden:"" help:"A process that bench --processes starts."`
	Sim       simCmd       `cmd:"" group:"fleet" help:"Run a simulated ComfyUI."`
	Dashboard dashboardCmd `cmd:"" group:"fleet" help:"Serve the page of a fleet that runs elsewhere."`
	Health    healthCmd    `cmd:"" group:"fleet" help:"Check the health of a dispatcher on this machine."`
	Doctor    doctorCmd    `cmd:"" group:"fleet" help:"Check a fleet from one end to the other, with a tiny job on each host."`

	Completion completionCmd `cmd:"" group:"fleet" help:"Print the script that completes command lines in a shell."`
	HelpOf     helpCmd       `cmd:"" name:"help" group:"fleet" help:"Show the help of a command."`

	Submit submitCmd `cmd:"" group:"jobs" help:"Publish workflows as jobs; with --wait until they have ended."`
	Wait   waitCmd   `cmd:"" group:"jobs" help:"Wait until jobs that were submitted before have ended."`
	Fetch  fetchCmd  `cmd:"" group:"jobs" help:"Download the files of completed jobs."`
	Jobs   jobsCmd   `cmd:"" group:"jobs" help:"List jobs, newest first."`
	Status statusCmd `cmd:"" group:"jobs" help:"Show the events, attempts and files of a job."`
	Why    whyCmd    `cmd:"" group:"jobs" help:"Show for every host whether it may run a job or workflow, and why not."`
	Watch  watchCmd  `cmd:"" group:"jobs" help:"Show events of jobs, blocks and hosts as they happen."`
	Cancel cancelCmd `cmd:"" group:"jobs" help:"Cancel jobs that wait or run."`
	Queue  queueCmd  `cmd:"" group:"jobs" help:"Show how many jobs wait and run in each lane."`
	Top    topCmd    `cmd:"" group:"jobs" help:"Show the fleet and what runs, live on the whole terminal."`

	Workflows workflowsCmd `cmd:"" group:"jobs" help:"List workflows with their jobs and the hosts that can run them."`

	Hosts    hostsCmd    `cmd:"" group:"rules" help:"List hosts; drain or resume one."`
	Blocks   blocksCmd   `cmd:"" group:"rules" help:"List or clear blocks."`
	Dead     deadCmd     `cmd:"" group:"rules" help:"List, show, requeue or purge dead letters."`
	Affinity affinityCmd `cmd:"" group:"rules" help:"List, write or remove rules that tie a workflow to hosts."`
	Tenants  tenantsCmd  `cmd:"" group:"rules" help:"List or change the weights and caps of tenants."`
	Webhooks webhooksCmd `cmd:"" group:"rules" help:"List or change the addresses to which events are delivered, test them, deliver again."`
	Access   accessCmd   `cmd:"" group:"rules" help:"Manage the keys of a closed fleet: who may do what in NATS."`
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
	line, err := newCommandLine(ctx, &commands{}, &c)
	if err != nil {
		return c.End("dispatcher", err)
	}
	return line.Run(asksForHelp(args))
}

func newCommandLine(ctx context.Context, all *commands, c *daemon.Console) (*daemon.CommandLine, error) {
	return daemon.NewCommandLine(ctx, "dispatcher", about, all, c, kong.ExplicitGroups([]kong.Group{
		{Key: "fleet", Title: "Programs:"}, {Key: "jobs", Title: "Jobs:"}, {Key: "rules", Title: "Operating a fleet:"},
		{Key: "nats", Title: "Connection to NATS:"}, {Key: "log", Title: "Log:"}, {Key: "page", Title: "Page:"}, {Key: "keep", Title: "What NATS keeps:"},
	}))
}

// interrupted replaces the error of a command that a signal has stopped by a message and an exit code.
func interrupted(stop context.Context, c *daemon.Console, err error) error {
	if err == nil || stop.Err() == nil {
		return err
	}
	c.Say("dispatcher: stopped")
	return daemon.ExitInterrupted
}
