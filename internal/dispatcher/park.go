package dispatcher

import (
	"context"
	"errors"
	"math/rand/v2"
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
		d.redelivered(ctx, o) // most likely it was cancelled
		return
	}
	ticket := d.ticket(o)
	d.park(ctx, o, &ticket)
}

// shelve gives a job that has to wait a ticket, or lets it rest.
func (d *Dispatcher) shelve(ctx context.Context, o *owned) {
	if !d.loop.admit(o) {
		d.letRest(ctx, o)
		return
	}
	defer d.loop.admitted(o.job.Tenant)
	ticket := d.ticket(o)
	d.park(ctx, o, &ticket)
}

// appendWaiting appends why no host may take the job, once for each reason. It reports false when the chain has moved
// on; when the event could not be stored for another reason, the next review writes it.
func (d *Dispatcher) appendWaiting(ctx context.Context, o *owned, hold *route.Hold) bool {
	reason := string(hold.Reason)
	if o.reason == reason {
		return true
	}
	e := o.job.NewEvent(job.Waiting, d.clock())
	e.Sequence, e.Reason, e.Message, e.Hosts = o.job.Sequence, reason, hold.Text, d.loop.hostTexts(wantOf(o), hold.Reason)
	if !hold.Until.IsZero() {
		e.Until = &hold.Until
	}
	last, err := d.q.Append(ctx, &e, o.last, d.source, "")
	if err == nil {
		o.last, o.reason = last, reason
	}
	return !errors.Is(err, queue.ErrOvertaken)
}

// ticket is the job's ticket.
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
	if err := d.putTicket(ctx, t); err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.metrics.parked.Inc()
	if err := d.q.Park(o.lease, jittered(d.cfg.Park)); err != nil {
		d.leaveToLease(ctx, o, err)
	}
}

// letRest has a job that got no ticket rest in the stream: until it is due, until its time is over, or for the long
// delay, which is random within bounds so that many jobs do not come back at one moment.
func (d *Dispatcher) letRest(ctx context.Context, o *owned) {
	now := d.clock()
	rest, due := d.cfg.Park+rand.N(d.cfg.Park), !now.Before(o.notBefore)
	if !due {
		rest = min(rest, o.notBefore.Sub(now))
	}
	if expires := o.job.Expires(); !expires.IsZero() {
		rest = min(rest, max(expires.Sub(now), time.Second))
	}
	if err := d.q.Park(o.lease, rest); err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.metrics.rested.Inc()
	x := &restingJob{
		lane: o.lane(), id: o.job.ID, sequence: o.job.Sequence,
		lease: o.lease, due: due, until: now.Add(rest),
	}
	d.loop.tell(func(time.Time) { d.loop.ticketing.add(x) })
}
