package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// finish removes a job that has ended from COMFY_JOBS, and before that the API keys that were given for it: when the process dies in between, the
// next delivery finds the chain ended and does the rest.
func (d *Dispatcher) finish(ctx context.Context, m *job.Message, lease queue.Lease) {
	if job.HasAPIKeys(m.Body) {
		if err := d.q.DropAPIKeys(ctx, job.Tenant(m.Tenant), m.PublishedID()); err != nil {
			d.finishLater(lease, err)
			return
		}
	}
	d.finishMessage(ctx, m, lease)
}

// finishMessage is finish for a message whose id is another job's, such as a second publish: the API keys are that job's.
//
// It does not wait for the ack: one that is lost is repaired by the next delivery. A message with extra_data is erased, since an acked message
// stays in the files of NATS until they are written anew. Agents may do neither, and hand jobs with extra_data or API keys back.
func (d *Dispatcher) finishMessage(ctx context.Context, m *job.Message, lease queue.Lease) {
	if job.HasExtraData(m.Body) {
		if err := d.q.Erase(ctx, m.Sequence); err != nil {
			d.finishLater(lease, err)
			return
		}
	}
	if err := d.q.FinishSoon(lease); err != nil {
		d.log.Debug("cannot ack a job that has ended", "error", err)
	}
}

// finishStored is finish for a job whose message is not at hand. In a stream that was made again another job may have its
// sequence: that one is left alone.
func (d *Dispatcher) finishStored(ctx context.Context, key idKey, sequence uint64, lease queue.Lease) {
	stored, err := d.stored(ctx, sequence, key.tenant, key.id)
	switch {
	case err == nil:
		d.finish(ctx, &stored.message, lease)
	case !errors.Is(err, queue.ErrGone):
		d.finishLater(lease, err)
	}
}

// finishPause is when an ended job that could not be removed is delivered again.
const finishPause = time.Second

// finishLater leaves an ended job to another delivery.
func (d *Dispatcher) finishLater(lease queue.Lease, err error) {
	d.log.Warn("an ended job could not be removed from COMFY_JOBS; it is tried again", "error", err, "in", finishPause)
	if err := d.q.Park(lease, finishPause); err != nil {
		d.log.Debug("cannot park a job that has ended", "error", err)
	}
}
