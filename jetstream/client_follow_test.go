package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/embedded"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

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

func brief(events []jetstream.EventNote) string {
	var text []string
	for _, e := range events {
		text = append(text, fmt.Sprint(e.Sequence, strings.TrimPrefix(e.Subject, "comfy.events.jobs")))
	}
	return strings.Join(text, " ")
}

func TestAPageOfEventsHasWhatWasAskedForAndSaysWhereToGoOn(t *testing.T) {
	t.Parallel()
	q := openOn(t, startNATS(t))
	c := chains{t, q, map[string]uint64{}}
	c.add("acme", "one", job.Queued)                 // 1
	c.add("bolt", "one", job.Queued, job.Started)    // 2 3
	c.add("acme", "two", job.Queued, job.Started)    // 4 5
	c.add("acme", "one", job.Started, job.Completed) // 6 7
	c.add("bolt", "one", job.Failed, job.Retrying)   // 8 9
	for name, step := range map[string]struct {
		r    jetstream.EventsRequest
		want string
		next uint64
		end  bool
	}{
		"All":          {jetstream.EventsRequest{}, "1.acme.one.queued 4.acme.two.queued 5.acme.two.started 6.acme.one.started 7.acme.one.completed", 9, true},
		"Behind":       {jetstream.EventsRequest{After: 5}, "6.acme.one.started 7.acme.one.completed", 9, true},
		"SoMany":       {jetstream.EventsRequest{After: 1, Limit: 2}, "4.acme.two.queued 5.acme.two.started", 5, false},
		"JustSoMany":   {jetstream.EventsRequest{After: 5, Limit: 2}, "6.acme.one.started 7.acme.one.completed", 9, true},
		"OfAJob":       {jetstream.EventsRequest{Job: "two"}, "4.acme.two.queued 5.acme.two.started", 9, true},
		"OfAKind":      {jetstream.EventsRequest{Kinds: []job.EventKind{job.Started}}, "5.acme.two.started 6.acme.one.started", 9, true},
		"OfKinds":      {jetstream.EventsRequest{Kinds: []job.EventKind{job.Queued, job.Completed}, After: 1}, "4.acme.two.queued 7.acme.one.completed", 9, true},
		"OfJobAndKind": {jetstream.EventsRequest{Job: "one", Kinds: []job.EventKind{job.Completed}}, "7.acme.one.completed", 9, true},
		"NoMore":       {jetstream.EventsRequest{After: 7}, "", 9, true},
		"NotSoFar":     {jetstream.EventsRequest{After: 99}, "", 9, true},
		"NoSuchJob":    {jetstream.EventsRequest{Job: "three"}, "", 9, true},
	} {
		page, err := q.EventsPage(t.Context(), "acme", step.r)
		if got := brief(page.Events); got != step.want || page.Next != step.next || page.End != step.end || err != nil || page.Made.IsZero() {
			t.Errorf("%s: %s, next %d, end %v, %v; want %s, next %d, end %v", name, got, page.Next, page.End, err, step.want, step.next, step.end)
		}
	}
	for name, r := range map[string]jetstream.EventsRequest{
		"is no job": {Job: "a.b"}, "is no kind": {Kinds: []job.EventKind{"*"}}, "limit is negative": {Limit: -1}, "may be at most 10s": {Wait: job.Duration(time.Minute)},
	} {
		_, err := q.EventsPage(t.Context(), "acme", r)
		if bad, is := errors.AsType[*jetstream.BadRequest](err); !is || !strings.Contains(bad.Message, name) {
			t.Errorf("%+v is answered %v", r, err)
		}
	}
}

// An event may be nearly as large as a message, have a body that is no JSON, and headers that its publisher has made up to look
// like NATS' own.
func TestAPageOfEventsIsNoLargerThanHalfAMessageAndHidesNothing(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	server := must(embedded.Start(embedded.Config{Port: -1, StoreDir: t.TempDir(), MaxPayload: most}))
	t.Cleanup(func() { must(0, server.Close()) })
	nc := connect(t, server.URL())
	q := openOn(t, server.URL())
	publish := func(id string, header nats.Header, body string) {
		must(must(natsjs.New(nc)).PublishMsg(t.Context(), &nats.Msg{Subject: "comfy.append.jobs.acme." + id + ".queued", Header: header, Data: []byte(body)}))
	}
	publish("forged", nats.Header{"Status": {"204"}, "Nats-Sequence": {"7777"}, "Nats-Num-Pending": {"0"}, "Nats-Last-Sequence": {"99"}, "Nats-Subject": {"comfy.events.jobs.bolt.x.dead"}}, `{}`)
	publish("junk", nil, `{"job":`)
	for n := range 7 {
		publish(fmt.Sprint("large-", n), nil, `{"message":"`+strings.Repeat("x", 200_000)+`"}`)
	}
	publish("signs", nil, `{"message":"`+strings.Repeat("<", most/5)+`"}`) // six letters each in an answer
	publish("full", nil, `{"message":"`+strings.Repeat("x", most-200)+`"}`)
	serveEvents(t, q, nc)
	acme := jetstream.NewClient(nc, "acme")
	var pages []string
	for after, end := uint64(0), false; !end; {
		msg := must(nc.Request("comfy.tenants.acme.events", fmt.Appendf(nil, `{"after":%d}`, after), time.Minute))
		page := must(acme.Events(t.Context(), jetstream.EventsRequest{After: after}))
		if len(msg.Data) > most/2 {
			t.Errorf("the page after %d has %d bytes", after, len(msg.Data))
		}
		var text []string
		for _, e := range page.Events {
			text = append(text, fmt.Sprintf("%d:%s:%d", e.Sequence, strings.Split(e.Subject, ".")[4], e.LeftOut))
		}
		pages = append(pages, strings.Join(text, " "))
		after, end = page.Next, page.End
	}
	want := []string{
		"1:forged:0 2:junk:7 3:large-0:0 4:large-1:0", "5:large-2:0 6:large-3:0", "7:large-4:0 8:large-5:0",
		fmt.Sprintf("9:large-6:0 10:signs:%d 11:full:%d", most/5+14, most-200+14),
	}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Error(diff)
	}
}

