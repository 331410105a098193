package dispatcher_test

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// On a real NATS that is restarted, with what it had stored and without, a list of jobs is that of the stored events.
func TestListsOfJobsOutliveRestartsOfNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	restart := func(dir string) {
		t.Helper()
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if server, err = natsserver.Start(natsserver.Config{Port: port, StoreDir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *queue.Queue {
		t.Helper()
		nc, err := nats.Connect(address.String(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Timeout(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		q, err := queue.Open(t.Context(), nc, queue.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Close)
		return q
	}
	d, err := dispatcher.New(open(), dispatcher.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stopping, stop := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- d.Run(stopping, context.Background()) }()
	defer func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	queued := func(q *queue.Queue, id job.ID) {
		t.Helper()
		e := job.Event{EventKind: job.Queued, Job: id, Tenant: "acme", Priority: 5}
		for { // NATS may be on its way back
			if _, err = q.Append(t.Context(), &e, 0, "test", ""); err == nil {
				return
			}
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
		}
	}
	list := func(q *queue.Queue, want string) {
		t.Helper()
		for {
			var a jetstream.JobsAnswer
			if err = q.Call(t.Context(), "jobs", jetstream.JobsRequest{}, &a); err == nil {
				if got := listed(a, nil); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				return
			}
			if t.Context().Err() != nil || strings.Contains(err.Error(), "no fitting") {
				t.Fatal(err)
			}
		}
	}
	q := open()
	queued(q, "one")
	list(q, "acme/one:queued")
	restart(dir)
	queued(q, "two")
	list(q, "acme/two:queued acme/one:queued")
	restart(t.TempDir())
	q = open()
	queued(q, "three")
	list(q, "acme/three:queued")
}
