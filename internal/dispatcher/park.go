package dispatcher

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// wait keeps a job that got no host: in hand for a moment when hosts are merely busy, parked otherwise, or left to rest
// when its tenant has as many tickets as it may.
func (d *Dispatcher) wait(ctx context.Context, o *owned, s spot) {
	if s.hold == nil && !s.elsewhere {
		d.brain.keep(o)
		return
	}
	if !d.brain.admit(o) {
		d.letRest(ctx, o)
		return
	}
	defer d.brain.admitted(o.job.Tenant)
	if s.hold != nil && !d.tellWaiting(ctx, o, s.hold) {
		d.revisit(ctx, o) // somebody has cancelled it, most likely
		return
	}
	ticket := d.ticket(o)
	d.park(ctx, o, &ticket)
}

// tellWaiting appends why no host may take the job, once for each reason. It reports false when the chain has moved
// on; an event that could not be stored for another reason is told by the next review.
func (d *Dispatcher) tellWaiting(ctx context.Context, o *owned, hold *route.Hold) bool {
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
		d.leave(ctx, o, err)
		return
	}
	d.metrics.parked.Inc()
	if err := d.q.Park(o.lease, jittered(d.cfg.Park)); err != nil {
		d.leave(ctx, o, err)
	}
}

// claim takes a ticket that the brain matched with a host and walks its job there.
//
// Effects in their order, and what a crash after each leaves:
//  1. the lease is extended: the ticket stands, anyone claims it
//  2. the ticket is purged: the lease runs out after AckWait, the job is routed anew
//  3. the agent has accepted: nothing is left to do here
func (d *Dispatcher) claim(ctx context.Context, c claimed) {
	o, err := d.take(ctx, c)
	if o == nil {
		d.brain.lost(c)
		if err != nil {
			d.log.Warn("a ticket could not be claimed", "sequence", c.ticket.Sequence, "error", err)
		}
		return
	}
	d.brain.won(c)
	if c.host == "" {
		d.expire(ctx, o, c.why)
		return
	}
	d.dispatch(ctx, o, spot{host: c.host, most: c.most})
}

// take claims the ticket and reads its job; nil without an error when another dispatcher was first, or when the
// job does not wait any more: a dispatcher that was frozen may have put the ticket after its job went elsewhere.
// What has to be read is read while the claim is under way.
//
// After an error nobody knows whether the ticket is claimed, and the extension may be lost with NATS's last moments:
// the lease is extended again, or the job would rest for the whole long delay without a ticket.
func (d *Dispatcher) take(ctx context.Context, c claimed) (o *owned, err error) {
	var reading errgroup.Group
	reading.Go(func() (err error) {
		o, err = d.pickUp(ctx, &c.ticket)
		return err
	})
	ticket, won, claimErr := d.win(ctx, &c)
	err = errors.Join(claimErr, reading.Wait())
	switch {
	case errors.Is(err, errUnderWay):
		return nil, nil // the lease of whoever has it decides
	case errors.Is(err, queue.ErrGone):
		return nil, d.cancelRemoved(ctx, &c.ticket)
	case err != nil && ticket.Lease != "" && (won || claimErr != nil):
		d.secure(ctx, ticket.Lease)
		return nil, err
	case err != nil || !won:
		return nil, err
	case o == nil: // the job has ended
		d.finishStored(ctx, idKey{ticket.Tenant, ticket.Job}, ticket.Sequence, ticket.Lease)
		return nil, nil
	}
	o.lease = ticket.Lease
	return o, nil
}

// win claims a ticket as it stands now. One that is not there was claimed by another dispatcher, which the watch tells,
// or purged by hand, which it does not.
func (d *Dispatcher) win(ctx context.Context, c *claimed) (queue.Ticket, bool, error) {
	key := c.key()
	ticket, found, _, err := d.q.Ticket(ctx, key)
	if err == nil && !found {
		gone := c.ticket
		d.brain.tell(func(now time.Time) {
			d.brain.at(now.Add(claimTold), func(time.Time) { d.brain.dropTicket(&gone) })
		})
	}
	if err != nil || !found {
		return ticket, false, err
	}
	if err := d.q.Extend(ticket.Lease); err != nil {
		return ticket, false, err
	}
	won, err := d.q.Claim(ctx, key, ticket.Revision)
	return ticket, won, err
}

// claimTold is within which time the watch tells of another dispatcher's claim.
const claimTold = 500 * time.Millisecond

// errUnderWay: the job's chain says that it does not wait.
var errUnderWay = errors.New("the job is under way")

// pickUp reads a waiting job and where its chain stands; nil when it has ended, errUnderWay when it runs. The chain
// says what the next attempt is, since a ticket may be older than it.
func (d *Dispatcher) pickUp(ctx context.Context, ticket *route.Ticket) (*owned, error) {
	link, found, err := d.q.Last(ctx, job.Tenant(ticket.Tenant), job.ID(ticket.Job))
	if err == nil && !found {
		err = errEmptyChain // a ticket has a chain: a copy of the stream that is behind has answered
	}
	if err != nil || link.EventKind.Terminal() {
		return nil, err
	}
	if !waits(link.EventKind) {
		return nil, errUnderWay
	}
	stored, err := d.stored(ctx, ticket.Sequence, job.Tenant(ticket.Tenant), job.ID(ticket.Job))
	if err != nil {
		return nil, err
	}
	j := stored.job
	o := &owned{job: j, message: stored.message, last: link.ChainSequence, attempt: 1, notBefore: j.NotBefore(), taken: d.clock()}
	if link.EventKind == job.Queued {
		return o, nil
	}
	return o, d.recall(ctx, o)
}

// waits reports whether a job whose last event is of this kind may be offered; also one of a kind that somebody else
// has made up.
func waits(last job.EventKind) bool {
	return last != job.Started && last != job.Failed && !last.Terminal()
}
