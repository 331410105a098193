package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// leaveToLease ends the walk after an error, which mostly means that NATS is away. It logs the error and starts a last
// AckWait for the lease; then the job is delivered again, and that delivery repairs what is missing. A job that another
// process has decided about is left alone.
func (d *Dispatcher) leaveToLease(ctx context.Context, o *owned, err error) {
	if errors.Is(err, queue.ErrOvertaken) {
		d.log.Debug("another process decided about a job first", "tenant", o.job.Tenant, "job", o.job.ID, "error", err)
		return
	}
	d.startLastLease(ctx, o.lease)
	d.log.Warn("a job is left to its lease; it is delivered again after AckWait",
		"tenant", o.job.Tenant, "job", o.job.ID, "ack_wait", d.q.AckWait(), "error", err)
}

// startLastLease extends a lease once more, until NATS has confirmed it, so that it runs out after one AckWait. A job that was parked before would
// otherwise rest for the whole long delay, without a ticket: a plain extension is dropped while NATS starts, and a
// park that was sent earlier may arrive later.
func (d *Dispatcher) startLastLease(ctx context.Context, lease queue.Lease) {
	d.loop.pressure.enter()
	d.walks.Go(func() {
		defer d.loop.pressure.exit()
		ctx, cancel := context.WithTimeout(ctx, 2*d.q.AckWait())
		defer cancel()
		for ctx.Err() == nil && d.q.ExtendSurely(ctx, lease) != nil {
			queue.Pause(ctx, pullPause)
		}
	})
}

// giveBack has a job delivered again at once, to any dispatcher.
func (d *Dispatcher) giveBack(lease queue.Lease) { d.putOff(lease, 0) }

// putOff has a job delivered again after a rest, or after AckWait when this request is lost.
func (d *Dispatcher) putOff(lease queue.Lease, rest time.Duration) {
	if err := d.q.Park(lease, rest); err != nil {
		d.log.Debug("cannot give a job back", "error", err)
	}
}

// postpone has a job delivered again after a pause.
func (d *Dispatcher) postpone(ctx context.Context, o *owned, pause time.Duration) {
	if err := d.q.Park(o.lease, pause); err != nil {
		d.leaveToLease(ctx, o, err)
	}
}
