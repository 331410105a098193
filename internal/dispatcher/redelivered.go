package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// redelivered goes on with a delivery whose chain is not empty: a second publish of the same id, a lease that ran
// out, or a delivery that NATS repeats since a server that stopped has lost the last acks. The chain says which it is;
// the number of deliveries does not.
func (d *Dispatcher) redelivered(ctx context.Context, o *owned) {
	link, found, err := d.q.Last(ctx, o.job.Tenant, o.job.ID)
	if err == nil && !found && link.ChainSequence != 0 { // what is stored there is not an event of this job
		d.beginChain(ctx, o, d.loop.place(o), link.ChainSequence)
		return
	}
	if err == nil && !found {
		err = errEmptyChain
	}
	if err != nil {
		d.leaveToLease(ctx, o, fmt.Errorf("read chain: %w", err))
		return
	}
	o.last = link.ChainSequence
	if link.EventKind.Terminal() {
		ticket := d.ticket(o)
		d.discardTicket(ctx, ticket.Key()) // a job that was cancelled while no dispatcher was up
		d.finish(ctx, &o.message, o.lease)
		return
	}
	again, err := d.secondPublish(ctx, o, &link)
	if err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	if again {
		d.finishMessage(ctx, &o.message, o.lease)
		d.log.Debug("dropped a second publish of an id", "tenant", o.job.Tenant, "job", o.job.ID)
		return
	}
	switch link.EventKind {
	case job.Started:
		d.resume(ctx, o, &link)
	case job.Failed:
		link.Lease, link.Sequence = o.lease, o.job.Sequence
		if err := d.settle(ctx, link); err != nil {
			d.leaveToLease(ctx, o, err)
		}
	default:
		d.waitAgain(ctx, o, &link)
	}
}

var errEmptyChain = errors.New("the job's chain has events, but the copy of COMFY_EVENTS that answered has none yet")

// secondPublish reports whether this message is a second publish: then the chain belongs to another message. The event queued
// has the sequence of the message that began the chain. When it is not stored any more, the last event has it (renewChain).
// When the first publish was taken out of the stream, or the stream was made again, this one takes its place.
func (d *Dispatcher) secondPublish(ctx context.Context, o *owned, last *queue.Link) (bool, error) {
	queued, found, err := d.q.LastOf(ctx, o.job.Tenant, o.job.ID, job.Queued)
	if err != nil {
		return false, err
	}
	sequence := last.Sequence
	if found {
		sequence = queued.Sequence
	}
	if sequence == 0 || sequence == o.job.Sequence {
		return false, nil
	}
	_, err = d.stored(ctx, sequence, o.job.Tenant, o.job.ID)
	if errors.Is(err, queue.ErrGone) {
		return false, d.continueChain(ctx, o, last)
	}
	return err == nil, err
}

// waitAgain takes up a job that was waiting: parked again when it has a ticket, left alone when it has just been
// claimed, routed otherwise.
func (d *Dispatcher) waitAgain(ctx context.Context, o *owned, link *queue.Link) {
	err := d.readAttempts(ctx, o)
	if errors.Is(err, errUnderWay) { // since link was read
		d.redelivered(ctx, o)
		return
	}
	if err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.renewChain(ctx, o, link)
	ticket := d.ticket(o)
	stored, found, claimed, err := d.q.Ticket(ctx, ticket.Key())
	switch {
	case err != nil:
		d.leaveToLease(ctx, o, err)
	case found && d.expired(o):
		d.claimExpired(ctx, o, &stored)
	case found:
		stored.Lease = o.lease
		d.park(ctx, o, &stored)
	case !claimed.IsZero() && d.clock().Sub(claimed) < d.q.AckWait():
		// The dispatcher that has claimed it goes on; if it has died, NATS delivers the job again when the lease runs out.
	default:
		d.dispatch(ctx, o, d.loop.place(o))
	}
}

// claimExpired claims the ticket of a job whose time is over, and ends the job. A dispatcher that was faster ends it instead; if
// that one has died, NATS delivers the job again when the lease runs out.
func (d *Dispatcher) claimExpired(ctx context.Context, o *owned, t *queue.Ticket) {
	won, err := d.claimTicket(ctx, t.Key(), t.Revision)
	switch {
	case err != nil:
		d.leaveToLease(ctx, o, err)
	case won:
		d.endWaiting(ctx, o, ending{reason: failure.Expired, message: expiredText})
	}
}

// renewChain appends an event to the chain of a job that waits for very long, before all of its events are too old to be kept.
func (d *Dispatcher) renewChain(ctx context.Context, o *owned, link *queue.Link) {
	if d.clock().Sub(link.Time) < d.q.EventsAge()/2 {
		return
	}
	e := o.job.NewEvent(job.Waiting, d.clock())
	e.Sequence, e.Reason = o.job.Sequence, o.reason
	last, err := d.q.Append(ctx, &e, o.last, d.source, "")
	if err != nil {
		d.log.Debug("cannot renew the chain of a waiting job", "job", o.job.ID, "error", err)
		return
	}
	o.last = last
}

// resume offers a started job back to its host as the same attempt. When the host is gone, or has no
// such prompt, the attempt is lost.
func (d *Dispatcher) resume(ctx context.Context, o *owned, started *queue.Link) {
	_, present, err := d.q.Host(ctx, started.Host)
	if err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	if !present {
		d.attemptLost(ctx, o, started, "host "+started.Host+" and its agent are gone")
		return
	}
	reply, err := d.q.Offer(ctx, started.Host, &queue.Offer{
		Message: o.message, Job: o.job.ID, Hash: o.job.Graph.Hash(), Attempt: started.Attempt, Resume: true,
		Lease: o.lease, AckWait: d.q.AckWait(), LastInChain: started.ChainSequence,
	})
	switch {
	case errors.Is(err, queue.ErrNoAgent): // its agent may be restarting
		d.postpone(ctx, o, d.q.PresenceTTL()/3)
	case err != nil:
		d.leaveToLease(ctx, o, err)
	case reply.Answer == queue.Accepted:
		d.log.Info("a started job was given back to its host", "tenant", o.job.Tenant, "job", o.job.ID, "host", started.Host)
	case reply.Answer == queue.NotThere:
		d.attemptLost(ctx, o, started, "host "+started.Host+" does not have the prompt any more")
	default:
		d.postpone(ctx, o, d.q.PresenceTTL()/3)
	}
}

// attemptLost ends an attempt whose outcome cannot be known any more; like every failed attempt it is settled by settle, which
// Queue.SettleFailed calls.
func (d *Dispatcher) attemptLost(ctx context.Context, o *owned, started *queue.Link, why string) {
	e := o.job.NewEvent(job.Failed, d.clock())
	counted := true
	e.Host, e.Attempt, e.Kind, e.Message, e.Counted = started.Host, started.Attempt, failure.Lost, why, &counted
	if _, err := d.q.Append(ctx, &e, started.ChainSequence, d.source, o.lease); err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.log.Warn("an attempt was lost", "tenant", o.job.Tenant, "job", o.job.ID, "host", started.Host, "why", why)
}
