package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// What the server stamps on a message that is stored between two looks at Now lies between them, whatever this
// machine's clock says.
func TestNowIsWhatTheServerStamps(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ahead := func() time.Time { return time.Now().Add(time.Hour) }
	q := open(t, nc, queue.Config{Clock: ahead})
	within, measured := q.ClockError()
	if !measured {
		t.Fatal("nothing was measured")
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	before := q.Now()
	r, err := q.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: 5}, jetstream.Spec{ID: "one", Workflow: []byte(smallWorkflow)})
	if err != nil {
		t.Fatal(err)
	}
	after := q.Now()
	stream, err := js.Stream(ctx, names.JobsStream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(ctx, r.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	if stored.Time.Before(before.Add(-within)) || stored.Time.After(after.Add(within)) {
		t.Errorf("stored at %v, Now was %v before and %v after, right within %v", stored.Time, before, after, within)
	}
	if off := q.ClockOff(); (off - time.Hour).Abs() > within+time.Second {
		t.Errorf("a clock that is an hour ahead is off by %v", off)
	}
}

func TestTheClockIsMeasuredAnew(t *testing.T) {
	t.Parallel()
	// The machine's clock is 10 s behind the server's, and then something happens.
	for name, tc := range map[string]struct {
		happens func(w *world)
		after   time.Duration // until it is put right
		wantOff time.Duration
	}{
		"WhenItWasSet":             {func(w *world) { w.wall.Add(int64(20 * time.Second)) }, 0, 10 * time.Second},
		"AfterTheMachineSlept":     {func(w *world) { w.wall.Add(int64(time.Hour)); w.server.Add(int64(time.Hour)) }, 5 * time.Second, -10 * time.Second},
		"AfterAReconnect":          {func(w *world) { w.server.Add(int64(time.Second)); w.reconnect() }, 0, -11 * time.Second},
		"WithinAMinuteWhenItDrift": {func(w *world) { w.server.Add(int64(-time.Second)) }, time.Minute, -9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w world
				w.reconnect()
				w.server.Store(int64(10 * time.Second))
				q, stop := queue.FakeClock(t.Context(), w.ask, w.now, nil, w.anew)
				defer stop()
				if off := q.ClockOff(); off != -10*time.Second {
					t.Fatalf("off by %v", off)
				}
				tc.happens(&w)
				<-time.After(tc.after)
				synctest.Wait()
				if off := q.ClockOff(); off != tc.wantOff {
					t.Errorf("off by %v, want %v", off, tc.wantOff)
				}
			})
		})
	}
}

// world is a machine and a server whose clocks go by the bubble's.
type world struct {
	wall, server atomic.Int64 // ahead of the bubble's
	reconnects   atomic.Pointer[chan struct{}]
}

func (w *world) reconnect() {
	next := make(chan struct{})
	if before := w.reconnects.Swap(&next); before != nil {
		close(*before)
	}
}

func (w *world) anew() <-chan struct{} { return *w.reconnects.Load() }

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.wall.Load())) }

func (w *world) ask(context.Context) (time.Time, error) {
	return time.Now().Add(time.Duration(w.server.Load())), nil
}

func never() <-chan struct{} { return nil }

// Round trips of 100, 20, 100 … ms, of which the server tells its time at the end: the shortest one counts, and what a later
// measurement does not prove wrong stays.
func TestTheShortestRoundTripCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		ask := func(context.Context) (time.Time, error) {
			trip := 100 * time.Millisecond
			if n++; n == 2 {
				trip = 20 * time.Millisecond
			}
			<-time.After(trip)
			return time.Now(), nil
		}
		q, stop := queue.FakeClock(t.Context(), ask, time.Now, nil, never)
		defer stop()
		if within, measured := q.ClockError(); within != 10*time.Millisecond || !measured {
			t.Errorf("right within %v, %v", within, measured)
		}
		if off := q.ClockOff(); off != -10*time.Millisecond {
			t.Errorf("off by %v", off)
		}
		<-time.After(2 * time.Minute)
		if off := q.ClockOff(); off != -10*time.Millisecond {
			t.Errorf("off by %v after a worse measurement", off)
		}
	})
}

// A program that may ask for no stream goes by its own clock, and says so once.
func TestWithoutAServersWordTheMachinesClockCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var warned atomic.Int64
		silent := func(context.Context) (time.Time, error) { return time.Time{}, errors.New("not permitted") }
		ahead := func() time.Time { return time.Now().Add(time.Hour) }
		q, stop := queue.FakeClock(t.Context(), silent, ahead, func(error) { warned.Add(1) }, never)
		defer stop()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if now := q.Now(); !now.Equal(ahead()) {
			t.Errorf("Now is %v, the machine's clock %v", now, ahead())
		}
		if _, measured := q.ClockError(); measured || warned.Load() != 1 {
			t.Errorf("measured %v, warned %d times", measured, warned.Load())
		}
	})
}
