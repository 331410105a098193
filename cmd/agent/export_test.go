package main

import (
	"context"
	"io"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/agent"
)

// HostsOf reads COMFY_HOSTS.
var HostsOf = hostsOf

// Machine is this machine's name.
var Machine = machine

// Run is the command line in this process.
func Run(ctx context.Context, args []string, out, err io.Writer) int {
	return run(ctx, args, console{out: out, err: err})
}

// Flags reads a command line and gives the agent's configuration, without its hosts.
func Flags(ctx context.Context, args ...string) (cfg agent.Config, comfyHosts string, err error) {
	ended := -1
	all := commands{}
	parser, err := newParser(ctx, &all, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return cfg, "", err
	}
	_, err = parser.Parse(args)
	return all.config(nil), all.ComfyHosts, err
}

// Model is the whole grammar of the command line.
func Model(ctx context.Context) (*kong.Node, error) {
	ended := -1
	parser, err := newParser(ctx, &commands{}, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return nil, err
	}
	return parser.Model.Node, nil
}
