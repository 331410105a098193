package dispatcher

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestHostsThatHaveGoneAreRememberedForADay(t *testing.T) {
	t.Parallel()
	h := newJobHistory(nil, 10, slog.New(slog.DiscardHandler))
	begin := time.Unix(1_800_000_000, 0)
	for i, subject := range []string{
		"gpu-1.online", "gpu-1.offline", "gpu-2.offline", "gpu-2.online", "gpu-3.offline", "gpu-3.unhealthy", "gpu 4.offline", "gpu-5.offline",
	} {
		h.take(jetstream.Note{Subject: "comfy.events.hosts." + subject, Time: begin.Add(time.Duration(i) * time.Hour)})
	}
	want := map[string]time.Time{"gpu-1": begin.Add(time.Hour), "gpu-5": begin.Add(7 * time.Hour)}
	if diff := cmp.Diff(want, h.offlineSince(begin.Add(8*time.Hour))); diff != "" {
		t.Error(diff)
	}
	delete(want, "gpu-1")
	if diff := cmp.Diff(want, h.offlineSince(begin.Add(25*time.Hour))); diff != "" {
		t.Errorf("a day later: %s", diff)
	}
}

// hostEvents has the events of hosts that have not been read yet.
type hostEvents struct {
	eventsWire
	subjects []string
	tell     func(jetstream.Note)
	at       time.Time
}

func (e *hostEvents) EventsState(context.Context) (queue.EventsState, error) {
	return queue.EventsState{First: jetstream.Mark{Sequence: 1, Time: e.at}, Last: uint64(len(e.subjects))}, nil
}

func (e *hostEvents) ReadEvents(_ uint64, tell func(jetstream.Note)) (eventReader, error) {
	e.tell = tell
	return e, nil
}

func (e *hostEvents) Read(context.Context, uint64) (bool, error) {
	for i, subject := range e.subjects {
		e.tell(jetstream.Note{Subject: "comfy.events.hosts." + subject, Sequence: uint64(i + 1), Time: e.at})
	}
	return true, nil
}

func (e *hostEvents) Last() uint64 { return uint64(len(e.subjects)) }

func (e *hostEvents) Close() {}

func TestTheOverviewCountsHostsThatHaveGoneSinceEventsWereReadLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := time.Unix(1_800_000_000, 0)
		h := newJobHistory(&hostEvents{subjects: []string{"gpu-1.offline", "gpu-2.offline", "gpu-2.online"}, at: at}, 10, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var reading sync.WaitGroup
		reading.Go(func() { _ = h.loop(ctx) })
		answer := queue.OverviewAnswer{Time: at.Add(time.Hour), Hosts: map[string]int{}}
		(&Dispatcher{history: h}).countEvents(t.Context(), &answer, &queue.OverviewRequest{})
		cancel()
		reading.Wait()
		if answer.Hosts["offline"] != 1 {
			t.Errorf("hosts: %v", answer.Hosts)
		}
	})
}
