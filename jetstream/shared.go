package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// shared takes messages from a durable consumer that all dispatchers share: each message goes to one of them,
// and comes again after AckWait when handle fails or the process dies.
//
// The consumer is opened again after an error: it may have been away with its stream, or removed by hand.
func (q *Queue) shared(ctx context.Context, open opener, batch int, handle func(context.Context, natsjs.Msg) error, failed func(error)) error {
	var consumer natsjs.Consumer
	for ctx.Err() == nil {
		var err error
		if consumer == nil {
			consumer, err = open(ctx)
		}
		if err == nil {
			err = q.sharedOnce(ctx, consumer, batch, handle, failed)
		}
		if err != nil && ctx.Err() == nil {
			consumer = nil
			failed(err)
			pause(ctx, time.Second)
		}
	}
	return ctx.Err()
}

type opener func(context.Context) (natsjs.Consumer, error)

func (q *Queue) opening(stream string, want natsjs.ConsumerConfig) opener {
	return func(ctx context.Context) (natsjs.Consumer, error) {
		return answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) { return q.durable(ctx, stream, want) })
	}
}

func (q *Queue) sharedOnce(ctx context.Context, consumer natsjs.Consumer, batch int, handle func(context.Context, natsjs.Msg) error, failed func(error)) error {
	bound, cancel := q.reconnects.bound(ctx)
	defer cancel()
	timed, cancelTimed := context.WithTimeout(bound, pullWait)
	defer cancelTimed()
	msgs, err := consumer.Fetch(batch, natsjs.FetchContext(timed))
	if err != nil {
		return quiet(ctx, err)
	}
	for msg := range msgs.Messages() {
		if err := handle(ctx, msg); err != nil {
			failed(err)
			continue
		}
		if err := msg.Ack(); err != nil {
			failed(fmt.Errorf("ack %s: %w", msg.Subject(), err))
		}
	}
	return quiet(ctx, msgs.Error())
}

const pullWait = 20 * time.Second

func quiet(ctx context.Context, err error) error {
	harmless := ctx.Err() != nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, natsjs.ErrNoMessages) || errors.Is(err, natsjs.ErrNoHeartbeat)
	if harmless {
		return nil
	}
	return err
}

const sharedAckWait = 15 * time.Second

// SettleFailed hands every failed event to settle, on one of all dispatchers that call SettleFailed. An event
// comes again while settle gives an error. failed hears of errors.
func (q *Queue) SettleFailed(ctx context.Context, settle func(context.Context, Link) error, failed func(error)) error {
	open := q.opening(EventsStream, natsjs.ConsumerConfig{
		Durable: settleConsumer, FilterSubject: failedEvents, AckPolicy: natsjs.AckExplicitPolicy,
		AckWait: sharedAckWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	return q.shared(ctx, open, 16, func(ctx context.Context, msg natsjs.Msg) error {
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read metadata of %s: %w", msg.Subject(), err)
		}
		link, err := decodeLink(msg.Subject(), msg.Headers(), msg.Data(), meta.Sequence.Stream)
		if err != nil {
			return nil //nolint:nilerr // no event of a job: nothing to settle
		}
		return settle(ctx, link)
	}, failed)
}
