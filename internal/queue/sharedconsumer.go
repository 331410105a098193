package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// shared calls handle for messages of a durable consumer that all dispatchers share, for at most so many at a time, and for those of
// one subject in their order. Each message is delivered to one dispatcher, and again after AckWait when handle fails or the process
// dies. failed is called with every error.
func (q *Queue) shared(ctx context.Context, open opener, most int, handle func(context.Context, *nats.Msg) error, failed func(error)) error {
	handled := newSideBySide(most)
	defer handled.wait()
	p, err := q.puller(open, func(msg *nats.Msg) {
		handled.run(ctx, msg.Subject, func() {
			if err := handle(ctx, msg); err != nil {
				failed(err)
				return
			}
			if err := msg.Ack(); err != nil {
				failed(fmt.Errorf("ack %s: %w", msg.Subject, err))
			}
		})
	})
	if err != nil {
		return err
	}
	defer p.close()
	return p.pullAll(ctx, max(most, sharedBatch), failed)
}

const (
	pullWait    = 5 * time.Second
	sharedBatch = 16 // messages that are asked for at once, at least
)

func (q *Queue) opening(stream string, want natsjs.ConsumerConfig) opener {
	return func(ctx context.Context) (natsjs.Consumer, error) {
		consumer, err := answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) { return q.durable(ctx, stream, want) })
		if err == nil && stream == names.JobsStream {
			err = q.lookAtJobs(ctx)
		}
		return consumer, err
	}
}

// durable makes a durable consumer that is missing. When the Config has an AckWait, it is set on a consumer of COMFY_JOBS. On one that
// NATS would keep for ever, how long NATS is to keep it is set. All other settings of an existing consumer are kept.
func (q *Queue) durable(ctx context.Context, stream string, want natsjs.ConsumerConfig) (natsjs.Consumer, error) {
	consumer, err := q.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, natsjs.ErrConsumerNotFound) {
		consumer, err = q.js.CreateOrUpdateConsumer(ctx, stream, want)
	}
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", want.Durable, stream, err)
	}
	cfg := consumer.CachedInfo().Config
	before := cfg
	if stream == names.JobsStream && q.cfg.AckWait != 0 {
		cfg.AckWait = q.cfg.AckWait
	}
	if cfg.InactiveThreshold == 0 {
		cfg.InactiveThreshold = want.InactiveThreshold
	}
	if cfg.AckWait != before.AckWait || cfg.InactiveThreshold != before.InactiveThreshold {
		consumer, err = q.js.UpdateConsumer(ctx, stream, cfg)
	}
	return consumer, wrap(err, "update consumer %s", want.Durable)
}

const (
	sharedAckWait = 15 * time.Second
	settledAtOnce = 128
)

// SettleFailed calls settle for every event failed, each on one of all dispatchers that call SettleFailed: for the events of one job
// one after the other, and otherwise for up to 128 at once. When settle returns an error the event is delivered again after 15 s.
// failed is called with every error. It returns when ctx has ended and settle is not called any more.
func (q *Queue) SettleFailed(ctx context.Context, settle func(context.Context, Link) error, failed func(error)) error {
	open := q.opening(names.EventsStream, natsjs.ConsumerConfig{
		Durable: names.SettleConsumer, FilterSubject: names.FailedEvents, AckPolicy: natsjs.AckExplicitPolicy,
		AckWait: sharedAckWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	return q.shared(ctx, open, settledAtOnce, func(ctx context.Context, msg *nats.Msg) error {
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read metadata of %s: %w", msg.Subject, err)
		}
		link, err := decodeLink(msg.Subject, msg.Header, msg.Data, meta.Sequence.Stream)
		if err != nil || link.noEvent() {
			return nil //nolint:nilerr // no event of a job: nothing to settle
		}
		link.Again = meta.NumDelivered > 1
		return settle(ctx, link)
	}, failed)
}
