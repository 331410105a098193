package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// What a workflow needs from a host follows from its jobs. A dispatcher that finds the ticket of a hash it has never
// seen, which is so after a start, reads one job of it before any of them may run.

const (
	readingMost  = 32          // jobs that are read at once
	readingPause = time.Second // before one is read again that could not be
)

// requirements finds out what workflows need from a host, and keeps their tickets until it is known.
type requirements struct {
	fleet  *route.Fleet
	alarms *alarms
	log    *slog.Logger
	read   func(hash workflow.Hash, sequence uint64) // reads the job that is stored there, and calls learnt
	known  func(t route.Ticket)                      // called with each ticket that may wait now
	beside func(work func(pause func() bool))        // does what may take long

	waiting map[workflow.Hash]map[uint64]route.Ticket
	toRead  []workflow.Hash
	reading int
	toMove  []workflow.Hash // known by now, and whose tickets are on their way to the waiting room
}

func newRequirements(r requirements) *requirements {
	r.waiting = map[workflow.Hash]map[uint64]route.Ticket{}
	return &r
}

// learn takes in what the workflow of a job needs that is at hand.
func (r *requirements) learn(j *job.Job) {
	if hash := j.Graph.Hash(); !r.fleet.Known(hash) {
		r.fleet.PutRequirements(hash, j.Graph.Requirements())
	}
}

// keep sets a ticket aside until its workflow's requirements are known.
func (r *requirements) keep(t route.Ticket) {
	tickets := r.waiting[t.Hash]
	if tickets == nil {
		tickets = map[uint64]route.Ticket{}
		r.waiting[t.Hash] = tickets
	}
	tickets[t.Sequence] = t
	if len(tickets) == 1 {
		r.toRead = append(r.toRead, t.Hash)
		r.readMore()
	}
}

func (r *requirements) forget(hash workflow.Hash, sequence uint64) {
	delete(r.waiting[hash], sequence)
	if len(r.waiting[hash]) == 0 {
		delete(r.waiting, hash)
	}
}

// each visits the tickets that are kept, until visit returns false.
func (r *requirements) each(visit func(*route.Ticket) bool) {
	for _, tickets := range r.waiting {
		for _, t := range tickets {
			if !visit(&t) {
				return
			}
		}
	}
}

func (r *requirements) readMore() {
	for r.reading < readingMost && len(r.toRead) > 0 {
		hash := r.toRead[0]
		r.toRead = r.toRead[1:]
		sequence, waits := anyOf(r.waiting[hash])
		if !waits {
			continue // all of them went elsewhere
		}
		r.reading++
		r.read(hash, sequence)
	}
}

func anyOf(tickets map[uint64]route.Ticket) (sequence uint64, found bool) {
	for sequence := range tickets {
		return sequence, true
	}
	return 0, false
}

// learnt takes in what was read of a job, and lets the tickets of its hash wait. When the job is gone only its own
// ticket waits, where the next claim clears it away, and another job is read.
func (r *requirements) learnt(hash workflow.Hash, sequence uint64, needs workflow.Requirements, err error, now time.Time) {
	r.reading--
	defer r.readMore()
	tickets := r.waiting[hash]
	switch {
	case err == nil:
		r.fleet.PutRequirements(hash, needs)
		if r.toMove = append(r.toMove, hash); len(r.toMove) == 1 {
			r.beside(r.move)
		}
	case errors.Is(err, queue.ErrGone) || errors.Is(err, errNoJob):
		gone, found := tickets[sequence]
		r.forget(hash, sequence)
		r.toRead = append(r.toRead, hash)
		if found {
			r.known(gone)
		}
	default:
		r.log.Debug("cannot read a waiting job", "hash", hash.Short(), "error", err)
		r.alarms.at(now.Add(readingPause), func(time.Time) {
			r.toRead = append(r.toRead, hash)
			r.readMore()
		})
	}
}

// move brings tickets to the waiting room whose workflows are known by now. There may be very many of one workflow.
func (r *requirements) move(pause func() bool) {
	for ; len(r.toMove) > 0; r.toMove = r.toMove[1:] {
		hash := r.toMove[0]
		for len(r.waiting[hash]) > 0 {
			for sequence, t := range r.waiting[hash] {
				r.forget(hash, sequence)
				if r.known(t); !pause() {
					return
				}
			}
		}
	}
}

// errNoJob: what is stored at a ticket's sequence is no job.
var errNoJob = errors.New("not a job")

// learn reads what the job that is stored at a sequence needs from a host.
func (d *Dispatcher) learn(ctx context.Context, hash workflow.Hash, sequence uint64) {
	needs, err := d.readRequirements(ctx, sequence)
	d.loop.tell(func(now time.Time) { d.loop.needs.learnt(hash, sequence, needs, err, now) })
}

func (d *Dispatcher) readRequirements(ctx context.Context, sequence uint64) (workflow.Requirements, error) {
	message, err := d.q.Stored(ctx, sequence)
	if err != nil {
		return workflow.Requirements{}, err
	}
	j, _, err := d.parse(ctx, message)
	if invalid := (*job.Invalid)(nil); err != nil && !errors.As(err, &invalid) {
		return workflow.Requirements{}, err
	}
	if err != nil {
		return workflow.Requirements{}, errors.Join(errNoJob, err)
	}
	return j.Graph.Requirements(), nil
}
