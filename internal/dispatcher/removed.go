package dispatcher

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A job may be taken out of COMFY_JOBS by hand: deleted, purged with its lane, or gone with the whole stream. Then its
// ticket stands for no job. Several times a minute every dispatcher compares what waits with what is stored, and ends
// such jobs as cancelled by the operator. It looks at each ticket of a lane that has fewer jobs in the stream than are
// known of, and at some tickets of all other lanes, since new jobs may make up for a removed one in the count.

const (
	removedLook   = 15 * time.Second
	removedSample = 1000 // tickets that a look may read although their lane is whole
	removedBatch  = 128  // that are read before others are looked for
	removedPlaces = 4096 // that are passed over at a time
)

// removedJobs finds tickets whose jobs are not stored any more.
type removedJobs struct {
	room    *route.Room
	fleet   *route.Fleet
	hand    *hand
	peers   *peers
	tickets *tickets
	count   func()                                  // counts what is stored, and calls counted
	read    func(list []route.Ticket, since uint64) // looks at each of some tickets, and then calls goOn

	running bool
	at      int // where it goes on; each look begins where the one before ended its samples
	left    int // places to go
	sample  int // tickets that may be read although their lane is whole
	short   map[job.Lane]bool
	since   uint64 // tickets of an older revision are gone, although the watch has not reported it
}

// begin begins a look, unless one is under way.
func (r *removedJobs) begin() {
	if !r.running && r.tickets.len() > 0 {
		r.running = true
		r.count()
	}
}

// counted takes in how many jobs of each lane are stored.
func (r *removedJobs) counted(stored map[job.Lane]uint64, since uint64, now time.Time) {
	r.short, r.sample = r.shortLanes(stored, now), removedSample
	r.left, r.since = r.room.Places(), since
	r.goOn()
}

// failed takes in that it could not be counted.
func (r *removedJobs) failed() { r.running = false }

// shortLanes are those of which more jobs wait or run than are stored.
func (r *removedJobs) shortLanes(stored map[job.Lane]uint64, now time.Time) map[job.Lane]bool {
	short := map[job.Lane]bool{}
	for _, l := range r.room.Lanes(r.fleet, now) {
		lane := job.Lane{Tenant: job.Tenant(l.Tenant), Priority: job.Priority(l.Priority)}
		if uint64(l.Depth+l.Running) > stored[lane] {
			short[lane] = true
		}
	}
	return short
}

// goOn reads the jobs of the next tickets that may stand for no job.
func (r *removedJobs) goOn() {
	var doubtful, lapsed []route.Ticket
	visit := func(t *route.Ticket, _ route.Alike) {
		switch r.judge(t) {
		case ticketDoubtful:
			doubtful = append(doubtful, *t)
		case ticketLapsed:
			lapsed = append(lapsed, *t)
		case ticketFine:
		}
	}
	for passed := 0; r.left > 0 && passed < removedPlaces && len(doubtful) < removedBatch; {
		from := r.at
		r.at = r.room.Some(r.at, min(removedBatch/4, r.left), visit)
		if r.at < 0 {
			r.at, r.left = 0, r.left-max(r.room.Places()-from, 1)
			continue
		}
		r.left -= r.at - from
		passed += r.at - from
	}
	for i := range lapsed {
		r.tickets.lapse(&lapsed[i])
	}
	if len(doubtful) == 0 && r.left <= 0 {
		r.running = false
		return
	}
	r.read(doubtful, r.since)
}

// doubt is what a ticket looks like without its job being read.
type doubt int

const (
	ticketFine     doubt = iota
	ticketDoubtful       // its job has to be read
	ticketLapsed         // it is gone, and its home reads the job
)

func (r *removedJobs) judge(t *route.Ticket) doubt {
	if r.hand.has(t.Sequence) {
		return ticketFine
	}
	home, old := r.peers.isTicketHome(t), t.Revision != 0 && t.Revision < r.since
	switch short := r.short[job.Lane{Tenant: job.Tenant(t.Tenant), Priority: job.Priority(t.Priority)}]; {
	case old && !home:
		return ticketLapsed
	case old || home && short:
		return ticketDoubtful
	case !home || r.sample == 0:
		return ticketFine
	}
	r.sample--
	return ticketDoubtful
}

