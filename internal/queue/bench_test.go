package queue_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func openQueue(tb testing.TB) *queue.Queue {
	tb.Helper()
	return openOn(tb, startNATS(tb))
}

func startNATS(tb testing.TB) (url string) {
	tb.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server.URL()
}

func openOn(tb testing.TB, url string, options ...nats.Option) *queue.Queue {
	tb.Helper()
	return open(tb, connect(tb, url, options...), queue.Config{})
}

// open opens a Queue that is closed with the test.
func open(tb testing.TB, nc *nats.Conn, cfg queue.Config) *queue.Queue {
	tb.Helper()
	q, err := queue.Open(tb.Context(), nc, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(q.Close)
	return q
}

func connect(tb testing.TB, url string, options ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(url, append(options, nats.Timeout(10*time.Second))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// BenchmarkAppend publishes the three events of a job, each when the one before is stored, on NATS in this process
// over a socket, with file storage.
func BenchmarkAppend(b *testing.B) {
	q := openQueue(b)
	hash := workflow.Hash(strings.Repeat("0", 64))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		last := uint64(0)
		for _, kind := range []job.EventKind{job.Queued, job.Started, job.Completed} {
			e := job.Event{EventKind: kind, Job: job.ID(strconv.Itoa(n)), Tenant: "acme", Priority: 5, Host: "gpu-1", Attempt: 1, Time: time.Now()}
			e.Hash = hash
			var err error
			if last, err = q.Append(b.Context(), &e, last, "bench", ""); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkSubmit publishes a job and waits until it is stored.
func BenchmarkSubmit(b *testing.B) {
	q := openQueue(b)
	spec := jetstream.Spec{Workflow: []byte(smallWorkflow)}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		lane := jetstream.Lane{Tenant: job.Tenant("acme-" + strconv.Itoa(n/5000)), Priority: 5} // below the cap of a lane
		if _, err := q.Submit(b.Context(), lane, spec); err != nil {
			b.Fatal(err)
		}
	}
}

// port is that of a server's address.
func port(tb testing.TB, address string) int {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// reconnected waits until a queue reaches its server again.
func reconnected(tb testing.TB, q *queue.Queue) {
	tb.Helper()
	for {
		if _, err := q.Depth(tb.Context()); err == nil {
			return
		}
		if tb.Context().Err() != nil {
			tb.Fatal("NATS did not come back")
		}
	}
}
