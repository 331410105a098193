package main

import (
	"context"
	"io"
)

// Reads says whether the command line takes these arguments. Nothing is run; help counts as taken.
func Reads(ctx context.Context, args []string) error {
	ended := -1
	parser, err := newParser(ctx, &commands{}, &console{out: io.Discard, err: io.Discard}, &ended)
	if err != nil {
		return err
	}
	if _, err := parser.Parse(args); err != nil && ended < 0 {
		return err
	}
	return nil
}
