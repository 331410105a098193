package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
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
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir(), MaxPayload: most}))
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
