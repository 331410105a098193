package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// maxBody is the most bytes of a job: Config.MaxJob, or what a NATS message holds beside our headers. A program that publishes
// without our headers may store a job that is larger by their room; a dispatcher refuses it.
func (q *Queue) maxBody() int {
	most := q.maxPayload()
	if limit := int(q.maxJob.Load()); limit > 0 {
		most = min(most, limit)
	}
	return most
}

// maxPayload is the most bytes of a message beside our headers.
func (q *Queue) maxPayload() int { return int(q.nc.MaxPayload()) - names.Headroom }

// TooLarge is a text for people that says that a job of so many bytes is too large, and what to do about it; empty when it is not.
func (q *Queue) TooLarge(body int) string {
	most := q.maxBody()
	if body <= most {
		return ""
	}
	return fmt.Sprintf("the job has %d bytes, and at most %d are taken: put files into the object store %s and name them in \"inputs\", or the whole workflow and name it in \"workflow_file\", "+
		"or raise `dispatcher run --max-job` and, where NATS takes no larger message, its max_payload", body, most, names.InputsStore)
}

// Client is a tenant's own access to the fleet, on the connection of the Queue.
func (q *Queue) Client(tenant job.Tenant) *jetstream.Client { return jetstream.NewClient(q.nc, tenant) }

// Submit publishes a job to its lane, as a tenant's client does.
func (q *Queue) Submit(ctx context.Context, lane job.Lane, spec job.Spec) (jetstream.Receipt, error) {
	return q.Client(lane.Tenant).Submit(ctx, lane.Priority, spec)
}

// SubmitEncoded is Submit of a job whose body is encoded already.
func (q *Queue) SubmitEncoded(ctx context.Context, lane job.Lane, id job.ID, body []byte) (jetstream.Receipt, error) {
	msg := nats.NewMsg(names.LaneSubject(lane))
	msg.Header.Set(names.JobIDHeader, string(id))
	msg.Data = body
	sequence, err := jetstream.Publish(ctx, q.nc, msg)
	if err != nil {
		return jetstream.Receipt{}, err
	}
	return jetstream.Receipt{Tenant: lane.Tenant, Job: id, Sequence: sequence}, nil
}

// TooLarge reports whether an event could not be appended since it is larger than a NATS message may be (max_payload, 1 MiB by
// default). Trying again does not help.
func TooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload)
}

// NotStored reports whether a Submit that has returned this error has certainly stored nothing. After any other error, such as a
// timeout, the job may be stored.
func NotStored(err error) bool {
	return errors.Is(err, jetstream.ErrLaneFull) || errors.Is(err, jetstream.ErrNoSpace) || errors.Is(err, jetstream.ErrTooLarge) ||
		errors.Is(err, nats.ErrNoResponders)
}
