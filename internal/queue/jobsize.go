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

// maxBody is how many bytes a job may have: what COMFY_JOBS takes (Config.MaxJob) and NATS in one message, without room
// for our headers. A publish by somebody else may be larger by that room; it can be stored, and is refused by a dispatcher.
func (q *Queue) maxBody() int {
	most := q.maxPayload()
	if limit := int(q.maxJob.Load()); limit > 0 {
		most = min(most, limit)
	}
	return most
}

// maxPayload is how many bytes a message may have beside our headers.
func (q *Queue) maxPayload() int { return int(q.nc.MaxPayload()) - names.Headroom }

// TooLarge says that a job is too large and what may be done about it; empty when it is not.
func (q *Queue) TooLarge(body int) string {
	most := q.maxBody()
	if body <= most {
		return ""
	}
	return fmt.Sprintf("the job has %d bytes, and at most %d are taken: put files into the object store %s and name them in \"inputs\", "+
		"or raise `dispatcher run --max-job` and, where NATS takes no larger message, its max_payload", body, most, names.InputsStore)
}

// Submit publishes a job to its lane, as a tenant's client does.
func (q *Queue) Submit(ctx context.Context, lane job.Lane, spec job.Spec) (jetstream.Receipt, error) {
	return jetstream.NewClient(q.nc, lane.Tenant).Submit(ctx, lane.Priority, spec)
}

// TooLarge reports whether an event could not be appended since it is larger than NATS takes in one message
// (max_payload, 1 MiB by default). Trying again does not help.
func TooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload)
}
