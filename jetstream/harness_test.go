package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

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
	q, err := queue.Open(tb.Context(), connect(tb, url, options...), queue.Config{})
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

// serveCalls has a queue answer calls until the test ends, or stop is called.
func serveCalls(t *testing.T, q *queue.Queue, nc *nats.Conn, api queue.API) (stop func()) {
	t.Helper()
	api.Version = "1.0.0"
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		if err := q.ServeAPI(ctx, api); !errors.Is(err, context.Canceled) {
			t.Errorf("the service ended: %v", err)
		}
	})
	stop = func() { cancel(); over.Wait() }
	t.Cleanup(stop)
	awaitCalls(nc, len(api.Calls)+len(api.TenantCalls))
	return stop
}

// chains appends events, each behind the last of its job.
type chains struct {
	t    *testing.T
	q    *queue.Queue
	last map[string]uint64
}

func (c *chains) add(tenant job.Tenant, id job.ID, kinds ...job.EventKind) {
	c.t.Helper()
	for _, kind := range kinds {
		e := job.Event{EventKind: kind, Job: id, Tenant: tenant, Priority: 5}
		key := fmt.Sprint(tenant, "/", id)
		sequence, err := c.q.Append(c.t.Context(), &e, c.last[key], "test", "")
		if err != nil {
			c.t.Fatal(err)
		}
		c.last[key] = sequence
	}
}

// serveEvents answers pages of events, as a dispatcher does.
func serveEvents(t *testing.T, q *queue.Queue, nc *nats.Conn) (stop func()) {
	t.Helper()
	return serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{"events": queue.TenantJSON(q.EventsPage)}})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
