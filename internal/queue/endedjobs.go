package queue

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

const (
	endedAckWait = 30 * time.Second
	endedAge     = 24 * time.Hour // without a process that calls EndedJobs its consumer is removed
)

// EndedJobs calls take for each job that has ended since the first call ever, each on one of all processes that call it, for at most so
// many at once, and again when take fails. It returns when ctx has ended and take is not called any more.
func (q *Queue) EndedJobs(ctx context.Context, most int, take func(context.Context, job.Tenant, job.ID) error, failed func(error)) error {
	open := q.opening(names.EventsStream, natsjs.ConsumerConfig{
		Durable: names.TracesConsumer, DeliverPolicy: natsjs.DeliverNewPolicy, AckPolicy: natsjs.AckExplicitPolicy, AckWait: endedAckWait,
		MaxDeliver: -1, MaxAckPending: 1024, InactiveThreshold: endedAge,
		FilterSubjects: []string{names.CompletedEvents, names.DeadEvents, names.CancelledEvents},
	})
	return q.shared(ctx, open, most, func(ctx context.Context, msg *nats.Msg) error {
		tenant, id, _, ok := names.JobOfEvent(msg.Subject)
		if !ok {
			return nil
		}
		return take(ctx, tenant, id)
	}, failed)
}
