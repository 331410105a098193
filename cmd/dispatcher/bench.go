package main

import (
	"context"
	"errors"
	"time"
)

// benchCmd measures the queue.
type benchCmd struct {
	client
	Jobs        int           `default:"10000" help:"Jobs to run (${default})."`
	Hosts       int           `default:"100" help:"Hosts (${default})."`
	Dispatchers int           `default:"2" help:"Dispatchers (${default})."`
	HostTime    time.Duration `placeholder:"DURATION" help:"How long a host takes for a job (0s)."`
	JSON        bool          `help:"Print one JSON object."`
}

// Help is shown after the flags.
func (*benchCmd) Help() string {
	return `Examples:
  dispatcher bench
  dispatcher bench --jobs 10000 --hosts 100 --dispatchers 2 --json`
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context, c *console) error { return runBench(ctx, c, b) }

func runBench(context.Context, *console, *benchCmd) error {
	return errors.New("this build has no bench; build the whole module")
}
