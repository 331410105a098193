package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
)

// withBeside runs a dispatcher and something beside it that works until its context ends, which is when the dispatcher has ended.
func withBeside(run func(stop, kill context.Context) error, other func(context.Context) error) func(stop, kill context.Context) error {
	return func(stop, kill context.Context) error {
		working, end := context.WithCancel(kill)
		var ended sync.WaitGroup
		defer ended.Wait()
		defer end()
		ended.Go(func() { _ = other(working) }) // it ends with its context only, and says that
		return run(stop, kill)
	}
}

// tracesPath is where receivers of OTLP take traces, below their address.
const tracesPath = "v1/traces"

// traces makes what exports traces; none without an address of a receiver.
func (r *runCmd) traces(ctx context.Context, q *queue.Queue, log *slog.Logger, registry prometheus.Registerer) (*trace.Traces, error) {
	if r.Traces == "" {
		return nil, nil //nolint:nilnil // it is not asked for
	}
	at, err := url.Parse(r.Traces)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, fmt.Errorf("--otlp-endpoint %.200q is no address of a receiver: write it like http://127.0.0.1:4318", r.Traces)
	}
	return trace.New(ctx, q, trace.Config{
		Endpoint: at.JoinPath(tracesPath).String(), Ratio: r.TraceRatio, Version: semantic(daemon.Version()), Logger: log, Registerer: registry,
	})
}
