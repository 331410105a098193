package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Two dispatchers share the consumer: each beginning and end is counted by one of them, and how far they have come can be seen.
func TestEachEndIsTalliedByOneDispatcher(t *testing.T) {
	t.Parallel()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()}))
	t.Cleanup(func() { _ = server.Close() })
	q := openWith(t, server.URL(), queue.Config{})
	add := func(id string, kinds ...job.EventKind) {
		last := uint64(0)
		for _, kind := range kinds {
			last = must(q.Append(t.Context(), &job.Event{EventKind: kind, Job: job.ID(id), Tenant: "acme"}, last, "test", ""))
		}
	}
	add("before", job.Queued, job.Completed)
	var mu sync.Mutex // guards seen
	seen, want, all := map[string]int{}, map[string]int{}, make(chan struct{})
	const jobs = 40
	stop, cancel := context.WithCancel(t.Context())
	var loops sync.WaitGroup
	for range 2 {
		other := openWith(t, server.URL(), queue.Config{})
		loops.Go(func() {
			_ = other.Tally(stop, func(n jetstream.Note) {
				mu.Lock()
				defer mu.Unlock()
				if seen[n.Subject]++; len(seen) == 3*jobs {
					close(all)
				}
			}, func(err error) { t.Error(err) })
		})
	}
	js := must(natsjs.New(connect(t, server.URL())))
	for ready := false; !ready; { // it tells what is stored after the consumer was made
		_, err := js.Consumer(t.Context(), "COMFY_EVENTS", "tally")
		ready = err == nil
	}
	for i := range jobs {
		id := fmt.Sprint("j", i)
		add(id, job.Queued, job.Started, job.Failed, job.Retrying, job.Completed)
		for _, kind := range []string{"started", "failed", "completed"} {
			want["comfy.events.jobs.acme."+id+"."+kind] = 1
		}
	}
	<-all
	counts := map[string]queue.ConsumerCounts{}
	for _, c := range must(q.Consumers(t.Context())) {
		counts[c.Consumer] = c
	}
	if c, there := counts["tally"]; !there || c.Pending != 0 || c.Unacked != 0 || q.LaneCap() != 10_000 {
		t.Errorf("the consumers are at %+v, and a lane holds %d jobs", counts, q.LaneCap())
	}
	cancel()
	loops.Wait()
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("want (-) and got (+):\n%s", diff)
	}
}

// A dispatcher that counts again after days is not given all that has happened meanwhile. Earlier versions had NATS keep the place for ever.
func TestThePlaceOfTheCountsIsKeptForAnHour(t *testing.T) {
	t.Parallel()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()}))
	t.Cleanup(func() { _ = server.Close() })
	js := must(natsjs.New(connect(t, server.URL())))
	q := openWith(t, server.URL(), queue.Config{})
	for name, before := range map[string]*natsjs.ConsumerConfig{
		"new": nil, "of an earlier version": {Durable: "tally", DeliverPolicy: natsjs.DeliverNewPolicy, AckPolicy: natsjs.AckNonePolicy},
	} {
		if before != nil {
			must(js.CreateConsumer(t.Context(), "COMFY_EVENTS", *before))
		}
		stop, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { _ = q.Tally(stop, func(jetstream.Note) {}, func(err error) { t.Error(err) }) })
		kept := time.Duration(0)
		bounded, end := context.WithTimeout(stop, time.Minute)
		for kept == 0 && bounded.Err() == nil {
			if c, err := js.Consumer(t.Context(), "COMFY_EVENTS", "tally"); err == nil {
				kept = c.CachedInfo().Config.InactiveThreshold
			}
		}
		end()
		if kept != time.Hour {
			t.Errorf("%s: the place is kept for %v, want an hour", name, kept)
		}
		cancel()
		loop.Wait()
		if err := js.DeleteConsumer(t.Context(), "COMFY_EVENTS", "tally"); err != nil {
			t.Fatal(err)
		}
	}
}
