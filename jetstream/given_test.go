package jetstream_test

import (
	"iter"
	"slices"
	"testing"
	"time"

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
