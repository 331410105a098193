package main

import (
	"context"
	"io"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// Reads says whether the command line takes these arguments. Nothing is run; help counts as taken.
func Reads(ctx context.Context, args []string) error {
	ended := -1
	parser, err := newParser(ctx, &commands{}, &daemon.Console{Out: io.Discard, Err: io.Discard}, &ended)
	if err != nil {
		return err
	}
	if _, err := parser.Parse(args); err != nil && ended < 0 {
		return err
	}
	return nil
}
