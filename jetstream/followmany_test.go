package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/embedded"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Some jobs have ended before, some are under way, some come later, NATS is restarted in the middle, and another job of
// the tenant is nobody's business: each followed job is told from its first event to its end, once.
func TestManyJobsAreFollowedFromTheirFirstEventsToTheirEnds(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	server := must(embedded.Start(embedded.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	url := server.URL()
	patient := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	writer, q := openOn(t, url, patient...), openOn(t, url, patient...)
	last := map[jetstream.ID]uint64{}
	write := func(id jetstream.ID, kinds ...job.EventKind) {
		t.Helper()
		for _, kind := range kinds {
			e := jetstream.Event{EventKind: kind, Job: id, Tenant: "acme"}
			sequence, err := writer.Append(ctx, &e, last[id], "test", "")
			if err != nil {
				t.Fatal(err)
			}
			last[id] = sequence
		}
	}
	var ids []jetstream.ID
	for n := range 30 {
		ids = append(ids, jetstream.ID(fmt.Sprintf("job-%d", n)))
		switch {
		case n < 10:
			write(ids[n], job.Queued, job.Started, job.Completed)
		case n < 20:
			write(ids[n], job.Queued)
		}
	}
	write("other", job.Queued)

	next, stop := iter.Pull2(q.FollowMany(ctx, "acme", ids))
	defer stop()
	told := map[jetstream.ID][]job.EventKind{}
	tell := func(n int) {
		t.Helper()
		for range n {
			e, err, more := next()
			if err != nil || !more {
				t.Fatalf("the events end with %v", err)
			}
			told[e.Job] = append(told[e.Job], e.EventKind)
		}
	}
	tell(10*3 + 10)
	for n := 10; n < 20; n++ {
		write(ids[n], job.Started)
	}
	tell(5)
	must(0, server.Close())
	server = must(embedded.Start(embedded.Config{Port: port(t, url), StoreDir: dir}))
	reconnected(t, writer)
	for n := 10; n < 30; n++ {
		if n >= 20 {
			write(ids[n], job.Queued, job.Started)
		}
		write(ids[n], job.Completed)
	}
	write("other", job.Dead)
	tell(5 + 10 + 10*3)
	if e, err, more := next(); more {
		t.Errorf("after all ends came %s of %s, %v", e.EventKind, e.Job, err)
	}
	want := map[jetstream.ID][]job.EventKind{}
	for _, id := range ids {
		want[id] = []job.EventKind{job.Queued, job.Started, job.Completed}
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestFollowingManyJobsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	q := openOn(t, startNATS(t))
	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(q.FollowMany(ctx, "acme", []jetstream.ID{"one", "two"}))
	defer stop()
	e := jetstream.Event{EventKind: job.Queued, Job: "two", Tenant: "acme"}
	must(q.Append(ctx, &e, 0, "test", ""))
	if e, err, more := next(); e.Job != "two" || err != nil || !more {
		t.Fatalf("came %+v, %v, %v", e, err, more)
	}
	cancel()
	if _, err, more := next(); !errors.Is(err, context.Canceled) || !more {
		t.Errorf("the last item is %v, %v", err, more)
	}
	if _, _, more := next(); more {
		t.Error("something follows the context's end")
	}
}
