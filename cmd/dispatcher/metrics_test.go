package main_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/test/docs"
)

// Each end of a job is delivered to one dispatcher. What a dispatcher without --http took would be missing in the sum of the metrics.
func TestADispatcherWithoutHTTPLeavesTheCountsToTheOthers(t *testing.T) {
	t.Parallel()
	address, err := docs.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, comfysim.Config{}, "--http="+address)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if code := main.Run(ctx, []string{"run", "--nats-url=" + f.url, "--dashboard=off", "--log-level=error"}, nil, io.Discard, io.Discard); code != 0 {
			t.Errorf("dispatcher run ended with %d", code)
		}
	})
	untilMetric(t, address, "comfyherd_fleet_dispatchers 2")
	const jobs = 8
	for i := range jobs {
		f.publish(t, fmt.Sprintf("--id=job-%d", i), "--wait")
	}
	untilMetric(t, address, fmt.Sprintf(`comfyherd_jobs_ended_total{outcome="completed",tenant="default"} %d`, jobs))
	untilMetric(t, address, fmt.Sprintf(`comfyherd_attempts_started_total{tenant="default"} %d`, jobs))
}

// untilMetric waits until a line is among the metrics that are served at an address.
func untilMetric(t *testing.T, address, line string) {
	t.Helper()
	var metrics string
	eventually(t, func() bool {
		metrics, _ = get("http://" + address + "/metrics")
		return strings.Contains(metrics, line+"\n")
	}, func() string { return "the metrics have no line " + line + ":\n" + metrics })
}
