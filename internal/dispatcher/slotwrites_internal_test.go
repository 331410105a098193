package dispatcher

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// slotWire is a NATS with the slots of one tenant, and the last event of each of its jobs.
type slotWire struct {
	stillWire
	slots  []queue.Slot
	last   map[job.ID]job.EventKind
	writes int
	away   map[string]error // by what is asked for
}

func (w *slotWire) Now() time.Time { return noonUTC }

func (w *slotWire) Slots(context.Context, job.Tenant) ([]queue.Slot, uint64, error) {
	return append([]queue.Slot(nil), w.slots...), uint64(w.writes + 1), w.away["slots"]
}

func (w *slotWire) PutSlots(_ context.Context, _ job.Tenant, slots []queue.Slot, revision uint64) (bool, error) {
	if err := w.away["put"]; err != nil {
		return false, err
	}
	if revision != uint64(w.writes+1) {
		return false, nil
	}
	w.slots = slots
	w.writes++
	return true, nil
}

func (w *slotWire) Last(_ context.Context, _ job.Tenant, id job.ID) (queue.Link, bool, error) {
	kind, found := w.last[id]
	return queue.Link{Event: job.Event{EventKind: kind}}, found, w.away["last"]
}

func newSlotWrites(t *testing.T) (*slotWire, *Dispatcher) {
	t.Helper()
	w := &slotWire{last: map[job.ID]job.EventKind{}, away: map[string]error{}}
	d, err := newOn(w, Config{Name: "me"})
	if err != nil {
		t.Fatal(err)
	}
	return w, d
}

func (w *slotWire) names() (ids []job.ID) {
	for _, s := range w.slots {
		ids = append(ids, s.Job)
	}
	return ids
}

func slotSince(id job.ID, ago time.Duration) queue.Slot {
	return queue.Slot{Job: id, Host: "b", By: "other", Time: noonUTC.Add(-ago)}
}

func TestAJobTakesASlotOfItsTenantWhenOneIsFree(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour // a presence
	for name, c := range map[string]struct {
		slots []queue.Slot
		last  map[job.ID]job.EventKind
		most  int
		took  bool
		want  []job.ID
	}{
		"no cap":                                 {nil, nil, 0, true, nil},
		"the first":                              {nil, nil, 1, true, []job.ID{"acme-1"}},
		"the second":                             {[]queue.Slot{slotSince("x", 0)}, nil, 2, true, []job.ID{"x", "acme-1"}},
		"its own, of an offer without an answer": {[]queue.Slot{slotSince("acme-1", 0), slotSince("x", 0)}, nil, 2, true, []job.ID{"x", "acme-1"}},
		"one too many":                           {[]queue.Slot{slotSince("x", 2*ttl)}, map[job.ID]job.EventKind{"x": job.Started}, 1, false, []job.ID{"x"}},
		"one of a job that is being offered":     {[]queue.Slot{slotSince("x", ttl)}, nil, 1, false, []job.ID{"x"}},
		"one that was offered long ago":          {[]queue.Slot{slotSince("x", ttl+1)}, nil, 1, true, []job.ID{"acme-1"}},
		"one whose job waits again for long":     {[]queue.Slot{slotSince("x", ttl+1)}, map[job.ID]job.EventKind{"x": job.Waiting}, 1, true, []job.ID{"acme-1"}},
		"one whose attempt has failed":           {[]queue.Slot{slotSince("x", 0), slotSince("y", 0)}, map[job.ID]job.EventKind{"x": job.Failed, "y": job.Started}, 2, true, []job.ID{"y", "acme-1"}},
		"one whose job has ended":                {[]queue.Slot{slotSince("x", 0)}, map[job.ID]job.EventKind{"x": job.Completed}, 1, true, []job.ID{"acme-1"}},
		"two, of which the cap now allows one":   {[]queue.Slot{slotSince("x", 0), slotSince("y", 0)}, map[job.ID]job.EventKind{"x": job.Dead, "y": job.Started}, 1, false, []job.ID{"x", "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, d := newSlotWrites(t)
			w.slots, w.last = c.slots, c.last
			o := ownedJob(t, "acme", 1, 1)
			took, err := d.takeSlot(t.Context(), o, &spot{host: "a", most: c.most})
			same(t, "took, and stands", []any{took, err == nil, w.names()}, []any{c.took, true, c.want})
			if n := len(w.slots); took && n > 0 {
				same(t, "its slot", w.slots[n-1], queue.Slot{Job: "acme-1", Host: "a", By: "me", Time: noonUTC})
				same(t, "it knows its slot", o.slot, noonUTC)
			} else {
				same(t, "it knows of none", []any{o.slot.IsZero(), w.writes}, []any{true, 0})
			}
		})
	}
}

