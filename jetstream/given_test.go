package jetstream_test

import (
	"encoding/json"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// The copy of the stream that answers may be behind what has come live already.
func TestAnEventThatCameLiveIsKnownUntilAPageIsBeyondIt(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url, nats.ReconnectWait(time.Millisecond))
	var d *reader
	d = read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 1, "1 a.queued"), nil
		case 2:
			d.live("a.started", 5)
			return page(2026, 2), nil
		}
		d.live("a.started", 5)
		d.live("b.queued", 6)
		return page(2026, 3), nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(nc, "acme").Follow(t.Context(), 0))
	defer stop()
	wantItems(t, told(t, next, 2), "1.a.queued", "5.a.started")
	must(0, nc.ForceReconnect())
	wantItems(t, told(t, next, 1), "6.b.queued")
}

// Otherwise what is known would grow for as long as somebody follows.
func TestEventsThatAPageIsBeyondAreForgotten(t *testing.T) {
	t.Parallel()
	if left := jetstream.StillKnown([]uint64{1, 4, 5, 6, 9}, 5); !slices.Equal(left, []uint64{6, 9}) {
		t.Errorf("still known are %d", left)
	}
}

// A page that cannot be read says nothing about when the stream was created.
func TestAPageThatCannotBeReadIsAskedForAgain(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	d := read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		if n == 2 {
			return jetstream.EventsAnswer{}, &jetstream.Failed{Message: "NATS is away"}
		}
		if r.After == 0 {
			return page(2026, 1, "1 a.queued"), nil
		}
		return page(2026, 2, "2 a.started"), nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 0))
	defer stop()
	wantItems(t, told(t, next, 2), "1.a.queued", "2.a.started")
	wantItems(t, d.asked, " behind 0", " behind 1", " behind 1")
}

// Once a dispatcher has answered, FollowMany waits for one, also between its stored events and those that follow.
func TestFollowingManyGoesOnWhenADispatcherFailsAfterItsFirstAnswers(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1, 2:
			return page(2026, 1, "1 a.queued"), nil
		case 3:
			return jetstream.EventsAnswer{}, &jetstream.Failed{Message: "NATS is away"}
		}
		return page(2026, 2, "2 a.completed"), nil
	})
	items, err := manyItems(t, t.Context(), url, 9, "a")
	if err != nil {
		t.Error(err)
	}
	wantItems(t, items, "a queued", "a completed")
}

func TestANoteHasAllThatIsStoredOfItsEvent(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	var d *reader
	d = read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		if n == 2 {
			msg := nats.NewMsg("comfy.events.jobs.acme.b.queued")
			msg.Data = body("b.queued")
			msg.Header = nats.Header{"Nats-Sequence": {"8"}, "Nats-Time-Stamp": {made(2028).Format(time.RFC3339Nano)}}
			must(0, d.nc.PublishMsg(msg))
			return page(2026, 7), nil
		}
		a := page(2026, 7, "7 a.started")
		a.Events[0].Time = made(2027)
		return a, nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 0))
	defer stop()
	for _, want := range []jetstream.Note{
		{Subject: "comfy.events.jobs.acme.a.started", Body: body("a.started"), Sequence: 7, Time: made(2027)},
		{Subject: "comfy.events.jobs.acme.b.queued", Body: body("b.queued"), Sequence: 8, Time: made(2028)},
	} {
		n, err, _ := next()
		if diff := cmp.Diff(want, n); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	}
}

// Otherwise a connection that is kept would receive the events for as long as it lives.
func TestWhatIsFollowedNoLongerIsNotReceived(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	var d *reader
	d = read(t, url, func(n int, _ jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		if n == 2 {
			d.live("a.queued", 1)
		}
		return page(2026, 0), nil
	})
	for _, err := range jetstream.NewClient(nc, "acme").Follow(t.Context(), 0) {
		if n := nc.NumSubscriptions(); err != nil || n != 2 {
			t.Errorf("%d subscriptions while it follows, %v", n, err)
		}
		break
	}
	if n := nc.NumSubscriptions(); n != 1 { // that of answers
		t.Errorf("%d subscriptions afterwards", n)
	}
}

func TestTheSequenceBeforeTheFirstEventOfAStreamIsZero(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	answerAll(t, url, "comfy.tenants.acme.jobs", func(msg *nats.Msg) {
		must(0, msg.Respond(must(json.Marshal(jetstream.JobsAnswer{Jobs: []jetstream.JobRow{{Last: jetstream.Mark{Sequence: 1, Time: made(2026)}}}}))))
	})
	read(t, url, func(int, jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		a := page(2026, 1, "1 a.queued")
		a.Events[0].Time = made(2026)
		return a, nil
	})
	if n, err := jetstream.NewClient(connect(t, url), "acme").SequenceAt(t.Context(), made(2026)); n != 0 || err != nil {
		t.Errorf("it is %d, %v", n, err)
	}
}
