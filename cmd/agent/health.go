package main

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// healthCmd asks the process that serves --http.
type healthCmd struct{}

// Help is shown after the flags.
func (*healthCmd) Help() string {
	return `Exit code 0 when the agent is ready, 1 when not; for health checks of containers.

Examples:
  agent health --http :8080
  COMFYHERD_HTTP=:8080 agent health`
}

// Run prints the answer of /readyz.
func (*healthCmd) Run(ctx context.Context, c *daemon.Console, s *settings) error {
	says, err := daemon.CheckHealth(ctx, s.HTTP)
	if err != nil {
		return err
	}
	c.Print("%s", says)
	return nil
}
