package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// beginChain walks a fresh delivery from COMFY_JOBS to an agent, to the waiting room, or to its end. The chain begins
// after last: the sequence of what others may have stored there, or 0.
//
// Effects in their order, and what a crash after each leaves:
//  1. queued is appended: the lease runs out, the next delivery finds the chain and goes on in redelivered
//  2. the agent has accepted: nothing is left to do here
//  3. the ticket is put: the lease runs out, the next delivery finds the ticket and parks again
//  4. the delivery is parked: the job waits for its claim
func (d *Dispatcher) beginChain(ctx context.Context, o *owned, s spot, last uint64) {
	stored, over := d.quotas.admit(ctx, o.job.Tenant, len(o.message.Body))
	if over != "" {
		d.loop.release(o, s.host)
		d.overQuota(ctx, o, over)
		return
	}
	e := d.queuedEvent(o)
	e.Position, e.Bytes = s.position, int64(len(o.message.Body))
	var err error
	o.last, err = d.q.Append(ctx, &e, last, d.source, "")
	stored(o.last)
	switch {
	case errors.Is(err, queue.ErrOvertaken):
		d.loop.release(o, s.host)
		d.redelivered(ctx, o)
	case err != nil:
		d.loop.release(o, s.host)
		d.leaveToLease(ctx, o, err)
	default:
		d.metrics.jobQueued(o.job, d.clock())
		d.dispatch(ctx, o, s)
	}
}

// queuedEvent is the event with which a dispatcher says that it has read the job.
func (d *Dispatcher) queuedEvent(o *owned) job.Event {
	e := o.job.NewEvent(job.Queued, d.clock())
	e.Sequence, e.Title, e.MaxAttempts = o.job.Sequence, o.job.Graph.Title(), cmp.Or(o.job.MaxAttempts, failure.DefaultMaxAttempts)
	return e
}

// overQuota ends a job of which its tenant has too many, unless it was taken in before.
func (d *Dispatcher) overQuota(ctx context.Context, o *owned, why string) {
	_, found, err := d.q.Last(ctx, o.job.Tenant, o.job.ID)
	switch {
	case err != nil:
		d.leaveToLease(ctx, o, err)
	case found:
		d.redelivered(ctx, o)
	default:
		d.endWaiting(ctx, o, ending{reason: failure.OverQuota, message: why})
	}
}

// dispatch offers the job to the host that the loop has chosen, and to others while agents do not accept it. When there is
// none it has the job wait. Every job comes here before each offer, so its expires_in is checked here.
func (d *Dispatcher) dispatch(ctx context.Context, o *owned, s spot) {
	if o.fault != "" {
		d.loop.release(o, s.host)
		d.endWaiting(ctx, o, ending{reason: failure.InvalidJob, message: o.fault})
		return
	}
	for s.host != "" && !d.expired(o) {
		got, err := d.takeSlot(ctx, o, &s)
		if err != nil {
			d.loop.release(o, s.host)
			d.leaveToLease(ctx, o, err)
			return
		}
		if !got {
			d.loop.noSlot(o, s.host)
			s = spot{elsewhere: true}
			break
		}
		if d.offer(ctx, o, &s) {
			return
		}
		s = d.loop.place(o)
	}
	d.returnOwnSlot(ctx, o)
	if d.expired(o) {
		d.loop.release(o, s.host)
		d.endWaiting(ctx, o, ending{reason: failure.Expired, message: expiredText})
		return
	}
	if s.end != nil {
		d.endWaiting(ctx, o, *s.end)
		return
	}
	d.wait(ctx, o, s)
}

// expired reports whether the job's expires_in is over.
func (d *Dispatcher) expired(o *owned) bool { return passed(o.job.Expires(), d.clock()) }

// passed reports whether a time has come; a zero time never does.
func passed(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// offer asks the host's agent to take the job and reports whether the walk is over: with "accepted" the lease is
// the agent's; without an answer the agent may have it or not, and the lease decides.
func (d *Dispatcher) offer(ctx context.Context, o *owned, s *spot) (done bool) {
	host, attempt, asked, begun := s.host, o.attempt, d.clock(), time.Now()
	reply, err := d.q.Offer(ctx, host, &queue.Offer{
		Message: o.message, Job: o.job.ID, Hash: o.job.Graph.Hash(), Attempt: attempt,
		Lease: o.lease, AckWait: d.q.AckWait(), LastInChain: o.last, Quiet: s.quiet, FreeSlot: s.free && !o.anySlot,
	})
	d.metrics.offered(reply.Answer, err, time.Since(begun))
	d.loop.answered(o, host, asked, reply, err)
	o.anySlot = o.anySlot || reply.Answer == queue.Busy && !reply.State.Free()
	switch {
	case errors.Is(err, queue.ErrNoAgent):
		o.unfit = append(o.unfit, host)
		return false
	case err != nil:
		d.leaveToLease(ctx, o, err)
		return true
	case reply.Answer == queue.Accepted:
		return true
	case reply.Answer == queue.Busy && reply.State.Free(): // an earlier attempt of the job is not over there yet
		o.unfit = append(o.unfit, host)
		o.notBefore = d.clock().Add(time.Second)
	case reply.Answer != queue.Busy:
		o.unfit = append(o.unfit, host)
		d.log.Debug("an agent did not accept a job", "host", host, "job", o.job.ID, "answer", reply.Answer, "why", reply.Reason)
	}
	return false
}
