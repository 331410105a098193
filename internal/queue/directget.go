package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// nextTimeout is how long the next message of a batch may take, before it is asked for again.
const nextTimeout = 5 * time.Second

// batchGet asks a stream for stored messages by a direct get, which needs no consumer.
type batchGet struct {
	Sequence uint64     `json:"seq,omitempty"`
	Since    *time.Time `json:"start_time,omitempty"` // instead of a sequence
	Subject  string     `json:"next_by_subj,omitempty"`
	Lasts    []string   `json:"multi_last,omitempty"` // the last message of each subject that fits one of these, instead of one subject
	Batch    int        `json:"batch"`
	MaxBytes int        `json:"max_bytes,omitempty"` // the most bytes of a batch; 0: as many as NATS allows
}

// gets calls take for every message of a batch, until the server says that the batch has ended. complete means that it said so and
// that no further message is stored; a batch with fewer messages than asked for is no error.
func (q *Queue) gets(ctx context.Context, sub *nats.Subscription, stream string, want batchGet, take func(*nats.Msg) error) (complete bool, err error) {
	body, err := json.Marshal(want)
	if err != nil {
		return false, fmt.Errorf("encode request to %s: %w", stream, err)
	}
	if err := q.nc.PublishRequest(q.apiSubject("DIRECT.GET."+stream), sub.Subject, body); err != nil {
		return false, err
	}
	for {
		once, cancel := context.WithTimeout(ctx, nextTimeout)
		msg, err := sub.NextMsgWithContext(once)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, err
		}
		if sequenceOf(msg) != 0 { // a stored message, whatever status its publisher has given it
			if err := take(msg); err != nil {
				return false, err
			}
			continue
		}
		switch msg.Header.Get("Status") {
		case "204":
			return msg.Header.Get("Nats-Num-Pending") == "0", nil
		case "404":
			return true, nil
		default:
			return false, nil // no server answers for the stream
		}
	}
}

func sequenceOf(msg *nats.Msg) uint64 { return names.AddedUint(msg.Header, natsjs.SequenceHeader) }

// storedAt is when a message was stored that a direct get has answered.
func storedAt(msg *nats.Msg) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, names.Added(msg.Header, natsjs.TimeStampHeaer)) // NATS has written it
	return at
}

// noteOf is a stored event that a direct get has answered, or one as it was stored a moment ago, which has its subject still.
func noteOf(msg *nats.Msg) jetstream.Note {
	return jetstream.Note{
		Subject: cmp.Or(names.Added(msg.Header, natsjs.SubjectHeader), msg.Subject), Header: msg.Header, Body: msg.Data,
		Sequence: sequenceOf(msg), Time: storedAt(msg),
	}
}

const (
	replayBatch = 256
	replayRoom  = 8192 // live events that wait while stored ones are read
)

var errEnough = errors.New("the reader has enough")

// replay gives stored events and then live ones without a consumer, for programs that may not make one. Live events carry their
// sequence, so the events are given in order and without gaps: after a reconnect, or when live events were dropped, stored ones are
// read from the last that was given.
func (q *Queue) replay(ctx context.Context, subject string, since time.Time, tell func(jetstream.Note) bool) error {
	live := make(chan *nats.Msg, replayRoom)
	sub, err := q.nc.ChanSubscribe(subject, live)
	if err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	r := replaying{q: q, subject: subject, since: since, tell: tell, live: live, sub: sub, answers: answers}
	for err = nil; err == nil; {
		ended := q.reconnects.current()
		if err = r.stored(ctx); err == nil {
			err = r.follow(ctx, ended)
		}
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

type replaying struct {
	q       *Queue
	subject string
	since   time.Time
	tell    func(jetstream.Note) bool
	live    chan *nats.Msg
	sub     *nats.Subscription
	answers *nats.Subscription

	last    uint64 // sequence of the last event that was given
	dropped int
}

// stored gives the stored events after the last one that was given.
func (r *replaying) stored(ctx context.Context) error {
	for {
		want := batchGet{Sequence: r.last + 1, Subject: r.subject, Batch: replayBatch}
		if r.last == 0 && !r.since.IsZero() {
			want.Sequence, want.Since = 0, &r.since
		}
		before := r.last
		complete, err := r.q.gets(ctx, r.answers, names.EventsStream, want, r.take)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errEnough) || r.q.nc.IsClosed():
			return err
		case complete:
			return nil
		case err != nil && !unreachable(err):
			return fmt.Errorf("follow events: %w", err)
		case r.last == before: // no server has answered
			Pause(ctx, rewatchPause)
		}
	}
}

// follow gives live events until some may have been lost.
func (r *replaying) follow(ctx context.Context, ended <-chan struct{}) error {
	for {
		if n, err := r.sub.Dropped(); err == nil && n != r.dropped {
			r.dropped = n
			return nil
		}
		select {
		case msg := <-r.live:
			if err := r.take(msg); err != nil {
				return err
			}
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take gives an event unless it was given before.
func (r *replaying) take(msg *nats.Msg) error {
	n := noteOf(msg)
	if n.Sequence <= r.last {
		return nil
	}
	r.last = n.Sequence
	n.Pending = names.AddedUint(msg.Header, "Nats-Num-Pending")
	if !r.tell(n) {
		return errEnough
	}
	return nil
}
