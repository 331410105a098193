package main

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// healthCmd asks the process that serves --http.
type healthCmd struct{}

// Help is shown after the flags.
func (*healthCmd) Help() string {
	return `Exit code 0 when the agent does its work, 1 when not. Made for health checks of containers.

Examples:
  agent health --http :8080
  COMFYHERD_HTTP=:8080 agent health`
}

// Run prints what the agent says of itself.
func (*healthCmd) Run(ctx context.Context, c *daemon.Console, s *settings) error {
	says, err := daemon.CheckHealth(ctx, s.HTTP)
	if err != nil {
		return err
	}
	c.Print("%s", says)
	return nil
}
