package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// EventsState is the state of COMFY_EVENTS.
type EventsState struct {
	Made  time.Time      // when the stream was created; sequences begin at 1 again when it is created again
	First jetstream.Mark // the oldest stored event; without any, the sequence of the next one
	Last  uint64         // sequence of the newest event that was ever stored
}

// EventsState reads the state of COMFY_EVENTS.
func (q *Queue) EventsState(ctx context.Context) (EventsState, error) {
	info, err := q.streamState(ctx, names.EventsStream)
	if err != nil {
		return EventsState{}, err
	}
	s := EventsState{Made: info.Created, First: jetstream.Mark{Sequence: info.State.FirstSeq, Time: info.State.FirstTime}, Last: info.State.LastSeq}
	if s.First.Sequence == 0 || info.State.Msgs == 0 {
		s.First = jetstream.Mark{Sequence: s.Last + 1, Time: s.Made}
	}
	return s, nil
}

// EventReader reads the stored events of jobs, blocks and hosts in the order of their sequences, each once, a batch at a
// time. It reads from a consumer of its own, which costs a third of what direct gets cost.
type EventReader struct {
	q    *Queue
	pull *puller
	tell func(jetstream.Note)

	mu       sync.Mutex // guards all below
	consumer string
	received uint64 // messages of the consumer
	last     uint64 // all stored events up to this sequence were given
	missed   bool   // a message of the consumer is missing
}

const (
	readBatch = 1024
	readWait  = time.Second // the longest time of a batch
	readerAge = time.Minute // after which NATS removes an unused consumer
)

// ReadEvents makes a reader of the events after a sequence. It calls tell on another goroutine, for one event at a time, and no
// more after Close.
func (q *Queue) ReadEvents(after uint64, tell func(jetstream.Note)) (*EventReader, error) {
	r := &EventReader{q: q, tell: tell, last: after}
	var err error
	r.pull, err = q.puller(r.open, r.take)
	return r, err
}

// Last is the sequence up to which all stored events were given.
func (r *EventReader) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Close ends the reader.
func (r *EventReader) Close() { r.pull.close() }

// Read reads one batch of the events up to a sequence, at most EventsState.Last, and reports whether it got there. After an error,
// and after a batch with a missing event, the next Read continues after the last event that was given.
func (r *EventReader) Read(ctx context.Context, upTo uint64) (there bool, err error) {
	before, missed := r.state()
	if before >= upTo {
		return true, nil
	}
	if missed {
		r.pull.subject = ""
	}
	if err := r.batch(ctx, int(min(upTo-before, readBatch))); err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	after, missed := r.state()
	if after >= upTo || after > before || missed {
		return after >= upTo && !missed, nil
	}
	return r.nothingUpTo(ctx, after, upTo)
}

// batch asks once more after an error, since the server may have removed the consumer while nothing was read.
func (r *EventReader) batch(ctx context.Context, n int) error {
	_, err := r.pull.pull(ctx, n, readWait)
	if err != nil && ctx.Err() == nil {
		_, err = r.pull.pull(ctx, n, readWait)
	}
	return err
}

func (r *EventReader) state() (last uint64, missed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.missed
}

// nothingUpTo reports whether no event is stored up to a sequence, since they were deleted. It asks the stream's leader: the consumer
// may be on a server whose copy is behind.
func (r *EventReader) nothingUpTo(ctx context.Context, after, upTo uint64) (bool, error) {
	raw, err := r.q.readEvents.GetMsg(ctx, after+1, natsjs.WithGetMsgSubject(">"))
	switch {
	case err != nil && !errors.Is(err, natsjs.ErrMsgNotFound):
		return false, fmt.Errorf("read events: %w", err)
	case err == nil && raw.Sequence <= upTo:
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, upTo)
	return true, nil
}

// open makes a consumer of the events after the last one that was given. Its random name tells its messages from those of an
// earlier consumer that still come.
func (r *EventReader) open(ctx context.Context) (natsjs.Consumer, error) {
	name := "read_" + rand.Text()
	r.mu.Lock()
	r.consumer, r.received, r.missed = name, 0, false
	from := r.last + 1
	r.mu.Unlock()
	return answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) {
		return r.q.js.CreateOrUpdateConsumer(ctx, names.EventsStream, natsjs.ConsumerConfig{
			Name: name, DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: natsjs.AckNonePolicy,
			InactiveThreshold: readerAge, MemoryStorage: true, Replicas: 1,
		})
	})
}

// take gives an event. A gap in the consumer's own count shows that events are missing.
func (r *EventReader) take(msg *nats.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if meta.Consumer != r.consumer || r.missed {
		return
	}
	if r.received++; meta.Sequence.Consumer != r.received {
		r.missed = true
		return
	}
	r.tell(jetstream.Note{
		Subject: msg.Subject, Header: msg.Header, Body: msg.Data, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Pending: meta.NumPending,
	})
	r.last = meta.Sequence.Stream
	if meta.NumPending == 0 {
		r.pull.endRequest()
	}
}

// EventAt reads one stored event; false when it is not stored, or no longer.
func (q *Queue) EventAt(ctx context.Context, sequence uint64) (jetstream.Note, bool, error) {
	raw, err := q.readEvents.GetMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return jetstream.Note{}, false, nil
	}
	if err != nil {
		return jetstream.Note{}, false, fmt.Errorf("read event %d: %w", sequence, err)
	}
	return jetstream.Note{Subject: raw.Subject, Header: raw.Header, Body: raw.Data, Sequence: raw.Sequence, Time: raw.Time}, true, nil
}
