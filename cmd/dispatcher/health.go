package main

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// healthCmd asks the process that serves --http.
type healthCmd struct {
	HTTP string `name:"http" placeholder:"ADDR" help:"The --http of the dispatcher."`
}

// Help is shown after the flags.
func (*healthCmd) Help() string {
	return `Exit code 0 when the dispatcher is ready, 1 when not; for health checks of containers.

Examples:
  dispatcher health --http :8080
  COMFYHERD_HTTP=:8080 dispatcher health`
}

// Run prints the answer of /readyz.
func (h *healthCmd) Run(ctx context.Context, c *daemon.Console) error {
	says, err := daemon.CheckHealth(ctx, h.HTTP)
	if err != nil {
		return err
	}
	c.Print("%s", says)
	return nil
}