func TestAPageOfEventsWaitsForOne(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	c := chains{t, q, map[string]uint64{}}
	c.add("acme", "one", job.Queued)
	serveEvents(t, q, nc)
	answers := must(nc.SubscribeSync(nc.NewInbox()))
	must(0, nc.PublishRequest("comfy.tenants.acme.events", answers.Subject, []byte(`{"after":1,"kinds":["dead","completed"],"wait":"10s"}`)))
	must(nc.Request("comfy.tenants.acme.events", nil, time.Minute)) // the one before has been taken up
	c.add("bolt", "one", job.Queued, job.Completed)                 // 2 3
	c.add("acme", "one", job.Started, job.Completed)                // 4 5
	msg := must(answers.NextMsg(time.Minute))
	if !strings.Contains(string(msg.Data), `"subject":"comfy.events.jobs.acme.one.completed"`) || !strings.Contains(string(msg.Data), `"next":5`) {
		t.Errorf("the answer is %s", msg.Data)
	}
	page, err := q.EventsPage(t.Context(), "acme", jetstream.EventsRequest{After: 5, Wait: job.Duration(time.Millisecond)})
	if len(page.Events) > 0 || page.Next != 5 || !page.End || err != nil {
		t.Errorf("without any: %+v, %v", page, err)
	}
}

// Follow gives what was stored before, what comes while NATS and dispatchers stay and go, and all of a stream that was made again.
func TestFollowGivesEveryEventOnceOverOutages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := must(embedded.Start(embedded.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	url := server.URL()
	patient := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	q := openOn(t, url, patient...)
	desk := connect(t, url, patient...)
	serving := must(queue.Open(t.Context(), desk, queue.Config{}))
	t.Cleanup(serving.Close)
	stopServing := serveEvents(t, serving, desk)
	c := chains{t, q, map[string]uint64{}}
	c.add("acme", "one", job.Queued, job.Started)
	c.add("bolt", "one", job.Queued)

	ctx, cancel := context.WithCancel(t.Context())
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url, patient...), "acme").Follow(ctx, 1))
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
	server = must(embedded.Start(embedded.Config{Port: port(t, url), StoreDir: dir}))
	reconnected(t, q)
	c.add("acme", "two", job.Started)
	expect("6.two.started")

	echo := nats.NewMsg("comfy.events.jobs.acme.two.started") // told again, as by a NATS that is of two minds
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
	server = must(embedded.Start(embedded.Config{Port: port(t, url), StoreDir: t.TempDir()})) // without what was stored
	c = chains{t, openOn(t, url), map[string]uint64{}}
	c.add("acme", "three", job.Queued, job.Started)
	expect("1.three.queued", "2.three.started")

	cancel()
	if n, err, more := next(); !errors.Is(err, context.Canceled) || !more {
		t.Errorf("the last item is %d %s, %v, %v", n.Sequence, n.Subject, err, more)
	}
}

func TestFollowSaysThatNobodyIsThere(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	for _, err := range jetstream.NewClient(nc, "acme").Follow(t.Context(), 0) {
		if err == nil || !strings.Contains(err.Error(), "no dispatcher is running") {
			t.Errorf("it is told %v", err)
		}
	}
	for _, err := range jetstream.NewClient(nc, "a.b").FollowMany(t.Context(), []jetstream.ID{"one"}) {
		if _, bad := errors.AsType[*jetstream.BadRequest](err); !bad {
			t.Errorf("a name that is no tenant's is told %v", err)
		}
	}
}

// Some have ended long ago, one is under way, one comes later, and of another tenant's jobs of the same names nothing is told.
// A dispatcher that once cannot read a job's events is asked again.
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
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}
