package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Follow gives a job's events from its first, in order and without gaps, also across reconnects. It ends after the terminal event,
// or with ctx, whose error is then the last item. It waits for a job that was not submitted yet.
func (q *Queue) Follow(ctx context.Context, tenant job.Tenant, id job.ID) iter.Seq2[jetstream.Event, error] {
	return func(yield func(jetstream.Event, error) bool) {
		for link, err := range q.Stream(ctx, names.ChainSubject(tenant, id), time.Time{}) {
			if !yield(link.Event, err) || err != nil || link.EventKind.Terminal() {
				return
			}
		}
	}
}

// Stream gives the job events that match a subject, since a time (zero: from the first), until ctx ends.
func (q *Queue) Stream(ctx context.Context, subject string, since time.Time) iter.Seq2[Link, error] {
	return func(yield func(Link, error) bool) {
		for note, err := range q.Notes(ctx, subject, since) {
			if err != nil {
				yield(Link{}, err)
				return
			}
			link, err := decodeLink(note.Subject, note.Header, note.Body, note.Sequence)
			if err == nil && !link.noEvent() && !yield(link, nil) {
				return
			}
		}
	}
}

// Notes gives the stored events that match a subject ("" for all), since a time (zero: from the first), until ctx ends, whose error
// is then the last item.
func (q *Queue) Notes(ctx context.Context, subject string, since time.Time) iter.Seq2[jetstream.Note, error] {
	cfg := natsjs.OrderedConsumerConfig{FilterSubjects: []string{cmp.Or(subject, names.AllEvents)}, InactiveThreshold: time.Minute}
	if !since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = natsjs.DeliverByStartTimePolicy, &since
	}
	return func(yield func(jetstream.Note, error) bool) {
		told := func(n jetstream.Note) bool { return yield(n, nil) }
		var err error
		if q.cfg.NoConsumers {
			err = q.replay(ctx, cmp.Or(subject, names.AllEvents), since, told)
		} else {
			err = q.notes(ctx, cfg, told)
		}
		if err != nil {
			yield(jetstream.Note{}, err)
		}
	}
}

// TenantNotes gives the stored events of a tenant's jobs, as Notes does.
func (q *Queue) TenantNotes(ctx context.Context, tenant job.Tenant, since time.Time) iter.Seq2[jetstream.Note, error] {
	return q.Notes(ctx, names.TenantEvents(tenant), since)
}

func (q *Queue) notes(ctx context.Context, cfg natsjs.OrderedConsumerConfig, tell func(jetstream.Note) bool) error {
	consumer, err := q.ordered(ctx, cfg)
	if err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	messages, err := consumer.Messages(natsjs.PullMaxMessages(500))
	if err != nil {
		return fmt.Errorf("follow events: %w", err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(natsjs.NextContext(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("follow events: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			continue
		}
		n := jetstream.Note{
			Subject: msg.Subject(), Header: msg.Headers(), Body: msg.Data(), Sequence: meta.Sequence.Stream,
			Time: meta.Timestamp, Pending: meta.NumPending,
		}
		if !tell(n) {
			return nil
		}
	}
}

// orderedTimeout bounds one attempt to make a consumer, since a request that was sent while NATS went down is never answered.
const orderedTimeout = 3 * time.Second

// ordered makes a consumer of the events, and tries again until NATS answers or ctx ends.
func (q *Queue) ordered(ctx context.Context, cfg natsjs.OrderedConsumerConfig) (natsjs.Consumer, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, orderedTimeout)
		consumer, err := q.events.OrderedConsumer(attempt, cfg)
		cancel()
		if err == nil || !unreachable(err) || q.nc.IsClosed() {
			return consumer, err
		}
		if !Pause(ctx, rewatchPause) {
			return nil, ctx.Err()
		}
	}
}

// unreachable reports whether an error only says that NATS cannot be reached at the moment.
func unreachable(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrDisconnected)
}

// FollowCancels calls tell for every event cancelled of any tenant as it is stored, until ctx ends. Those of an outage are lost.
func (q *Queue) FollowCancels(ctx context.Context, tell func(jetstream.Event)) error {
	return q.followLive(ctx, names.CancelledEvents, tell)
}

// FollowJob calls tell for a job's events as they are stored, from now on, until stop is called. The subscription is sent when
// FollowJob returns: an event that this connection publishes afterwards is not missed.
func (q *Queue) FollowJob(tenant job.Tenant, id job.ID, tell func(jetstream.Event)) (stop func(), err error) {
	sub, err := q.nc.Subscribe(names.ChainSubject(tenant, id), func(msg *nats.Msg) { tellEvent(msg, tell) })
	if err != nil {
		return nil, fmt.Errorf("follow job %s: %w", id, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // the connection may be closed already
}

func (q *Queue) followLive(ctx context.Context, subject string, tell func(jetstream.Event)) error {
	return q.serve(ctx, subject, func(msg *nats.Msg) { tellEvent(msg, tell) })
}

// tellEvent ignores a message without a stored sequence: it was published directly and is not stored.
func tellEvent(msg *nats.Msg, tell func(jetstream.Event)) {
	sequence := names.AddedUint(msg.Header, names.StoredHeader)
	if sequence == 0 {
		return
	}
	if link, err := decodeLink(msg.Subject, msg.Header, msg.Data, sequence); err == nil && !link.noEvent() {
		tell(link.Event)
	}
}

// streamState reads the state and settings of a stream.
func (q *Queue) streamState(ctx context.Context, name string) (*natsjs.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, orderedTimeout)
	defer cancel()
	stream, err := q.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}
