package bench_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/bench"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const hour = time.Hour // beyond the end of any test

// named is a NATS beside the bench, with the streams of comfyherd in it and no program of a fleet.
func named(t *testing.T) (*natsserver.Server, natsjs.JetStream) {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() }) // a test may have closed it
	nc, err := nats.Connect(server.URL(), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return server, js
}

func refused(t *testing.T, cfg bench.Config, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := bench.Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("err = %v, want %q in it", err, want)
	}
}

func unfinished(t *testing.T, js natsjs.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), names.JobsStream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestTheJobsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	server, js := named(t)
	if _, err := js.Publish(t.Context(), "comfy.jobs.acme.5", []byte(`{"9":{"class_type":"SaveImage","inputs":{}}}`)); err != nil {
		t.Fatal(err)
	}
	refused(t, bench.Config{NATSURL: server.URL(), Jobs: 10, Hosts: 1}, "1 unfinished jobs")
	if n := unfinished(t, js); n != 1 {
		t.Errorf("%d jobs are left of 1", n)
	}
}

func TestAFleetIsLeftAlone(t *testing.T) {
	t.Parallel()
	server, js := named(t)
	for bucket, want := range map[string]string{names.HostsBucket: "1 hosts", names.DispatchersBucket: "1 dispatchers"} {
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "gpu-1", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		refused(t, bench.Config{NATSURL: server.URL(), Jobs: 10, Hosts: 1}, want)
		if err := kv.Delete(t.Context(), "gpu-1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStreamOfTheRawStagesNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	server, js := named(t)
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "BENCH_JOBS", Subjects: []string{"mine.>"}}); err != nil {
		t.Fatal(err)
	}
	refused(t, bench.Config{NATSURL: server.URL(), Jobs: 10, Hosts: 1}, "has a stream BENCH_JOBS that bench did not make")
	if _, err := js.Stream(t.Context(), "BENCH_JOBS"); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

func TestANATSIsMeasuredAgainAndAgain(t *testing.T) { //nolint:paralleltest // the heap belongs to the process
	server, js := named(t)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r, err := bench.Run(ctx, bench.Config{NATSURL: server.URL(), Jobs: 50, Hosts: 2, Waiting: 100, Blocks: 10})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if r.OffersAccepted != 50 {
			t.Errorf("%d offers were accepted for 50 jobs", r.OffersAccepted)
		}
		if n := unfinished(t, js); n != 0 {
			t.Errorf("%d jobs stay behind", n)
		}
	}
}

func TestAMeasurementEndsWithItsNATS(t *testing.T) {
	t.Parallel()
	server, _ := named(t)
	gone := make(chan struct{})
	cfg := bench.Config{NATSURL: server.URL(), SkipRaw: true, Jobs: 10, Hosts: 1, HostTime: hour, Progress: func(bench.Progress) {
		select {
		case <-gone:
		default:
			close(gone)
			_ = server.Close() // the test is what the bench makes of it
		}
	}}
	refused(t, cfg, "was lost")
}

func TestAJobThatNATSDoesNotStoreEndsTheMeasurement(t *testing.T) {
	t.Parallel()
	server, js := named(t)
	stream, err := js.Stream(t.Context(), names.JobsStream)
	if err != nil {
		t.Fatal(err)
	}
	full := stream.CachedInfo().Config
	full.MaxBytes = 20_000
	if _, err := js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	refused(t, bench.Config{NATSURL: server.URL(), SkipRaw: true, Jobs: 100, Hosts: 1, HostTime: hour}, "NATS did not store comfy.jobs.")
}

func TestAnErrorOfTheEmbeddedNATSEndsTheStage(t *testing.T) {
	t.Parallel()
	ctx, fail := context.WithCancelCause(t.Context())
	log := slog.New(bench.Alarm(fail))
	log.Warn("it is slow")
	if ctx.Err() != nil {
		t.Fatal("a warning ended it")
	}
	log.Error("no space left on device")
	if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), "no space left") {
		t.Errorf("cause %v", cause)
	}
}

func TestTheDeadAreNotCountedAsCompleted(t *testing.T) {
	t.Parallel()
	if s, dead := bench.TimesOfADeadJob(); s != (bench.Spread{}) || dead != 1 {
		t.Errorf("one job that is dead took %+v to be completed, and %d are dead", s, dead)
	}
}

func TestHostsAreSharedByAsManyAgentsAsWereAskedFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ hosts, agents int }{{10, 1}, {10, 4}, {10, 6}, {7, 5}, {3, 3}, {2000, 80}} {
		counts := bench.HostsOfAgents(tc.hosts, tc.agents)
		sum := 0
		for _, n := range counts {
			sum += n
		}
		if len(counts) != tc.agents || sum != tc.hosts || slices.Max(counts)-slices.Min(counts) > 1 {
			t.Errorf("%d hosts and %d agents: %v", tc.hosts, tc.agents, counts)
		}
	}
}
