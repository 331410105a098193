package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// An agent that accepts a job promises to begin it: it appends started at once, before it fetches an input or sends
// anything. Its lease says nothing of that, since whoever has a lease may extend it for ever. So the dispatcher that has
// heard a job accepted looks at its chain when the promise is due. Of a job that was not begun the offer is void: it is
// offered elsewhere with the same lease, and whoever begins it first has it. Its host rests, for longer each time.

const (
	promiseLeast = 5 * time.Second // how long an agent has at least, however short AckWait is
	promiseLook  = time.Second     // between two looks at what is due
	promiseLooks = 32              // chains that are read at once
	restLongest  = 15 * time.Minute
)

// promise is a job that an agent has accepted, or may have, and that was not seen to begin.
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

// record is what is held against a host.
type record struct {
	broken int // promises since it last kept one
	doubts int // leases that ran out, or offers without an answer, since then
	level  int // rests since then
	until  time.Time
}

// doubtsMost is how many doubts are as good as a broken promise: a host that was merely frozen, or cut off, has few.
const doubtsMost = 3

func (r *record) text() string {
	if n := r.broken + r.doubts; n > 1 {
		return fmt.Sprintf("%d jobs were given to it, and it has begun none of them", n)
	}
	return "it has accepted a job and not begun it"
}

// promises belong to the brain.
type promises struct {
	open    map[idKey]promise
	records map[string]*record // by host
	looking int

	early map[idKey]string // jobs whose end was told before their answer was heard, and by which host
	ring  [earlyMost]idKey // the same in the order in which they came
	next  int
}

// earlyMost is how many ends are remembered: the answer to an offer is some milliseconds late at most.
const earlyMost = 512

func newPromises() promises {
	return promises{open: map[idKey]promise{}, records: map[string]*record{}, early: map[idKey]string{}}
}

// make notes that a job was offered to a host which has accepted it, or has not answered.
func (p *promises) make(o *owned, host string, answered bool, due time.Time) {
	key := idKey{job.Tenant(strings.Clone(string(o.job.Tenant))), job.ID(strings.Clone(string(o.job.ID)))} // without the message that they came in
	p.open[key] = promise{
		host: host, answered: answered, sequence: o.job.Sequence, priority: o.job.Priority, hash: o.job.Graph.Hash(),
		lease: queue.Lease(strings.Clone(string(o.lease))), last: o.last, due: due,
	}
}

// ended takes a host's word that a job is over, unless something is held against it.
func (p *promises) ended(host string, e *queue.EndedJob) {
	if p.records[host] != nil {
		return
	}
	key := idKey{e.Tenant, e.Job}
	if p.open[key].host == host {
		delete(p.open, key)
		return
	}
	delete(p.early, p.ring[p.next])
	key.id = job.ID(strings.Clone(string(key.id))) // without the message that it came in
	p.ring[p.next], p.early[key] = key, host
	p.next = (p.next + 1) % earlyMost
}

// kept forgets what is held against a host that takes jobs and has begun one.
func (p *promises) kept(host string, now time.Time) {
	if r := p.records[host]; r != nil && !now.Before(r.until) {
		delete(p.records, host)
	}
}

// rest is the record of a host that rests now; nil when it does not.
func (p *promises) rest(host string, now time.Time) *record {
	if r := p.records[host]; r != nil && now.Before(r.until) {
		return r
	}
	return nil
}

// restingIn says that a host which calls itself online is given nothing.
func (p *promises) restingIn(s *route.HostState, now time.Time) {
	if r := p.rest(string(s.ID), now); r != nil && s.State == route.Online {
		s.State, s.Until, s.Why = route.Resting, r.until, r.text()
	}
}

// promised is told of an offer that was accepted, or not answered. Of a job whose end its host has told already nothing
// is noted, since the answer and the end come by different ways.
func (b *brain) promised(o *owned, host string, err error, now time.Time) {
	due := now.Add(b.toBegin())
	if err != nil {
		b.promises.make(o, host, false, due.Add(b.toBegin())) // by then its lease has run out, and it was delivered again
		return
	}
	key := idKey{o.job.Tenant, o.job.ID}
	if b.promises.records[host] == nil && b.promises.early[key] == host {
		delete(b.promises.early, key)
		return
	}
	b.promises.make(o, host, true, due)
}

