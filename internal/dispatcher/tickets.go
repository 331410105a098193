package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// hearTicket mirrors the waiting room.
func (b *brain) hearTicket(c queue.Change) {
	b.mirror(ticketSource, c, func(c queue.Change, now time.Time) {
		t, ok := queue.TicketOf(c)
		why := "it is no ticket"
		if ok {
			why = oddTicket(&t)
		}
		if why != "" {
			b.odd.tell(b.d.log, names.WaitingBucket, c.Key, why)
			return
		}
		b.putTicket(b.inTurn(routeTicket(&t), now))
	}, func(c queue.Change, _ time.Time) {
		if t, ok := queue.TicketOf(c); ok && b.hand[t.Sequence] == nil {
			b.waiting.Remove(t.Sequence)
			delete(b.claiming, t.Sequence)
			delete(b.holds, t.Sequence)
			delete(b.due, t.Sequence)
			b.forgetUnlearnt(t.Hash, t.Sequence)
		}
	}, b.ticketKeys)
}

// dueGrace is how long a job that becomes due is left to its home dispatcher: all know the moment.
const dueGrace = time.Second

// inTurn has a ticket that becomes due later become so a moment later still when its home is elsewhere.
func (b *brain) inTurn(t route.Ticket, now time.Time) route.Ticket {
	if !t.NotBefore.After(now) {
		return t
	}
	b.due[t.Sequence] = t.NotBefore
	if !b.ticketHome(&t) {
		t.NotBefore = t.NotBefore.Add(dueGrace)
	}
	return t
}

// rehomeTickets gives tickets that become due their turns anew, when dispatchers have come or gone.
func (b *brain) rehomeTickets(now time.Time) {
	for sequence, due := range b.due {
		t, waits := b.waiting.Get(sequence)
		if !waits || !due.After(now) {
			delete(b.due, sequence)
			continue
		}
		t.NotBefore = due
		b.waiting.Put(b.inTurn(t, now))
	}
}

func (b *brain) ticketKeys() []string {
	var keys []string
	b.waiting.Each(func(t *route.Ticket) {
		if b.hand[t.Sequence] == nil {
			keys = append(keys, keyOf(t))
		}
	})
	for _, t := range b.claiming {
		keys = append(keys, keyOf(&t))
	}
	for _, tickets := range b.unlearnt {
		for _, t := range tickets {
			keys = append(keys, keyOf(&t))
		}
	}
	return keys
}

func (b *brain) putTicket(t route.Ticket) {
	if b.hand[t.Sequence] != nil {
		return
	}
	delete(b.claiming, t.Sequence)
	b.meet(t.Tenant)
	b.admission.back(job.Tenant(t.Tenant), t.Sequence)
	b.evict(t.Sequence, t.Tenant, t.Job)
	b.judged(accused{job.Tenant(t.Tenant), t.Hash}, job.ID(t.Job))
	if b.fleet.Known(t.Hash) {
		b.waiting.Put(t)
		b.dirty, b.review = true, true
		return
	}
	b.keepUnlearnt(t)
}

func routeTicket(t *queue.Ticket) route.Ticket {
	return route.Ticket{
		Sequence: t.Sequence, Revision: t.Revision, Priority: int(t.Priority), Tenant: route.Tenant(t.Tenant),
		Job: route.JobID(t.Job), Hash: t.Hash, Size: t.Size,
		Wishes:     route.Wishes{Prefer: t.PreferHosts, Only: t.OnlyHosts, Exclude: t.ExcludeHosts, Avoid: t.AvoidHosts},
		AvoidUntil: orZero(t.AvoidUntil), Attempt: t.Attempt, NotBefore: orZero(t.NotBefore), Expires: orZero(t.Expires), Received: t.Received,
	}
}
