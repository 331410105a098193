package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// hearTicket mirrors the waiting room.
func (b *brain) hearTicket(c jetstream.Change) {
	b.mirror(ticketSource, c, func(c jetstream.Change, _ time.Time) {
		t, ok := jetstream.TicketOf(c)
		why := "it is no ticket"
		if ok {
			why = oddTicket(&t)
		}
		if why != "" {
			b.odd.tell(b.d.log, jetstream.WaitingBucket, c.Key, why)
			return
		}
		b.putTicket(routeTicket(&t))
	}, func(c jetstream.Change, _ time.Time) {
		if t, ok := jetstream.TicketOf(c); ok && b.hand[t.Sequence] == nil {
			b.waiting.Remove(t.Sequence)
			delete(b.claiming, t.Sequence)
			delete(b.holds, t.Sequence)
			b.forgetUnlearnt(t.Hash, t.Sequence)
		}
	}, b.ticketKeys)
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
	b.evict(t.Sequence, t.Tenant, t.Job)
	b.judged(accused{job.Tenant(t.Tenant), t.Hash}, job.ID(t.Job))
	if b.fleet.Known(t.Hash) {
		b.waiting.Put(t)
		b.dirty, b.review = true, true
		return
	}
	b.keepUnlearnt(t)
}

func routeTicket(t *jetstream.Ticket) route.Ticket {
	return route.Ticket{
		Sequence: t.Sequence, Revision: t.Revision, Priority: int(t.Priority), Tenant: route.Tenant(t.Tenant),
		Job: route.JobID(t.Job), Hash: t.Hash, Size: t.Size,
		Wishes:     route.Wishes{Prefer: t.PreferHosts, Only: t.OnlyHosts, Exclude: t.ExcludeHosts, Avoid: t.AvoidHosts},
		AvoidUntil: orZero(t.AvoidUntil), Attempt: t.Attempt, NotBefore: orZero(t.NotBefore), Expires: orZero(t.Expires), Received: t.Received,
	}
}
