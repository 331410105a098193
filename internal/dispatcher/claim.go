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

// claim takes a ticket that the loop has matched with a host and walks its job there.
//
// Effects in their order, and what a crash after each leaves:
//  1. the lease is extended: the ticket is still there, anyone claims it
//  2. the ticket is purged: the lease runs out after AckWait, the job is routed anew
//  3. the agent has accepted: nothing is left to do here
func (d *Dispatcher) claim(ctx context.Context, c claim) {
	o, err := d.claimAndRead(ctx, c)
	if o == nil {
		d.loop.claimLost(c)
		if err != nil {
			d.log.Warn("a ticket could not be claimed", "sequence", c.ticket.Sequence, "error", err)
		}
		return
	}
	d.loop.claimWon(c)
	if c.host == "" {
		d.endWaiting(ctx, o, c.why)
		return
	}
	d.dispatch(ctx, o, spot{host: c.host, most: c.most})
}

// claimAndRead claims the ticket and reads its job; nil without an error when another dispatcher was first, or when the
// job does not wait any more: a dispatcher that was frozen may have put the ticket after its job went elsewhere.
// What has to be read is read while the claim is under way.
//
// After an error the ticket may be claimed or not, and a server of NATS that stopped may have lost the extension of the
// lease. So the lease is extended again; otherwise the job would rest for the whole long delay without a ticket.
func (d *Dispatcher) claimAndRead(ctx context.Context, c claim) (o *owned, err error) {
	var reading errgroup.Group
	reading.Go(func() (err error) {
		o, err = d.readWaiting(ctx, &c.ticket)
		return err
	})
	ticket, won, claimErr := d.claimStored(ctx, &c)
	err = errors.Join(claimErr, reading.Wait())
	switch {
	case errors.Is(err, errUnderWay):
		return nil, nil // another dispatcher has it, and its lease decides
	case errors.Is(err, queue.ErrGone):
		return nil, d.cancelRemoved(ctx, &c.ticket)
	case err != nil && ticket.Lease != "" && (won || claimErr != nil):
		d.startLastLease(ctx, ticket.Lease)
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

// claimStored claims a ticket as it is stored now. One that is not there was claimed by another dispatcher, which the
// watch reports, or purged by hand, which the watch does not report.
func (d *Dispatcher) claimStored(ctx context.Context, c *claim) (queue.Ticket, bool, error) {
	key := keyOf(&c.ticket)
	ticket, found, _, err := d.q.Ticket(ctx, key)
	if err == nil && !found {
		gone := c.ticket
		d.loop.tell(func(now time.Time) {
			d.loop.alarms.at(now.Add(claimTold), func(time.Time) { d.loop.tickets.lapse(&gone) })
		})
	}
	if err != nil || !found {
		return ticket, false, err
	}
	if err := d.q.Extend(ticket.Lease); err != nil {
		return ticket, false, err
	}
	won, err := d.claimTicket(ctx, key, ticket.Revision)
	return ticket, won, err
}

// claimTold is the time within which the watch reports another dispatcher's claim.
const claimTold = 500 * time.Millisecond

// errUnderWay: the job's chain says that it does not wait.
var errUnderWay = errors.New("the job is under way")

// readWaiting reads a waiting job and the end of its chain; nil when it has ended, errUnderWay when it runs. The chain
// says what the next attempt is, since a ticket may be older than it.
func (d *Dispatcher) readWaiting(ctx context.Context, ticket *route.Ticket) (*owned, error) {
	link, found, err := d.q.Last(ctx, job.Tenant(ticket.Tenant), job.ID(ticket.Job))
	if err == nil && !found {
		err = errEmptyChain // a job with a ticket has events
	}
	if err != nil || link.EventKind.Terminal() {
		return nil, err
	}
	if !waits(link.EventKind) {
		return nil, errUnderWay
	}
	o, err := d.whole(ctx, ticket.Sequence, job.Tenant(ticket.Tenant), job.ID(ticket.Job))
	if err != nil {
		return nil, err
	}
	if o.last = link.ChainSequence; link.EventKind == job.Queued {
		return o, nil
	}
	return o, d.readAttempts(ctx, o)
}

// waits reports whether a job whose last event is of this kind may be offered. An unknown kind, which others with the
// right to write events may store, counts as waiting.
func waits(last job.EventKind) bool {
	return last != job.Started && last != job.Failed && !last.Terminal()
}

// endWaiting ends a job that this dispatcher owns and that will not run.
func (d *Dispatcher) endWaiting(ctx context.Context, o *owned, why ending) {
	chain, err := d.q.Chain(ctx, o.job.Tenant, o.job.ID)
	if err == nil {
		why.attempts = attemptsOf(chain)
		err = d.makeDead(ctx, o, why)
	}
	if err != nil {
		d.leaveToLease(ctx, o, err)
	}
}

// discardTicket drops the ticket of a cancelled job and acks its delivery.
func (d *Dispatcher) discardTicket(ctx context.Context, key string) {
	ticket, found, _, err := d.q.Ticket(ctx, key)
	if err != nil || !found {
		return
	}
	won, err := d.claimTicket(ctx, key, ticket.Revision)
	if err != nil {
		d.log.Debug("cannot drop the ticket of a cancelled job", "job", ticket.Job, "error", err)
	}
	if !won {
		return
	}
	switch stored, err := d.stored(ctx, ticket.Sequence, ticket.Tenant, ticket.Job); {
	case err == nil:
		d.finish(ctx, &stored.message, ticket.Lease)
	case !errors.Is(err, queue.ErrGone):
		d.finishLater(ticket.Lease, err)
	}
}
