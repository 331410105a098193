package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// owned is a job whose lease this dispatcher has, from its delivery or its claim until an agent has accepted it,
// it is parked, or it has ended. Only the goroutine that walks the job touches it, or the loop before the walk and
// while the job is in hand.
type owned struct {
	job     *job.Job
	message job.Message
	lease   queue.Lease
	last    uint64 // sequence of the chain's last event

	attempt    int       // the number of the next attempt
	avoid      []string  // hosts that failed this job
	avoidUntil time.Time // before it they are not used even when no other host may
	notBefore  time.Time
	unfit      []string // hosts whose agent would not have it on this walk
	lacks      []string // hosts that lack an option of it
	read       bool     // options are
	options    workflow.Options
	taken      time.Time
	turn       walkTurn  // of a delivery
	reason     string    // of the last waiting event in the chain
	slot       time.Time // when it took the slot of its tenant that it has; zero = it has none
}

// lane is the job's tenant and priority.
func (o *owned) lane() job.Lane { return job.Lane{Tenant: o.job.Tenant, Priority: o.job.Priority} }

// tenantHash is the job's workflow, as its tenant's.
func (o *owned) tenantHash() tenantHash { return tenantHash{o.job.Tenant, o.job.Graph.Hash()} }

// beginChain walks a fresh delivery from COMFY_JOBS to an agent, to the waiting room, or to its end. The chain begins
// behind last: what somebody else may have stored there, or 0.
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
	e := o.job.NewEvent(job.Queued, d.clock())
	e.Sequence, e.Position, e.Bytes = o.job.Sequence, s.position, int64(len(o.message.Body))
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
		d.metrics.received.Inc()
		d.dispatch(ctx, o, s)
	}
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

// read parses a job, and refuses one that is larger than jobs may be.
func (d *Dispatcher) read(m job.Message) (*job.Job, error) {
	if why := d.q.TooLarge(len(m.Body)); why != "" {
		return nil, errors.New(why)
	}
	return job.Parse(m)
}

// dispatch offers the job to the host it was given, and to others while agents say no, and waits otherwise. Whatever way
// a job comes, here is the last look at its time.
func (d *Dispatcher) dispatch(ctx context.Context, o *owned, s spot) {
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
		if d.offer(ctx, o, &s, false) {
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

// leaveToLease does nothing: the lease runs out and the next delivery repairs what is missing. That is the answer to
// every error on the way, since NATS is away then.
func (d *Dispatcher) leaveToLease(ctx context.Context, o *owned, err error) {
	if errors.Is(err, queue.ErrOvertaken) {
		d.log.Debug("another one decided first", "tenant", o.job.Tenant, "job", o.job.ID, "error", err)
		return
	}
	d.letLeaseRunOut(ctx, o.lease)
	d.log.Warn("a job is left to its lease; it is delivered again after AckWait",
		"tenant", o.job.Tenant, "job", o.job.ID, "ack_wait", d.q.AckWait(), "error", err)
}

// letLeaseRunOut sees to it that a lease which nobody else keeps runs out after AckWait. A job that was parked before would
// otherwise rest for the whole long delay, without a ticket: a plain extension is dropped while NATS starts, and a
// park that was sent earlier may arrive later.
func (d *Dispatcher) letLeaseRunOut(ctx context.Context, lease queue.Lease) {
	d.loop.pressure.enter()
	d.walks.Go(func() {
		defer d.loop.pressure.exit()
		ctx, cancel := context.WithTimeout(ctx, 2*d.q.AckWait())
		defer cancel()
		for ctx.Err() == nil && d.q.ExtendSurely(ctx, lease) != nil {
			sleep(ctx, pullPause)
		}
	})
}

// refuse ends a message that is no job: the dead letter first, then its chain's only event, then the ack; each
// may be repeated. It never touches another job's chain, since the id is of the system's own making.
func (d *Dispatcher) refuse(ctx context.Context, delivery queue.Delivery, invalid error) {
	id := delivery.OwnID()
	e := job.Event{
		EventKind: job.Dead, Job: id, Tenant: job.Tenant(delivery.Tenant), Priority: delivery.Priority, Time: d.clock(),
		Sequence: delivery.Sequence, Reason: string(failure.InvalidJob), Kind: failure.InvalidWorkflow, Message: invalid.Error(),
	}
	if _, err := d.q.Bury(ctx, &delivery.Message, &e, 0); err != nil {
		d.log.Warn("an invalid job could not be buried; it is delivered again", "job", id, "error", err)
		return
	}
	_, err := d.q.Append(ctx, &e, 0, d.source, "")
	if err != nil && !errors.Is(err, queue.ErrOvertaken) {
		d.log.Warn("an invalid job could not be ended; it is delivered again", "job", id, "error", err)
		return
	}
	d.finish(ctx, &delivery.Message, delivery.Lease)
	d.metrics.ended.WithLabelValues(string(job.Dead), string(failure.InvalidJob)).Inc()
	d.log.Info("refused an invalid job", "tenant", delivery.Tenant, "job", id, "why", invalid)
}

// offer asks the host's agent to take the job and reports whether the walk is over: with "accepted" the lease is
// the agent's; without an answer nobody knows, so the lease decides.
func (d *Dispatcher) offer(ctx context.Context, o *owned, s *spot, resume bool) (done bool) {
	host, attempt, asked := s.host, o.attempt, d.clock()
	reply, err := d.q.Offer(ctx, host, &queue.Offer{
		Message: o.message, Job: o.job.ID, Hash: o.job.Graph.Hash(), Attempt: attempt, Resume: resume,
		Lease: o.lease, AckWait: d.q.AckWait(), LastInChain: o.last, Quiet: s.quiet,
	})
	d.metrics.offered(reply.Answer, err)
	d.loop.answered(o, host, asked, reply, err)
	switch {
	case errors.Is(err, queue.ErrNoAgent):
		o.unfit = append(o.unfit, host)
		return false
	case err != nil:
		d.leaveToLease(ctx, o, err)
		return true
	case reply.Answer == queue.Accepted:
		return true
	case reply.Answer == queue.Busy && reply.State.Free(): // an earlier attempt of the job still lingers there
		o.unfit = append(o.unfit, host)
		o.notBefore = d.clock().Add(time.Second)
	case reply.Answer != queue.Busy:
		o.unfit = append(o.unfit, host)
		d.log.Debug("an agent would not have a job", "host", host, "job", o.job.ID, "answer", reply.Answer, "why", reply.Reason)
	}
	return false
}
