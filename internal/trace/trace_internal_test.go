package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// receiver is the client of a receiver that refuses while away says so.
type receiver struct {
	mu   sync.Mutex // guards all below
	away func() bool
	jobs []string // whose trace was exported
	asks int
}

func (r *receiver) Start(context.Context) error { return nil }
func (r *receiver) Stop(context.Context) error  { return nil }

func (r *receiver) UploadTraces(_ context.Context, all []*otlp.ResourceSpans) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asks++
	if r.away() {
		return errors.New("503 Service Unavailable")
	}
	for _, span := range all[0].GetScopeSpans()[0].GetSpans() {
		for _, a := range span.GetAttributes() {
			if a.GetKey() == "comfyherd.job" {
				r.jobs = append(r.jobs, a.GetValue().GetStringValue())
			}
		}
	}
	return nil
}

// stored has a completed job of every id but "unreadable" and "removed". Those of "b" are not all found from its end.
type stored struct{}

func (s stored) EndedChains(ctx context.Context, jobs []queue.JobEnd) (chains [][]queue.Link) {
	for _, end := range jobs {
		chain, err := s.Chain(ctx, end.Tenant, end.Job)
		if err != nil || end.Job == "b" {
			chain = nil
		}
		chains = append(chains, chain)
	}
	return chains
}

func (stored) Created() time.Time { return time.Unix(1790000000, 0) }

func (stored) Chain(_ context.Context, tenant job.Tenant, id job.ID) ([]queue.Link, error) {
	switch id {
	case "unreadable":
		return nil, errors.New("not JSON")
	case "removed":
		return nil, nil
	}
	return []queue.Link{
		{Event: job.Event{EventKind: job.Queued, Tenant: tenant, Job: id, Time: time.Unix(1790000001, 0)}},
		{Event: job.Event{EventKind: job.Completed, Tenant: tenant, Job: id, Time: time.Unix(1790000002, 0)}},
	}, nil
}

func exporting(r *receiver) *Traces {
	t := &Traces{from: stored{}, log: slog.New(slog.DiscardHandler), client: r, ratio: 1, waiting: make(chan queue.JobEnd, mostPending)}
	t.metrics = newMetrics(t.Pending)
	return t
}

func (t *Traces) end(ids ...string) {
	for _, id := range ids {
		t.JobEnded(queue.JobEnd{Tenant: "acme", Job: job.ID(id), How: job.Completed})
	}
}

func (t *Traces) wants(test *testing.T, exported, dropped, pending int) {
	test.Helper()
	registry, got := prometheus.NewPedanticRegistry(), make([]int, 3)
	t.metrics.register(registry)
	families, err := registry.Gather()
	if err != nil {
		test.Fatal(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[map[string]int{"comfyherd_traces_dropped_total": 1, "comfyherd_traces_pending": 2}[f.GetName()]] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
	}
	if diff := cmp.Diff([]int{exported, dropped, pending}, got); diff != "" {
		test.Errorf("exported, dropped, pending:\n%s", diff)
	}
}

func TestAReceiverThatComesBackGetsAllTraces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(5 * time.Minute)
		r := &receiver{away: func() bool { return time.Now().Before(back) }}
		traces := exporting(r)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = traces.Run(ctx) }()
		traces.end("a", "b")
		queue.Pause(t.Context(), time.Second)
		traces.end("c", "unreadable", "removed")
		queue.Pause(t.Context(), 4*time.Minute-time.Second)
		traces.wants(t, 0, 0, 5)
		queue.Pause(t.Context(), 2*time.Minute)
		traces.wants(t, 3, 1, 0) // nothing is to be exported of a job whose events are removed
		slices.Sort(r.jobs)
		if diff := cmp.Diff([]string{"a", "b", "c"}, r.jobs); diff != "" {
			t.Error(diff)
		}
		if r.asks > 20 {
			t.Errorf("asked %d times in 5 minutes", r.asks)
		}
	})
}

func TestTracesThatNoReceiverTakesAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := true
		r := &receiver{away: func() bool { return refused }}
		traces := exporting(r)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = traces.Run(ctx) }()
		traces.end("a")
		queue.Pause(t.Context(), time.Second)
		traces.end("b")
		queue.Pause(t.Context(), retryFor+longestPause)
		r.mu.Lock()
		refused = false
		r.mu.Unlock()
		queue.Pause(t.Context(), longestPause)
		traces.wants(t, 1, 1, 0)
		if diff := cmp.Diff([]string{"b"}, r.jobs); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMoreTracesThanAreKeptAreDropped(t *testing.T) {
	t.Parallel()
	traces := exporting(&receiver{away: func() bool { return true }})
	for i := range mostPending + 3 {
		traces.end(fmt.Sprint(i))
	}
	traces.wants(t, 0, 3, mostPending)
}

func TestWhatIsLeftIsExportedAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			refused := true // while the first export is tried
			r := &receiver{away: func() bool { return refused }}
			traces := exporting(r)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- traces.Run(ctx) }()
			traces.end("first")
			queue.Pause(t.Context(), time.Minute)
			for i := range 2 * mostJobs {
				traces.end(fmt.Sprint(i))
			}
			r.mu.Lock()
			refused = away
			r.mu.Unlock()
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Run has ended with %v", err)
			}
			if away {
				traces.wants(t, 0, 2*mostJobs+1, 0)
			} else {
				traces.wants(t, 2*mostJobs+1, 0, 0)
			}
		})
	}
}
