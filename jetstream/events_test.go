package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Follow gives what was stored before, what comes while NATS and dispatchers stay and go, and all of a stream that was made again.
func TestFollowGivesEveryEventOnceOverOutages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	url := server.URL()
	options := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	q := openOn(t, url, options...)
	desk := connect(t, url, options...)
	serving := must(queue.Open(t.Context(), desk, queue.Config{}))
	t.Cleanup(serving.Close)
	stopServing := serveEvents(t, serving, desk)
	c := chains{t, q, map[string]uint64{}}
	c.add("acme", "one", job.Queued, job.Started)
	c.add("bolt", "one", job.Queued)

	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url, options...), "acme").Follow(ctx, 1))
	defer stop()
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			n, err, more := next()
			if got := fmt.Sprint(n.Sequence, strings.TrimPrefix(n.Subject, "comfy.events.jobs.acme")); got != w || err != nil || !more || n.Time.IsZero() || len(n.Body) == 0 {
				t.Fatalf("%s %+v, %v; want %s", got, n, err, w)
			}
		}
	}
	expect("2.one.started")
	c.add("acme", "one", job.Completed)
	c.add("acme", "two", job.Queued)
	expect("4.one.completed", "5.two.queued")

	must(0, server.Close())
	server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: dir}))
	reconnected(t, q)
	c.add("acme", "two", job.Started)
	expect("6.two.started")

	echo := nats.NewMsg("comfy.events.jobs.acme.two.started") // the same event again
	echo.Header.Set("Nats-Sequence", "6")
	must(0, desk.PublishMsg(echo))
	must(0, desk.Flush())

	stopServing()
	c.add("acme", "two", job.Failed)
	c.add("bolt", "one", job.Started)
	serveEvents(t, serving, desk)
	c.add("acme", "two", job.Retrying)
	expect("7.two.failed", "9.two.retrying")

	must(0, server.Close())
	server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: t.TempDir()})) // without what was stored
	c = chains{t, openOn(t, url), map[string]uint64{}}
	c.add("acme", "three", job.Queued, job.Started)
	expect("1.three.queued", "2.three.started")

	cancel()
	if n, err, more := next(); !errors.Is(err, context.Canceled) || !more {
		t.Errorf("the last item is %d %s, %v, %v", n.Sequence, n.Subject, err, more)
	}
}

func TestFollowWithoutADispatcherIsAnError(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	acme, none := jetstream.NewClient(nc, "acme"), jetstream.NewClient(nc, "a.b")
	for name, items := range map[string]iter.Seq[error]{
		"All": errorsOf(acme.Follow(t.Context(), 0)), "Many": errorsOf(acme.FollowMany(t.Context(), []jetstream.ID{"one"})),
	} {
		if errs := slices.Collect(items); len(errs) != 1 || !errors.Is(errs[0], nats.ErrNoResponders) || !strings.Contains(errs[0].Error(), "no dispatcher is running") {
			t.Errorf("%s: it is told %v", name, errs)
		}
	}
	errs := slices.Collect(errorsOf(none.FollowMany(t.Context(), []jetstream.ID{"one"})))
	if len(errs) != 1 || jetstream.Code(errs[0]) != "400" {
		t.Errorf("a name that is no tenant's is told %v", errs)
	}
}

// Some jobs have ended long ago, one is under way, one comes later. Events of another tenant's jobs with the same ids are not
// given. A dispatcher that once cannot read a job's events is asked again.
func TestAClientFollowsManyJobsToTheirEnds(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	c := chains{t, q, map[string]uint64{}}
	var ids []jetstream.ID
	for n := range 20 {
		ids = append(ids, jetstream.ID(fmt.Sprint("old-", n)))
		c.add("acme", ids[n], job.Queued, job.Started, job.Completed)
	}
	ids = append(ids, "open", "later")
	c.add("acme", "open", job.Queued)
	c.add("acme", "other", job.Queued)
	c.add("bolt", "open", job.Queued, job.Cancelled)
	var failed atomic.Bool
	events := func(ctx context.Context, tenant job.Tenant, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		if r.Job != "" && !failed.Swap(true) {
			return jetstream.EventsAnswer{}, errors.New("NATS is away")
		}
		return q.EventsPage(ctx, tenant, r)
	}
	serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{"events": queue.TenantJSON(events)}})
	next, stop := iter.Pull2(jetstream.NewClient(nc, "acme").FollowMany(t.Context(), ids))
	defer stop()
	told := map[job.ID][]job.EventKind{}
	tell := func(n int) {
		t.Helper()
		for range n {
			e, err, more := next()
			if err != nil || !more || e.Tenant != "acme" {
				t.Fatalf("%+v, %v", e, err)
			}
			told[e.Job] = append(told[e.Job], e.EventKind)
		}
	}
	tell(20*3 + 1)
	c.add("acme", "later", job.Queued, job.Dead)
	c.add("acme", "other", job.Started)
	tell(2)
	c.add("acme", "open", job.Started, job.Completed)
	tell(2)
	if e, err, more := next(); more {
		t.Errorf("after all ends comes %+v, %v", e, err)
	}
	want := map[job.ID][]job.EventKind{"later": {job.Queued, job.Dead}}
	for _, id := range ids[:21] {
		want[id] = []job.EventKind{job.Queued, job.Started, job.Completed}
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestAClientFollowsProgress(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	heard, over := make(chan string, 100), make(chan error)
	go func() {
		over <- jetstream.NewClient(nc, "acme").FollowProgress(ctx, func(id jetstream.ID, p jetstream.Progress) { heard <- fmt.Sprint(id, p.Value) })
	}()
	for first := ""; first == ""; { // until it listens
		must(0, q.PublishProgress("bolt", "hers", jetstream.Progress{Value: 1}))
		must(0, q.PublishProgress("acme", "mine", jetstream.Progress{Value: 2}))
		must(q.Depth(t.Context()))
		select {
		case first = <-heard:
			if first != "mine2" {
				t.Errorf("heard %s", first)
			}
		default:
		}
	}
	must(0, nc.Publish("comfy.live.jobs.acme.broken.progress", []byte("no JSON")))
	must(0, nc.Flush())
	must(0, q.PublishProgress("acme", "last", jetstream.Progress{Value: 3}))
	for next := ""; next != "last3"; {
		if next = <-heard; next != "mine2" && next != "last3" {
			t.Errorf("then it hears %s", next)
		}
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}
