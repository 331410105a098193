package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A job may be taken out of COMFY_JOBS by hand: deleted, purged with its lane, or gone with the whole stream. Its ticket
// then stands for nothing. Several times a minute every dispatcher compares what waits with what is stored, and ends
// such jobs as cancelled by the operator. It looks at each ticket of a lane that has fewer jobs in the stream than are
// known of, and at some of all others, so that one is found that new jobs make up for in the count.

const (
	removedLook   = 15 * time.Second
	removedSample = 1000 // tickets that a look may read although their lane is whole
	removedBatch  = 128  // that are read before others are looked for
	removedPlaces = 4096 // that are passed over at a time
)

// removedSweep is a look under way; the brain's loop owns it.
type removedSweep struct {
	running bool
	at      int // where it goes on; each look begins where the one before ended its samples
	left    int // places to go
	sample  int // tickets that may be read although their lane is whole
	short   map[job.Lane]bool
	since   uint64 // tickets of an older revision are gone, though nobody was told
}

// lookForRemoved begins a look.
func (b *brain) lookForRemoved(time.Time) {
	if b.removed.running || !b.isSynced.Load() || b.waiting.Len() == len(b.hand) {
		return
	}
	b.removed.running = true
	b.walk(func(ctx context.Context) {
		stored, err := b.d.q.Depth(ctx)
		since, unseen := b.d.q.TicketsSince(ctx)
		err = errors.Join(err, unseen)
		b.tell(func(now time.Time) {
			if err != nil {
				b.d.log.Debug("count the jobs of the lanes", "error", err)
				b.removed.running = false
				return
			}
			b.removed.short, b.removed.sample = b.shortLanes(stored, now), removedSample
			b.removed.left, b.removed.since = b.waiting.Places(), since
			b.admission.forgetGone(stored)
			b.lookOn(now)
		})
	})
}

// shortLanes are those of which more jobs wait or run than are stored.
func (b *brain) shortLanes(stored map[job.Lane]uint64, now time.Time) map[job.Lane]bool {
	short := map[job.Lane]bool{}
	for _, l := range b.waiting.Lanes(b.fleet, now) {
		lane := job.Lane{Tenant: job.Tenant(l.Tenant), Priority: job.Priority(l.Priority)}
		if uint64(l.Depth+l.Running) > stored[lane] {
			short[lane] = true
		}
	}
	return short
}

// lookOn reads the next tickets that may stand for nothing.
func (b *brain) lookOn(time.Time) {
	var doubtful, purged []route.Ticket
	s := &b.removed
	for passed := 0; s.left > 0 && passed < removedPlaces && len(doubtful) < removedBatch; {
		from := s.at
		s.at = b.waiting.Some(s.at, min(removedBatch/4, s.left), func(t *route.Ticket, _ route.Alike) {
			short := s.short[job.Lane{Tenant: job.Tenant(t.Tenant), Priority: job.Priority(t.Priority)}]
			home, lost := b.ticketHome(t), t.Revision != 0 && t.Revision < s.since
			switch {
			case b.hand[t.Sequence] != nil:
				return
			case lost && !home:
				purged = append(purged, *t)
				return
			case lost:
				doubtful = append(doubtful, *t)
				return
			case !home || !short && s.sample == 0:
				return
			}
			if !short {
				s.sample--
			}
			doubtful = append(doubtful, *t)
		})
		if s.at < 0 {
			s.at, s.left = 0, s.left-max(b.waiting.Places()-from, 1)
			continue
		}
		s.left -= s.at - from
		passed += s.at - from
	}
	for i := range purged {
		b.dropTicket(&purged[i])
	}
	if len(doubtful) == 0 && s.left <= 0 {
		s.running = false
		return
	}
	since := s.since
	b.walk(func(ctx context.Context) {
		var reading errgroup.Group
		reading.SetLimit(16)
		for _, t := range doubtful {
			reading.Go(func() error { return b.d.lookAtTicket(ctx, &t, since) })
		}
		if err := reading.Wait(); err != nil {
			b.d.log.Debug("look whether waiting jobs are stored", "error", err)
		}
		b.tell(b.lookOn)
	})
}

