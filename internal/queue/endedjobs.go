package queue

import (
	"bytes"
	"context"
	"encoding/json"
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

// JobEnd says which job has ended, and how.
type JobEnd struct {
	Tenant      job.Tenant
	Job         job.ID
	How         job.EventKind
	Traceparent string
}

// EndedJobs calls take for each job that ends after the first call ever, or after the first one since a day without any, each on
// one of all processes that call it, for at most so many at once, and again when take fails. It returns when ctx has ended and take
// is not called any more.
func (q *Queue) EndedJobs(ctx context.Context, most int, take func(context.Context, JobEnd) error, failed func(error)) error {
	open := q.opening(names.EventsStream, natsjs.ConsumerConfig{
		Durable: names.TracesConsumer, DeliverPolicy: natsjs.DeliverNewPolicy, AckPolicy: natsjs.AckExplicitPolicy, AckWait: endedAckWait,
		MaxDeliver: -1, MaxAckPending: 1024, InactiveThreshold: endedAge,
		FilterSubjects: []string{names.CompletedEvents, names.DeadEvents, names.CancelledEvents},
	})
	return q.shared(ctx, open, most, func(ctx context.Context, msg *nats.Msg) error {
		tenant, id, kind, ok := names.JobOfEvent(msg.Subject)
		if !ok {
			return nil
		}
		return take(ctx, JobEnd{tenant, id, kind, traceparentOf(msg.Data)})
	}, failed)
}

// traceparentOf reads the field of an event, which most events do not have.
func traceparentOf(event []byte) string {
	if !bytes.Contains(event, []byte(`"traceparent"`)) {
		return ""
	}
	var e struct {
		Traceparent string `json:"traceparent"`
	}
	if json.Unmarshal(event, &e) != nil {
		return ""
	}
	return e.Traceparent
}
