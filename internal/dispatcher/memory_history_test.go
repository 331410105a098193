package dispatcher_test

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (m *memory) EventsState(context.Context) (queue.EventsState, error) {
	if err := m.cutHere("state of events"); err != nil {
		return queue.EventsState{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return queue.EventsState{Made: m.made, First: jetstream.Mark{Sequence: 1, Time: noon}, Last: uint64(len(m.events))}, nil
}

func (m *memory) JobsHeld(context.Context) (job.Unfinished, error) {
	if err := m.cutHere("state of jobs"); err != nil {
		return job.Unfinished{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	held := job.Unfinished{Jobs: len(m.jobs)}
	for _, stored := range m.jobs {
		held.Bytes += int64(len(stored.message.Body))
	}
	return held, nil
}

func (m *memory) Consumers(context.Context) ([]queue.ConsumerCounts, error) {
	return []queue.ConsumerCounts{{Consumer: "dispatch_5", Pending: 4, Unacked: 2}}, nil
}

func (m *memory) LaneCap() int64 { return 10_000 }

func (m *memory) Stores(context.Context) ([]queue.StoreCounts, error) {
	return []queue.StoreCounts{{Stream: "COMFY_JOBS", Bytes: 900, Limit: 1000, Messages: 3}}, m.cutHere("state of streams")
}

func (m *memory) LastLetter(context.Context) (uint64, error) {
	return 77, m.cutHere("last letter")
}

func (m *memory) Rows(asked int) int {
	if asked == 0 {
		asked = 100
	}
	return min(asked, 500)
}

// ReadEvents reads at most three events at a time.
func (m *memory) ReadEvents(after uint64, tell func(jetstream.Note)) (dispatcher.EventReader, error) {
	return &reading{m: m, last: after, tell: tell}, nil
}

type reading struct {
	m    *memory
	last uint64
	tell func(jetstream.Note)
}

func (r *reading) Close()       {}
func (r *reading) Last() uint64 { return r.last }

func (r *reading) Read(_ context.Context, upTo uint64) (bool, error) {
	if err := r.m.cutHere(fmt.Sprintf("read events after %d", r.last)); err != nil {
		return false, err
	}
	for range 3 {
		if r.last >= upTo {
			return true, nil
		}
		r.m.mu.Lock()
		link := r.m.events[r.last]
		r.m.mu.Unlock()
		r.last++
		n, err := noteOf(&link)
		if err != nil {
			return false, err
		}
		n.Sequence, n.Time = r.last, noon.Add(time.Duration(r.last)*time.Second)
		r.tell(n)
	}
	return false, nil
}

func (m *memory) LinkState() queue.LinkState { return queue.LinkState{Connected: m.Connected()} }

func (m *memory) RoundTrip(context.Context) (time.Duration, error) { return time.Millisecond, nil }

// Tally tells what a test gives to tallied: the consumer is tested on NATS.
func (m *memory) Tally(ctx context.Context, tell func(jetstream.Note), _ func(error)) error {
	return follow(ctx, m, m.tallies, tell)
}

// tallied has all dispatchers count an event.
func (m *memory) tallied(n jetstream.Note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tell := range m.tallies {
		tell(n)
	}
}