// countRemoved counts the stored jobs of each lane.
func (d *Dispatcher) countRemoved(ctx context.Context) {
	stored, err := d.q.Depth(ctx)
	log, unknown := d.q.TicketLog(ctx)
	err = errors.Join(err, unknown)
	if err != nil {
		d.log.Debug("cannot count the jobs of the lanes", "error", err)
	}
	d.loop.tell(func(now time.Time) {
		if err != nil {
			d.loop.removed.failed()
			return
		}
		d.loop.ticketing.forgetGone(stored)
		d.loop.removed.counted(stored, log.First, now)
	})
}

// lookAtTickets looks at some tickets.
func (d *Dispatcher) lookAtTickets(ctx context.Context, list []route.Ticket, since uint64) {
	var reading errgroup.Group
	reading.SetLimit(16)
	for _, t := range list {
		reading.Go(func() error { return d.lookAtTicket(ctx, &t, since) })
	}
	if err := reading.Wait(); err != nil {
		d.log.Debug("cannot look whether waiting jobs are stored", "error", err)
	}
	d.loop.tell(func(time.Time) { d.loop.removed.goOn() })
}

// lookAtTicket ends the job of a ticket when the job is not stored any more. When the job is stored and the ticket is gone, the
// job is delivered again when its rest is over.
func (d *Dispatcher) lookAtTicket(ctx context.Context, t *route.Ticket, since uint64) error {
	_, err := d.stored(ctx, t.Sequence, job.Tenant(t.Tenant), job.ID(t.Job))
	switch {
	case errors.Is(err, queue.ErrGone):
		return d.cancelRemoved(ctx, t)
	case err == nil && t.Revision < since:
		d.loop.tell(func(time.Time) { d.loop.tickets.lapse(t) })
	}
	return err
}

// endReplaced ends the job of a ticket at whose sequence another job is stored.
func (d *Dispatcher) endReplaced(ctx context.Context, old *route.Ticket) {
	if err := d.cancelRemoved(ctx, old); err != nil {
		d.log.Warn("a job of an older stream could not be ended", "tenant", old.Tenant, "job", old.Job, "error", err)
	}
}

// continueChain goes on with the chain of a job whose earlier publish is not stored any more: from now on it is this one's.
func (d *Dispatcher) continueChain(ctx context.Context, o *owned, last *queue.Link) error {
	if !waits(last.EventKind) {
		return nil
	}
	e := d.queuedEvent(o)
	sequence, err := d.q.Append(ctx, &e, last.ChainSequence, d.source, "")
	if err == nil {
		o.last = sequence
	}
	return err
}

// cancelRemoved ends a waiting job that was taken out of the stream: its chain first, so that a crash leaves
// a ticket, which is looked at again. Its delivery is not acked: in a stream that was made again the ack might be
// another job's.
func (d *Dispatcher) cancelRemoved(ctx context.Context, t *route.Ticket) error {
	tenant, id := job.Tenant(t.Tenant), job.ID(t.Job)
	last, found, err := d.q.Last(ctx, tenant, id)
	if err != nil {
		return err
	}
	queued, _, err := d.q.LastOf(ctx, tenant, id, job.Queued)
	if err != nil {
		return err
	}
	again := queued.Sequence != 0 && queued.Sequence != t.Sequence // it was published again, and that is stored
	if found && !waits(last.EventKind) && !last.EventKind.Terminal() && !again {
		return nil // an agent has it
	}
	if !last.EventKind.Terminal() && !again {
		e := job.Event{
			EventKind: job.Cancelled, Job: id, Tenant: tenant, Priority: job.Priority(t.Priority), Hash: t.Hash, Time: d.clock(),
			Name: last.Name, Metadata: last.Metadata, RequeueOf: last.RequeueOf, Webhook: last.Webhook, Traceparent: last.Traceparent,
			By: "operator", Message: "it was taken out of " + names.JobsStream,
		}
		if _, err := d.q.Append(ctx, &e, last.ChainSequence, d.source, ""); err != nil {
			return err
		}
		d.log.Warn("a waiting job was taken out of the stream; it is cancelled", "tenant", tenant, "job", id)
	}
	stored, found, _, err := d.q.Ticket(ctx, keyOf(t))
	if err == nil && !found {
		gone := *t
		d.loop.tell(func(time.Time) { d.loop.tickets.lapse(&gone) })
	}
	if err != nil || !found || stored.Job != id {
		return err
	}
	_, err = d.claimTicket(ctx, keyOf(t), stored.Revision)
	return err
}
