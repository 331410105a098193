package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// wait keeps a job that got no host: in hand for a moment when hosts are merely busy, parked otherwise, or left to rest
// when its tenant has as many tickets as it may.
func (d *Dispatcher) wait(ctx context.Context, o *owned, s spot) {
	if s.hold == nil && !s.elsewhere {
		d.loop.keep(o)
		return
	}
	if !d.loop.admit(o) {
		d.letRest(ctx, o)
		return
	}
	defer d.loop.admitted(o.job.Tenant)
	if s.hold != nil && !d.appendWaiting(ctx, o, s.hold) {
		d.redelivered(ctx, o) // somebody has cancelled it, most likely
		return
	}
	ticket := d.ticket(o)
	d.park(ctx, o, &ticket)
}

// appendWaiting appends why no host may take the job, once for each reason. It reports false when the chain has moved
// on; an event that could not be stored for another reason is told by the next review.
func (d *Dispatcher) appendWaiting(ctx context.Context, o *owned, hold *route.Hold) bool {
	reason := string(hold.Reason)
	if o.reason == reason {
		return true
	}
	e := o.job.NewEvent(job.Waiting, d.clock())
	e.Sequence, e.Reason, e.Message, e.Hosts = o.job.Sequence, reason, hold.Text, hostTexts(hold.Hosts)
	if !hold.Until.IsZero() {
		e.Until = &hold.Until
	}
	last, err := d.q.Append(ctx, &e, o.last, d.source, "")
	if err == nil {
		o.last, o.reason = last, reason
	}
	return !errors.Is(err, queue.ErrOvertaken)
}

// ticket is how o would lie in the waiting room.
func (d *Dispatcher) ticket(o *owned) queue.Ticket {
	t := queue.Ticket{
		Priority: o.job.Priority, Tenant: o.job.Tenant, Hash: o.job.Graph.Hash(), Sequence: o.job.Sequence,
		Job: o.job.ID, Lease: o.lease, Size: o.job.Graph.Size(), Attempt: o.attempt, Received: o.job.Received,
		PreferHosts: o.job.PreferHosts, OnlyHosts: o.job.OnlyHosts, ExcludeHosts: o.job.ExcludeHosts, AvoidHosts: o.avoided(),
	}
	t.AvoidUntil, t.NotBefore, t.Expires = timeOrNil(o.avoidUntil), timeOrNil(o.notBefore), timeOrNil(o.job.Expires())
	return t
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// park puts the ticket and lets the delivery rest. A crash between the two has the job delivered again after
// AckWait, and the same ticket is written again.
func (d *Dispatcher) park(ctx context.Context, o *owned, t *queue.Ticket) {
	if _, err := d.q.PutTicket(ctx, t); err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.metrics.parked.Inc()
	if err := d.q.Park(o.lease, jittered(d.cfg.Park)); err != nil {
		d.leaveToLease(ctx, o, err)
	}
}
