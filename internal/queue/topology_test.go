package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// COMFY_EVENTS once took comfy.events.> itself. Open changes that, and everything goes on where it stood: the chain of a
// job, and the consumer whose events one dispatcher settles.
func TestAFormerStreamOfEventsIsChangedWithoutLoss(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(ctx, natsjs.StreamConfig{
		Name: names.EventsStream, Subjects: []string{"comfy.events.>"}, MaxAge: 24 * time.Hour, AllowDirect: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"queued", "started", "failed"} {
		if _, err := js.Publish(ctx, "comfy.events.jobs.acme.old."+kind, []byte(`{"job":"old","tenant":"acme"}`)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = js.CreateConsumer(ctx, names.EventsStream, natsjs.ConsumerConfig{
		Durable: "settle", FilterSubject: "comfy.events.jobs.*.*.failed", AckPolicy: natsjs.AckExplicitPolicy, MaxDeliver: -1,
	})
	if err != nil {
		t.Fatal(err)
	}

	q := open(t, nc, queue.Config{})
	if q.EventsAge() != 24*time.Hour {
		t.Errorf("events are kept %v", q.EventsAge())
	}
	settled := make(chan job.EventKind, 1)
	settling, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- q.SettleFailed(settling, func(_ context.Context, link queue.Link) error {
			settled <- link.EventKind
			return nil
		}, func(err error) { t.Log(err) })
	}()
	if kind := <-settled; kind != job.Failed {
		t.Errorf("settled %s", kind)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("settling ended with %v", err)
	}
	e := jetstream.Event{EventKind: job.Dead, Job: "old", Tenant: "acme"}
	if sequence, err := q.Append(ctx, &e, 3, "test", ""); err != nil || sequence != 4 {
		t.Errorf("appended as %d, %v", sequence, err)
	}
	chain, err := q.Chain(ctx, "acme", "old")
	if err != nil {
		t.Fatal(err)
	}
	var got []job.EventKind
	for _, link := range chain {
		got = append(got, link.EventKind)
	}
	if diff := cmp.Diff([]job.EventKind{job.Queued, job.Started, job.Failed, job.Dead}, got); diff != "" {
		t.Error(diff)
	}
}

// A message that is published directly to comfy.events.> is not stored, and followers ignore it.
func TestAnEventThatNobodyStoredIsNotHeard(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc, q := connect(t, url), openOn(t, url)
	heard := make(chan job.EventKind, 8)
	stop, err := q.FollowJob("acme", "one", func(e jetstream.Event) { heard <- e.EventKind })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	must(0, nc.Publish("comfy.events.jobs.acme.one.cancelled", []byte(`{}`)))
	must(0, nc.Flush())
	for n, kind := range []job.EventKind{job.Queued, job.Completed} {
		e := jetstream.Event{EventKind: kind, Job: "one", Tenant: "acme"}
		if _, err := q.Append(ctx, &e, uint64(n), "test", ""); err != nil {
			t.Fatal(err)
		}
	}
	refused := jetstream.Event{EventKind: job.Cancelled, Job: "one", Tenant: "acme"}
	if _, err := q.Append(ctx, &refused, 1, "test", ""); !errors.Is(err, queue.ErrOvertaken) {
		t.Errorf("an append after an older event: %v", err)
	}
	last := jetstream.Event{EventKind: job.Dead, Job: "one", Tenant: "acme"}
	if sequence, err := q.Append(ctx, &last, 2, "test", ""); err != nil || sequence != 3 {
		t.Fatalf("appended as %d, %v: something else was stored before", sequence, err)
	}
	for _, want := range []job.EventKind{job.Queued, job.Completed, job.Dead} {
		if got := <-heard; got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
}
