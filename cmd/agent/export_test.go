package main

import (
	"context"
	"io"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// HostsOf reads COMFY_HOSTS.
var HostsOf = hostsOf

// Machine is this machine's name.
var Machine = machine

// Run is the command line in this process.
func Run(ctx context.Context, args []string, out, err io.Writer) int {
	return run(ctx, args, daemon.Console{Out: out, Err: err})
}

// CommandLine reads command lines and runs nothing.
func CommandLine(ctx context.Context) (*daemon.CommandLine, error) {
	line, _, err := quiet(ctx)
	return line, err
}

func quiet(ctx context.Context) (*daemon.CommandLine, *commands, error) {
	all := commands{}
	line, err := newCommandLine(ctx, &all, &daemon.Console{Out: io.Discard, Err: io.Discard})
	return line, &all, err
}

// Flags reads a command line and gives the agent's configuration, without its hosts.
func Flags(ctx context.Context, args ...string) (cfg agent.Config, comfyHosts string, err error) {
	line, all, err := quiet(ctx)
	if err != nil {
		return cfg, "", err
	}
	err = line.Read(args)
	return all.config(nil), all.ComfyHosts, err
}
