package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// What a workflow needs from a host stands in its jobs. A dispatcher that finds the ticket of a hash it has never
// seen, which is so after a start, reads one job of it before any of them may run.

const (
	learnMost  = 32          // jobs that are read at once
	learnPause = time.Second // before one is read again that could not be
)

// keepUnlearnt sets a ticket aside until its hash is known.
func (b *brain) keepUnlearnt(t route.Ticket) {
	tickets := b.unlearnt[t.Hash]
	if tickets == nil {
		tickets = map[uint64]route.Ticket{}
		b.unlearnt[t.Hash] = tickets
	}
	tickets[t.Sequence] = t
	if len(tickets) == 1 {
		b.toLearn = append(b.toLearn, t.Hash)
		b.learnMore()
	}
}

func (b *brain) forgetUnlearnt(hash workflow.Hash, sequence uint64) {
	delete(b.unlearnt[hash], sequence)
	if len(b.unlearnt[hash]) == 0 {
		delete(b.unlearnt, hash)
	}
}

func (b *brain) learnMore() {
	for b.learning < learnMost && len(b.toLearn) > 0 {
		hash := b.toLearn[0]
		b.toLearn = b.toLearn[1:]
		sequence, waits := anyOf(b.unlearnt[hash])
		if !waits {
			continue // all of them went elsewhere
		}
		b.learning++
		b.walk(func(ctx context.Context) {
			needs, err := b.d.requirements(ctx, sequence)
			b.tell(func(now time.Time) {
				b.learning--
				b.learnt(hash, sequence, needs, err, now)
				b.learnMore()
			})
		})
	}
}

func anyOf(tickets map[uint64]route.Ticket) (sequence uint64, found bool) {
	for sequence := range tickets {
		return sequence, true
	}
	return 0, false
}

// learnt lets the tickets of a hash into the waiting room. When its job is gone only that ticket goes there, where
// the next claim clears it away, and another job is read.
func (b *brain) learnt(hash workflow.Hash, sequence uint64, needs workflow.Requirements, err error, now time.Time) {
	tickets := b.unlearnt[hash]
	switch {
	case err == nil:
		b.fleet.PutRequirements(hash, needs)
		delete(b.unlearnt, hash)
	case errors.Is(err, queue.ErrGone) || errors.Is(err, errNoJob):
		gone, stands := tickets[sequence]
		if tickets = nil; stands {
			tickets = map[uint64]route.Ticket{sequence: gone}
		}
		b.forgetUnlearnt(hash, sequence)
		b.toLearn = append(b.toLearn, hash)
	default:
		b.d.log.Debug("cannot read a waiting job", "hash", hash.Short(), "error", err)
		b.at(now.Add(learnPause), func(time.Time) {
			b.toLearn = append(b.toLearn, hash)
			b.learnMore()
		})
		return
	}
	for _, t := range tickets {
		b.waiting.Put(t)
	}
	b.dirty, b.review = true, true
}

// errNoJob: what is stored at a ticket's sequence is no job.
var errNoJob = errors.New("not a job")

// requirements reads what a stored job needs from a host.
func (d *Dispatcher) requirements(ctx context.Context, sequence uint64) (workflow.Requirements, error) {
	message, err := d.q.Stored(ctx, sequence)
	if err != nil {
		return workflow.Requirements{}, err
	}
	j, err := job.Parse(message)
	if err != nil {
		return workflow.Requirements{}, errors.Join(errNoJob, err)
	}
	return j.Graph.Requirements(), nil
}