func TestASlotIsTakenOnlyByAWriteThatIsConfirmed(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for _, what := range []string{"slots", "put", "last"} {
		w, d := newSlotWrites(t)
		w.slots, w.away[what] = []queue.Slot{slotSince("x", 0)}, away
		o := ownedJob(t, "acme", 1, 1)
		most := 2
		if what == "last" {
			most = 1
		}
		took, err := d.takeSlot(t.Context(), o, &spot{host: "a", most: most})
		same(t, what, []any{took, errors.Is(err, away), o.slot.IsZero(), w.writes}, []any{false, true, true, 0})
	}
}

// A slot that was taken anew by the same job is not the one that is given back.
func TestASlotIsGivenBackOnce(t *testing.T) {
	t.Parallel()
	w, d := newSlotWrites(t)
	o := ownedJob(t, "acme", 1, 1)
	d.returnOwnSlot(t.Context(), o)
	same(t, "of a job that has none", w.writes, 0)
	w.slots = []queue.Slot{slotSince("acme-1", time.Second), slotSince("x", 0)}
	o.slot = noonUTC
	d.returnOwnSlot(t.Context(), o)
	same(t, "taken by another at another time", []any{w.writes, w.names(), o.slot.IsZero()}, []any{0, []job.ID{"acme-1", "x"}, true})
	o.slot = noonUTC.Add(-time.Second)
	d.returnOwnSlot(t.Context(), o)
	same(t, "its own", []any{w.writes, w.names(), o.slot.IsZero()}, []any{1, []job.ID{"x"}, true})
	w.away["slots"] = errors.New("away")
	o.slot = noonUTC
	d.returnOwnSlot(t.Context(), o)
	same(t, "when NATS is away", o.slot.IsZero(), true)
}

func TestASlotIsFreedWhenItsJobDoesNotRun(t *testing.T) {
	t.Parallel()
	w, d := newSlotWrites(t)
	w.slots = []queue.Slot{slotSince("x", 0), slotSince("y", 0)}
	w.last["x"], w.last["y"] = job.Started, job.Completed
	for _, s := range append([]queue.Slot(nil), w.slots...) {
		if err := d.freeTenantSlot(t.Context(), "acme", s, false); err != nil {
			t.Error(err)
		}
	}
	same(t, "left", w.names(), []job.ID{"x"})
	w.away["last"] = errors.New("away")
	same(t, "when NATS is away", errors.Is(d.freeTenantSlot(t.Context(), "acme", w.slots[0], true), w.away["last"]), true)
	w.away = map[string]error{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	same(t, "when the dispatcher ends", errors.Is(d.freeTenantSlot(ctx, "acme", w.slots[0], true), context.Canceled), true)
	same(t, "left", w.names(), []job.ID{"x"})
}

// Its watch may not report the change in a large fleet.
func TestInALargeFleetAChangeOfSlotsIsToldToTheLoop(t *testing.T) {
	t.Parallel()
	for _, large := range []bool{false, true} {
		_, d := newSlotWrites(t)
		d.loop.sources.wants.Store(large)
		o := ownedJob(t, "acme", 1, 1)
		if _, err := d.takeSlot(t.Context(), o, &spot{host: "a", most: 1}); err != nil {
			t.Error(err)
		}
		same(t, "told", len(d.loop.inbox) == 1, large)
		if _, err := d.takeSlot(t.Context(), ownedJob(t, "acme", 2, 1), &spot{host: "a", most: 1}); err != nil {
			t.Error(err)
		}
		same(t, "told of what has changed nothing", len(d.loop.inbox) == 1, large)
	}
}