// toBegin is how long an agent has to begin a job.
func (b *brain) toBegin() time.Duration { return max(b.d.q.AckWait(), promiseLeast) }

// lookAtPromises reads the chains of the jobs whose time to begin is over.
func (b *brain) lookAtPromises(now time.Time) {
	for key, p := range b.promises.open {
		if b.promises.looking >= promiseLooks {
			break
		}
		if now.Before(p.due) {
			continue
		}
		delete(b.promises.open, key)
		b.promises.looking++
		b.walk(func(ctx context.Context) { b.d.lookAtPromise(ctx, key, p) })
	}
	for host, r := range b.promises.records {
		if now.After(r.until.Add(restLongest)) {
			delete(b.promises.records, host)
		}
	}
}

// returned hears that a job is given to hosts anew, since its lease has run out before it was begun.
func (b *brain) returned(o *owned, now time.Time) {
	key := idKey{o.job.Tenant, o.job.ID}
	p, open := b.promises.open[key]
	if !open || p.sequence != o.job.Sequence || p.last != o.last {
		return
	}
	delete(b.promises.open, key)
	b.hold(p.host, false, now)
}

// hold holds a job against its host that was not begun, and has the host rest. Jobs that it has taken before the rest are
// no further offence.
func (b *brain) hold(host string, broken bool, now time.Time) {
	r := b.promises.records[host]
	if r == nil {
		r = &record{until: now}
		b.promises.records[host] = r
	}
	if broken {
		r.broken++
	} else {
		r.doubts++
	}
	if !now.Before(r.until) && (broken || r.doubts >= doubtsMost) {
		pause := min(b.toBegin()<<min(r.level, 16), restLongest)
		r.level++
		r.until = now.Add(pause)
		b.d.log.Warn("a host rests: it was given jobs and has not begun them", "host", host, "for", pause)
		b.at(r.until, func(time.Time) { b.showHost(host) })
	}
	b.showHost(host)
}

// showHost tells the fleet of a host anew.
func (b *brain) showHost(host string) {
	if h := b.hosts[host]; h != nil {
		b.putHost(h)
		b.dirtyHosts[route.HostID(host)] = true
		b.review = true
	}
}

// lookAtPromise reads whether a job was begun, and offers it elsewhere when it was not.
func (d *Dispatcher) lookAtPromise(ctx context.Context, key idKey, p promise) {
	link, found, err := d.q.Last(ctx, key.tenant, key.id)
	void := err == nil && found && link.ChainSequence == p.last
	d.brain.tell(func(now time.Time) {
		b := d.brain
		b.promises.looking--
		_, again := b.promises.open[key]
		switch {
		case void:
			b.hold(p.host, p.answered, now)
		case err == nil && link.Host == p.host:
			b.promises.kept(p.host, now)
		case err != nil && !again: // NATS is away: the agent could not begin it either
			p.due = now.Add(b.toBegin())
			b.promises.open[key] = p
		}
	})
	if !void {
		return
	}
	d.log.Warn("a job was given to a host that has not begun it; it is offered elsewhere", "tenant", key.tenant, "job", key.id, "host", p.host)
	if err := d.void(ctx, key, &p); err != nil {
		d.log.Warn("a job that was not begun could not be offered elsewhere", "tenant", key.tenant, "job", key.id, "error", err)
	}
}

// void takes a job back. Its lease is extended first, so that it is not delivered again meanwhile; when that fails its
// lease decides.
func (d *Dispatcher) void(ctx context.Context, key idKey, p *promise) error {
	ticket := p.ticket(key)
	lost := d.q.ExtendSurely(ctx, p.lease)
	o, err := d.pickUp(ctx, &ticket)
	switch {
	case errors.Is(err, queue.ErrGone): // its host has acked it
		return d.cancelRemoved(ctx, &ticket)
	case errors.Is(err, errUnderWay), err == nil && o == nil, err == nil && o.last != p.last:
		return nil // somebody was quicker
	case err != nil || lost != nil:
		return errors.Join(err, lost)
	}
	o.lease, o.unfit = p.lease, append(o.unfit, p.host)
	d.dispatch(ctx, o, d.brain.place(o))
	return nil
}
