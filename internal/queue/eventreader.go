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

// EventsState is how the stream of events stands.
type EventsState struct {
	Made  time.Time      // when it was made; in another one sequences begin anew
	First jetstream.Mark // the oldest event that is stored; when there is none, what will be the next
	Last  uint64         // sequence of the newest event that was ever stored
}

// EventsState asks how the stream of events stands.
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
// time. It has a consumer of its own, so that an event costs a third of what it costs by direct gets.
type EventReader struct {
	q    *Queue
	pull *puller
	tell func(jetstream.Note)

	mu       sync.Mutex // guards all below
	consumer string
	heard    uint64 // messages of the consumer
	last     uint64 // sequence of the event that was told last, or up to which there is none
	missed   bool   // a message of the consumer has not come
}

const (
	readBatch = 1024
	readWait  = time.Second // that the rest of a batch may take
	readerAge = time.Minute // how long an unused consumer of a reader stays
)

// ReadEvents makes a reader of the events behind a sequence. It tells them on a goroutine of its own, one at a time, and
// none after Close.
func (q *Queue) ReadEvents(after uint64, tell func(jetstream.Note)) (*EventReader, error) {
	r := &EventReader{q: q, tell: tell, last: after}
	var err error
	r.pull, err = q.puller(r.open, r.take)
	return r, err
}

// Last is the sequence up to which all has been told.
func (r *EventReader) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Close ends the reader.
func (r *EventReader) Close() { r.pull.close() }

// Read reads one batch towards a sequence, which is the newest of a state of the stream or an older one, and reports
// whether it got there. After an error, and after a batch of which something has not come, the next Read goes on behind
// the event that was told last.
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

// batch asks once more after an error: while nothing was stored for some time the server has forgotten the consumer.
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

// nothingUpTo asks whether the events up to a sequence were deleted. The consumer may be on a server that has not heard of
// them yet, so its word is not enough.
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

// open makes a consumer of what is behind the event that was told last. What an earlier one still sends is not its.
func (r *EventReader) open(ctx context.Context) (natsjs.Consumer, error) {
	name := "read_" + rand.Text()
	r.mu.Lock()
	r.consumer, r.heard, r.missed = name, 0, false
	from := r.last + 1
	r.mu.Unlock()
	return answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) {
		return r.q.js.CreateOrUpdateConsumer(ctx, names.EventsStream, natsjs.ConsumerConfig{
			Name: name, DeliverPolicy: natsjs.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: natsjs.AckNonePolicy,
			InactiveThreshold: readerAge, MemoryStorage: true, Replicas: 1,
		})
	})
}

// take tells an event. One that does not follow the one before, by the consumer's count, shows that others are missing.
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
	if r.heard++; meta.Sequence.Consumer != r.heard {
		r.missed = true
		return
	}
	r.tell(jetstream.Note{
		Subject: msg.Subject, Header: msg.Header, Body: msg.Data, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Pending: meta.NumPending,
	})
	r.last = meta.Sequence.Stream
	if meta.NumPending == 0 {
		r.pull.enough()
	}
}
