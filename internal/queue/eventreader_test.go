package queue_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// heard are the sequences of the events that a reader has given.
type heard struct {
	mu        sync.Mutex
	sequences []uint64
}

func (h *heard) tell(n jetstream.Note) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sequences = append(h.sequences, n.Sequence)
}

func (h *heard) all() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.sequences)
}

// readAll reads what is stored now; NATS may be on its way back.
func readAll(t *testing.T, q *queue.Queue, r *queue.EventReader) {
	t.Helper()
	for t.Context().Err() == nil {
		state, err := q.EventsState(t.Context())
		if err != nil {
			continue
		}
		for there := false; !there && err == nil; {
			there, err = r.Read(t.Context(), state.Last)
		}
		if err == nil {
			return
		}
	}
	t.Fatal("it is not read")
}

func upTo(last uint64) (all []uint64) {
	for n := uint64(1); n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// A reader gives every event once and in order: more than a batch of them, those that come later, and those after a restart.
func TestAReaderTellsEachEventOnceOverRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	defer func() { must(0, server.Close()) }()
	url := server.URL()
	q := openOn(t, url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	c := chains{t, q, map[string]uint64{}}
	for n := range 600 {
		c.add("acme", job.ID(fmt.Sprint(n)), job.Queued, job.Completed)
	}
	var h heard
	r := must(q.ReadEvents(0, h.tell))
	readAll(t, q, r)
	if got := h.all(); !slices.Equal(got, upTo(1200)) {
		t.Fatalf("%d events are told, in order: %v", len(got), slices.IsSorted(got))
	}
	c.add("acme", "later", job.Queued)
	readAll(t, q, r)
	must(0, server.Close())
	server = must(natsserver.Start(natsserver.Config{Port: port(t, url), StoreDir: dir}))
	reconnected(t, q)
	c.add("acme", "later", job.Started)
	readAll(t, q, r)
	if got := h.all(); !slices.Equal(got, upTo(1202)) || r.Last() != 1202 {
		t.Errorf("%d events are told, in order: %v", len(got), slices.IsSorted(got))
	}
	r.Close()
	c.add("acme", "later", job.Completed)
	if got := h.all(); len(got) != 1202 {
		t.Error("a closed reader tells events")
	}
}

// What somebody has deleted is not waited for: neither in the middle nor at the end, nor when all is gone.
func TestAReaderPassesOverWhatWasDeleted(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q := openOn(t, url)
	stream := must(must(natsjs.New(connect(t, url))).Stream(t.Context(), names.EventsStream))
	c := chains{t, q, map[string]uint64{}}
	c.add("acme", "one", job.Queued, job.Started, job.Completed)
	c.add("acme", "two", job.Queued, job.Started, job.Completed)
	for _, sequence := range []uint64{2, 5, 6} {
		must(0, stream.DeleteMsg(t.Context(), sequence))
	}
	var h heard
	r := must(q.ReadEvents(0, h.tell))
	defer r.Close()
	readAll(t, q, r)
	if got := h.all(); !slices.Equal(got, []uint64{1, 3, 4}) || r.Last() != 6 {
		t.Errorf("told %v, up to %d", got, r.Last())
	}
	for name := range stream.ConsumerNames(t.Context()).Name() { // as the server does when they are not used
		must(0, stream.DeleteConsumer(t.Context(), name))
	}
	c.add("acme", "three", job.Queued)
	if there, err := r.Read(t.Context(), 7); !there || err != nil {
		t.Errorf("without its consumer: %v, %v", there, err)
	}
	must(0, stream.Purge(t.Context()))
	state := must(q.EventsState(t.Context()))
	if state.First.Sequence != 8 || state.Last != 7 || state.First.Time.IsZero() {
		t.Errorf("an empty stream stands at %+v", state)
	}
	c.add("acme", "four", job.Queued)
	readAll(t, q, r)
	if got := h.all(); !slices.Equal(got, []uint64{1, 3, 4, 7, 8}) {
		t.Errorf("told %v", got)
	}
}