// lookAtTicket ends the job of a ticket when it is not stored any more. A job that is, and whose ticket is gone, comes
// back when its rest is over.
func (d *Dispatcher) lookAtTicket(ctx context.Context, t *route.Ticket, since uint64) error {
	_, err := d.stored(ctx, t.Sequence, job.Tenant(t.Tenant), job.ID(t.Job))
	switch {
	case errors.Is(err, queue.ErrGone):
		return d.cancelRemoved(ctx, t)
	case err == nil && t.Revision < since:
		d.brain.tell(func(time.Time) { d.brain.dropTicket(t) })
	}
	return err
}

// dropTicket forgets a ticket that is gone without a word, unless a newer one was heard of.
func (b *brain) dropTicket(t *route.Ticket) {
	if now, waits := b.waiting.Get(t.Sequence); b.hand[t.Sequence] != nil || waits && now.Revision > t.Revision {
		return
	}
	b.waiting.Remove(t.Sequence)
	delete(b.claiming, t.Sequence)
	delete(b.holds, t.Sequence)
	delete(b.due, t.Sequence)
}

// stored reads the job that a ticket or chain names. When another is stored at its sequence, since the stream was made
// again, it is gone.
func (d *Dispatcher) stored(ctx context.Context, sequence uint64, tenant job.Tenant, id job.ID) (storedJob, error) {
	message, err := d.q.Stored(ctx, sequence)
	if err != nil {
		return storedJob{}, err
	}
	j, err := job.Parse(message)
	if err != nil || j.Tenant != tenant || j.ID != id {
		return storedJob{}, fmt.Errorf("read job %s at %d: another is there: %w", id, sequence, queue.ErrGone)
	}
	return storedJob{j, message}, nil
}

// evict ends the job of a ticket at whose sequence another job is stored.
func (b *brain) evict(sequence uint64, tenant route.Tenant, id route.JobID) {
	old, found := b.waiting.Get(sequence)
	if !found || old.Job == id && old.Tenant == tenant {
		return
	}
	b.waiting.Remove(sequence)
	delete(b.holds, sequence)
	b.walk(func(ctx context.Context) {
		if err := b.d.cancelRemoved(ctx, &old); err != nil {
			b.d.log.Warn("a job of an older stream could not be ended", "tenant", old.Tenant, "job", old.Job, "error", err)
		}
	})
}

// takeOver continues the chain of a job whose former publish is not stored any more with this one.
func (d *Dispatcher) takeOver(ctx context.Context, o *owned, last *queue.Link) error {
	if !waits(last.EventKind) {
		return nil
	}
	e := o.job.NewEvent(job.Queued, d.clock())
	e.Sequence = o.job.Sequence
	sequence, err := d.q.Append(ctx, &e, last.ChainSequence, d.source, "")
	if err == nil {
		o.last = sequence
	}
	return err
}

type storedJob struct {
	job     *job.Job
	message job.Message
}

// cancelRemoved ends a job that waits and that somebody took out of the stream: its chain first, so that a crash leaves
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
			Metadata: last.Metadata, RequeueOf: last.RequeueOf, By: "operator", Message: "it was taken out of " + names.JobsStream,
		}
		if _, err := d.q.Append(ctx, &e, last.ChainSequence, d.source, ""); err != nil {
			return err
		}
		d.metrics.ended.WithLabelValues(string(job.Cancelled), "operator").Inc()
		d.log.Warn("a waiting job was taken out of the stream; it is cancelled", "tenant", tenant, "job", id)
	}
	standing, found, _, err := d.q.Ticket(ctx, keyOf(t))
	if err == nil && !found {
		gone := *t
		d.brain.tell(func(time.Time) { d.brain.dropTicket(&gone) })
	}
	if err != nil || !found || standing.Job != id {
		return err
	}
	_, err = d.q.Claim(ctx, keyOf(t), standing.Revision)
	return err
}
