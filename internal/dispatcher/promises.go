package dispatcher

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// An agent that accepts a job promises to begin it: it appends started at once, before it fetches an input or sends
// anything. Its lease does not show that, since it can be extended for ever. So the dispatcher that
// has offered the job looks at its chain when the promise is due. A job that was not begun is offered elsewhere with the
// same lease, and the agent that begins it first has it. Its host rests (hostrests.go).

const (
	promiseLeast = 5 * time.Second // how long an agent has at least, however short AckWait is
	promiseLook  = time.Second     // between two looks at what is due
	promiseLooks = 32              // chains that are read at once
)

// promises is the jobs that agents have accepted, or may have, and that were not seen to begin.
type promises struct {
	toBegin time.Duration // how long an agent has to begin a job
	rests   *hostRests
	look    func(key idKey, p promise) // reads the chain of a job whose promise is due, and calls looked

	open    map[idKey]promise
	looking int

	early map[idKey]string // jobs that were over before their offer was answered, and the host that said so
	ring  [earlyMost]idKey // the same in the order in which they came
	next  int
}

// earlyMost is how many of these are remembered: the answer to an offer is some milliseconds late at most.
const earlyMost = 512

type promise struct {
	host     string
	answered bool
	sequence uint64
	priority job.Priority
	hash     workflow.Hash
	lease    queue.Lease
	last     uint64 // the chain's last event when it was offered
	due      time.Time
}

func (p *promise) ticket(key idKey) route.Ticket {
	return route.Ticket{
		Sequence: p.sequence, Priority: int(p.priority), Tenant: route.Tenant(key.tenant), Job: route.JobID(key.id), Hash: p.hash,
	}
}

func newPromises(p promises) *promises {
	p.open, p.early = map[idKey]promise{}, map[idKey]string{}
	return &p
}

// accepted notes that a host has accepted a job. Of one that the host has already reported as over nothing is noted:
// the answer and the end come by different ways.
func (p *promises) accepted(o *owned, host string, now time.Time) {
	key := o.key()
	if !p.rests.hasRecord(host) && p.early[key] == host {
		delete(p.early, key)
		return
	}
	p.note(o, host, true, now.Add(p.toBegin))
}

// unanswered notes that a host may have accepted a job. By the time that it is due its lease has run out, and it was
// delivered again.
func (p *promises) unanswered(o *owned, host string, now time.Time) {
	p.note(o, host, false, now.Add(2*p.toBegin))
}

func (p *promises) note(o *owned, host string, answered bool, due time.Time) {
	key := idKey{job.Tenant(strings.Clone(string(o.job.Tenant))), job.ID(strings.Clone(string(o.job.ID)))} // copies, which do not keep the whole message in memory
	p.open[key] = promise{
		host: host, answered: answered, sequence: o.job.Sequence, priority: o.job.Priority, hash: o.job.Graph.Hash(),
		lease: queue.Lease(strings.Clone(string(o.lease))), last: o.last, due: due,
	}
}

// over takes in a host's report that a job is over. The report is ignored when something counts against that host.
func (p *promises) over(host string, e *queue.EndedJob) {
	if p.rests.hasRecord(host) {
		return
	}
	key := idKey{e.Tenant, e.Job}
	if p.open[key].host == host {
		delete(p.open, key)
		return
	}
	delete(p.early, p.ring[p.next])
	key.id = job.ID(strings.Clone(string(key.id))) // a copy, which does not keep the whole message in memory
	p.ring[p.next], p.early[key] = key, host
	p.next = (p.next + 1) % earlyMost
}

// again takes in that a job is given to hosts once more: its lease has run out before it was begun.
func (p *promises) again(o *owned, now time.Time) {
	key := o.key()
	x, open := p.open[key]
	if !open || x.sequence != o.job.Sequence || x.last != o.last {
		return
	}
	delete(p.open, key)
	p.rests.notBegun(x.host, false, now)
}

// lookAtDue looks at the jobs whose time to begin is over.
func (p *promises) lookAtDue(now time.Time) {
	for key, x := range p.open {
		if p.looking >= promiseLooks {
			break
		}
		if now.Before(x.due) {
			continue
		}
		delete(p.open, key)
		p.looking++
		p.look(key, x)
	}
	p.rests.forgetOld(now)
}

// looked takes in the last event of a job that was looked at. After an error it is looked at again: NATS is away, and
// the agent could not begin the job either.
func (p *promises) looked(key idKey, x promise, last *queue.Link, err error, now time.Time) {
	p.looking--
	_, again := p.open[key]
	switch {
	case err == nil && last.ChainSequence == x.last:
		p.rests.notBegun(x.host, x.answered, now)
	case err == nil && last.Host == x.host:
		p.rests.begun(x.host, now)
	case err != nil && !again:
		x.due = now.Add(p.toBegin)
		p.open[key] = x
	}
}

// toBegin is how long an agent has to begin a job.
func (d *Dispatcher) toBegin() time.Duration { return max(d.q.AckWait(), promiseLeast) }

// lookAtPromise reads whether a job was begun, and offers it elsewhere when it was not.
func (d *Dispatcher) lookAtPromise(ctx context.Context, key idKey, p promise) {
	last, found, err := d.q.Last(ctx, key.tenant, key.id)
	d.loop.tell(func(now time.Time) { d.loop.promises.looked(key, p, &last, err, now) })
	if err != nil || !found || last.ChainSequence != p.last {
		return
	}
	d.log.Warn("a job was given to a host that has not begun it; it is offered elsewhere", "tenant", key.tenant, "job", key.id, "host", p.host)
	if err := d.takeBack(ctx, key, &p); err != nil {
		d.log.Warn("a job that was not begun could not be offered elsewhere", "tenant", key.tenant, "job", key.id, "error", err)
	}
}

// takeBack offers a job elsewhere. Its lease is extended first, so that it is not delivered again meanwhile; when that
// fails its lease decides.
func (d *Dispatcher) takeBack(ctx context.Context, key idKey, p *promise) error {
	ticket := p.ticket(key)
	lost := d.q.ExtendSurely(ctx, p.lease)
	o, err := d.readWaiting(ctx, &ticket)
	switch {
	case errors.Is(err, queue.ErrGone): // its host has acked it
		return d.cancelRemoved(ctx, &ticket)
	case errors.Is(err, errUnderWay), err == nil && o == nil, err == nil && o.last != p.last:
		return nil // another dispatcher or its agent was first
	case err != nil || lost != nil:
		return errors.Join(err, lost)
	}
	o.lease, o.unfit = p.lease, append(o.unfit, p.host)
	d.dispatch(ctx, o, d.loop.place(o))
	return nil
}
