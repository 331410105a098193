package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAHostIsAnnouncedOnceForEachState(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	if states := must(q.HostStates(ctx)); len(states) != 0 {
		t.Errorf("before: %v", states)
	}
	for _, kind := range []queue.HostEventKind{
		queue.HostOnline, queue.HostOnline, queue.HostRecovered, queue.HostUnhealthy, queue.HostUnhealthy, queue.HostRecovered, queue.HostOnline,
	} {
		must(0, q.AnnounceHost(ctx, "a", kind, "why"))
	}
	must(0, q.AnnounceHost(ctx, "b", queue.HostOffline, ""))
	want := map[string]queue.HostEventKind{"a": queue.HostRecovered, "b": queue.HostOffline}
	if diff := cmp.Diff(want, must(q.HostStates(ctx))); diff != "" {
		t.Error(diff)
	}
	stream := must(must(natsjs.New(nc)).Stream(ctx, names.EventsStream))
	if n := stream.CachedInfo().State.Msgs; n != 4 { // online, unhealthy, recovered of a; offline of b
		t.Errorf("%d events are stored", n)
	}
	last := must(stream.GetLastMsgForSubject(ctx, "comfy.events.hosts.a.recovered"))
	if last.Header.Get("ce-type") != "comfy.host.recovered" || last.Header.Get("ce-source") != "agent/a" {
		t.Errorf("the header of an event is %v", last.Header)
	}
}

func TestABroadcastThatIsNotValidIsIgnored(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc, q := connect(t, url), openOn(t, url)
	following, stop := context.WithCancel(ctx)
	told, ended := make(chan queue.HostState, 8), make(chan error, 1)
	go func() { ended <- q.FollowHosts(following, func(s queue.HostState) { told <- s }) }()
	t.Cleanup(func() { stop(); <-ended })
	valid := queue.HostState{Host: "b", Instance: "i", State: queue.Online, Slots: 2, Labels: []string{"gpu=4090"}, Time: time.Now()}
	for len(told) == 0 { // until the subscription is made
		must(0, q.Broadcast(&valid))
		must(0, nc.Flush())
	}
	for len(told) > 0 {
		if s := <-told; !s.Brief || s.Slots != 2 || s.Labels != nil {
			t.Errorf("told %+v, want the state without what seldom changes", s)
		}
	}
	for _, body := range []string{`junk`, `{"host":"a","state":"online","slots":-1}`, `{"host":"c","state":"online"}`} {
		must(0, nc.Publish("comfy.hosts.a.state", []byte(body)))
	}
	must(0, nc.Publish("comfy.hosts.a.state", []byte(`{"host":"a","state":"online","slots":1}`)))
	for s := range told {
		if s.Host == "b" { // one of those before
			continue
		}
		if s.Host != "a" || s.Slots != 1 {
			t.Errorf("told %+v", s)
		}
		return
	}
}

// An offer waits at most 2 s for a valid answer.
func TestAnOfferThatIsNotAnsweredEnds(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc, q := connect(t, url), openOn(t, url)
	if _, err := q.Offer(ctx, "gpu", plainOffer()); !errors.Is(err, queue.ErrNoAgent) {
		t.Errorf("without an agent: %v", err)
	}
	must(nc.Subscribe("comfy.hosts.gpu.offer", func(*nats.Msg) {}))
	must(nc.Subscribe("comfy.hosts.liar.offer", func(m *nats.Msg) {
		must(0, m.Respond([]byte(`{"answer":"busy","state":{"host":"gpu","state":"online"}}`)))
	}))
	must(0, nc.Flush())
	if _, err := q.Offer(ctx, "liar", plainOffer()); !errors.Is(err, queue.ErrNoAnswer) {
		t.Errorf("an answer with the state of another host: %v", err)
	}
	if _, err := q.Offer(ctx, "gpu", plainOffer()); !errors.Is(err, queue.ErrNoAnswer) {
		t.Errorf("without an answer: %v", err)
	}
}

func TestADeliverySaysHowManyMoreJobsWait(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	lane := jetstream.Lane{Tenant: "acme", Priority: 3}
	for n := range 3 {
		must(q.Submit(ctx, lane, jetstream.Spec{ID: job.ID(fmt.Sprint("j", n)), Workflow: []byte(smallWorkflow)}))
	}
	came := make(chan queue.Delivery, 4)
	puller := must(q.Puller(3, func(d queue.Delivery) { came <- d }))
	t.Cleanup(puller.Close)
	for pulled := 0; pulled == 0; {
		pulled = must(puller.Pull(ctx, 1, time.Second))
	}
	d := <-came
	if d.Pending != 2 || d.JobIDHeader != "j0" || d.Sequence != 1 || d.Received.IsZero() || !d.Lease.Of(1) {
		t.Errorf("the delivery is %+v", d)
	}
	if depth := must(q.Depth(ctx)); !cmp.Equal(depth, map[job.Lane]uint64{lane: 3}) {
		t.Errorf("the lanes have %v", depth)
	}
	third := job.Priority(3)
	if m, found, err := q.NextStored(ctx, "acme", &third, 1); !found || err != nil || m.Sequence != 2 {
		t.Errorf("behind the first is %+v, found %t, %v", m, found, err)
	}
	if _, found, err := q.NextStored(ctx, "acme", nil, 3); found || err != nil {
		t.Errorf("behind the last: found %t, %v", found, err)
	}
	for range 2 { // what is no longer there is no error
		must(0, q.Erase(ctx, 2))
	}
	if _, err := q.Stored(ctx, 2); !errors.Is(err, queue.ErrGone) {
		t.Errorf("an erased job: %v", err)
	}
}

func TestWhoMayMakeNothingChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc := connect(t, url)
	if _, err := queue.Open(ctx, nc, queue.Config{ReadOnly: true}); err == nil {
		t.Error("a reader opens streams that are not there")
	}
	if _, err := queue.Open(ctx, nc, queue.Config{Domain: "hub", APIPrefix: "$JS.x"}); err == nil {
		t.Error("both a domain and an API prefix are taken")
	}
	openWith(t, url, queue.Config{})
	openWith(t, url, queue.Config{ReadOnly: true, DeadAge: time.Hour, EventsAge: time.Hour})
	js := must(natsjs.New(nc))
	for stream, want := range map[string]time.Duration{names.DeadStream: 720 * time.Hour, names.EventsStream: 72 * time.Hour} {
		if age := must(js.Stream(ctx, stream)).CachedInfo().Config.MaxAge; age != want {
			t.Errorf("%s keeps messages for %v, want %v", stream, age, want)
		}
	}
}
