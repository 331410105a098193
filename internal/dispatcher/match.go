package dispatcher

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// spot is the brain's word on a job: a host whose slot is kept for it, or why it waits and where.
type spot struct {
	host     string
	quiet    time.Duration // how long the slot may be kept from the other dispatchers
	end      *ending       // why it must not run at all
	position int           // in the waiting room, when it has to wait
	hold     *route.Hold   // why no host may take it; nil when hosts are merely busy
	most     int           // how many jobs its tenant may run at once; 0 = as many as it likes

	elsewhere bool // it is parked for the dispatcher that gives its tenant's jobs to hosts
}

// claimed is a ticket that this dispatcher is to claim.
type claimed struct {
	ticket route.Ticket
	host   string // kept for it; empty when its time is over
	most   int    // as in spot
	why    ending // when host is empty
}

func (c *claimed) key() string { return keyOf(&c.ticket) }

func keyOf(t *route.Ticket) string {
	return strconv.Itoa(t.Priority) + "." + string(t.Tenant) + "." + string(t.Hash) + "." + strconv.FormatUint(t.Sequence, 10)
}

func wantOf(o *owned) route.Want {
	exclude := o.job.ExcludeHosts
	if len(o.unfit) > 0 {
		exclude = append(append([]string{}, exclude...), o.unfit...)
	}
	return route.Want{
		Hash: o.job.Graph.Hash(), Tenant: route.Tenant(o.job.Tenant), Priority: int(o.job.Priority), Size: o.job.Graph.Size(),
		Wishes:     route.Wishes{Prefer: o.job.PreferHosts, Only: o.job.OnlyHosts, Exclude: exclude, Avoid: o.avoided()},
		AvoidUntil: o.avoidUntil, NotBefore: o.notBefore,
	}
}

func runOf(w *route.Want, id route.JobID, now time.Time) route.Run {
	return route.Run{Tenant: w.Tenant, Job: id, Priority: w.Priority, Hash: w.Hash, Since: now}
}

// place finds a host for a job and keeps a slot there for it, or says why there is none.
func (b *brain) place(o *owned) spot {
	var s spot
	b.ask(func(now time.Time) { s = b.placeNow(o, now) })
	return s
}

func (b *brain) placeNow(o *owned, now time.Time) spot {
	b.admission.arrived(o)
	b.meet(route.Tenant(o.job.Tenant))
	b.evict(o.job.Sequence, route.Tenant(o.job.Tenant), route.JobID(o.job.ID))
	b.returned(o, now)
	b.learnNeeds(o)
	if text := b.memory.proven(accused{o.job.Tenant, o.job.Graph.Hash()}); text != "" {
		return spot{end: &ending{reason: failure.TakesHostsDown, message: text}}
	}
	b.lacking(o)
	want := wantOf(o)
	if b.dirty || len(b.dirtyHosts) > 0 {
		b.match(now) // a slot that was told to be free a moment ago is for those that waited for it
	}
	if host, ok := b.choose(want, now); ok && !passed(o.job.Expires(), now) {
		b.fleet.Occupy(host, runOf(&want, route.JobID(o.job.ID), now))
		b.pace.count(now)
		return b.spotOn(host, want.Tenant)
	}
	s := spot{position: b.waiting.PlaceOf(b.fleet, want.Tenant, want.Priority, now), elsewhere: b.fleet.Elsewhere(want.Tenant)}
	if hold := b.fleet.Hold(want, now); hold.Reason != "" {
		s.hold = &hold
	}
	return s
}

func (b *brain) spotOn(host route.HostID, tenant route.Tenant) spot {
	return spot{host: string(host), quiet: b.quiet(string(host)), most: b.fleet.Cap(tenant)}
}

func (b *brain) choose(w route.Want, now time.Time) (route.HostID, bool) {
	if now.Before(w.NotBefore) {
		return "", false
	}
	return b.fleet.Choose(w, now)
}

// release gives back a slot that was kept for nothing.
func (b *brain) release(o *owned, host string) {
	if host == "" {
		return
	}
	b.tell(func(time.Time) { b.releaseNow(host, o) })
}

func (b *brain) releaseNow(host string, o *owned) {
	b.fleet.Release(route.HostID(host), route.Tenant(o.job.Tenant), route.JobID(o.job.ID))
	b.dirtyHosts[route.HostID(host)] = true
}

// answered takes an agent's answer: the host's own word first, then the kept slot.
func (b *brain) answered(o *owned, host string, asked time.Time, reply jetstream.Reply, err error) {
	b.tell(func(now time.Time) {
		b.offerTook(now.Sub(asked))
		switch {
		case err == nil && reply.State.Host == host:
			b.hearStateNow(&reply.State, now)
			b.releaseNow(host, o)
			if reply.Answer == jetstream.Accepted {
				b.promised(o, host, nil, now)
			}
			if reply.Answer != jetstream.Accepted && reply.Answer != jetstream.Busy && reply.State.State == jetstream.Online {
				b.suspend(host)
			}
		case errors.Is(err, jetstream.ErrNoAgent):
			b.suspend(host)
			b.releaseNow(host, o)
		default: // nobody knows whether it was accepted: the slot stays kept until the host must have spoken
			if err != nil {
				b.promised(o, host, err, now)
			}
			b.at(now.Add(b.d.q.PresenceTTL()/2), func(time.Time) { b.releaseNow(host, o) })
		}
	})
}

// keep holds a job in hand, as long as what is in hand may be expected to leave it within handTime. A job that finds no
// room is parked, and one that comes while the dispatcher stops goes back.
func (b *brain) keep(o *owned) {
	b.enter()
	b.tell(func(now time.Time) {
		switch {
		case b.closing:
			b.d.giveBack(o.lease)
			b.exit()
			return
		case len(b.hand) >= b.pace.hand(now) && !b.makeRoom(o):
			b.parkSoon(o)
			b.exit()
			return
		case b.hand[o.job.Sequence] != nil:
			b.letGo(o.job.Sequence) // delivered again
		}
		b.learnNeeds(o) // they may have been forgotten while its walk took long
		o.taken = now
		b.hand[o.job.Sequence] = o
		b.admission.count(o.job.Tenant, 1)
		b.line.hand[o.job.Priority].Add(1)
		b.waiting.Put(handTicket(o))
		b.dirty = true
	})
}

// makeRoom parks the newest job of the tenant that has the most in a full hand, for the job of one that has fewer, and
// reports whether it did.
func (b *brain) makeRoom(o *owned) bool {
	counts, most := b.admission.inHand, o.job.Tenant
	for tenant, n := range counts {
		if n > counts[most] {
			most = tenant
		}
	}
	if counts[most] <= counts[o.job.Tenant]+1 {
		return false
	}
	var newest *owned
	for _, x := range b.hand {
		if x.job.Tenant == most && (newest == nil || x.job.Sequence > newest.job.Sequence) {
			newest = x
		}
	}
	b.letGo(newest.job.Sequence)
	b.parkSoon(newest)
	return true
}

func (b *brain) parkSoon(o *owned) {
	b.walk(func(ctx context.Context) { b.d.shelve(ctx, o) })
}

// handTicket has no revision, so that a ticket of the watch always takes its place.
func handTicket(o *owned) route.Ticket {
	w := wantOf(o)
	return route.Ticket{
		Sequence: o.job.Sequence, Priority: w.Priority, Tenant: w.Tenant, Job: route.JobID(o.job.ID), Hash: w.Hash, Size: w.Size,
		Wishes: w.Wishes, AvoidUntil: w.AvoidUntil, Attempt: o.attempt, NotBefore: o.notBefore, Expires: o.job.Expires(), Received: o.job.Received,
	}
}

// letGo takes a job out of the hand.
func (b *brain) letGo(sequence uint64) {
	o := b.hand[sequence]
	b.line.hand[o.job.Priority].Add(-1)
	b.admission.count(o.job.Tenant, -1)
	delete(b.hand, sequence)
	b.waiting.Remove(sequence)
	b.exit()
}

// parkLate parks what has waited in hand for too long: handTime, or ten times that while many jobs leave it.
func (b *brain) parkLate(now time.Time) {
	patience := handTime
	if b.pace.perSecond(now) > manyLeave {
		patience = 10 * handTime
	}
	for sequence, o := range b.hand {
		if now.Sub(o.taken) < patience {
			continue
		}
		b.letGo(sequence)
		b.parkSoon(o)
	}
}

// empty takes everything out of the hand, when the dispatcher stops.
func (b *brain) empty() []*owned {
	var all []*owned
	b.ask(func(time.Time) {
		b.closing = true
		for sequence, o := range b.hand {
			all = append(all, o)
			b.letGo(sequence)
		}
	})
	return all
}

// match gives every free slot the best job that waits for it.
func (b *brain) match(now time.Time) {
	if !b.isSynced.Load() {
		b.waiting.PlaceNew(b.fleet, now)
		return
	}
	if b.closing {
		return
	}
	if due := b.waiting.NextDue(); !due.IsZero() && !due.After(now) {
		b.dirty = true
	}
	b.expireTickets(now)
	if b.dirty {
		b.dirty = false
		clear(b.dirtyHosts)
		for {
			ticket, host, ok := b.waiting.Pick(b.fleet, now)
			if !ok {
				break
			}
			b.send(ticket, host, now)
		}
	}
	for host := range b.dirtyHosts {
		delete(b.dirtyHosts, host)
		for {
			ticket, ok := b.waiting.Next(b.fleet, host, now)
			if !ok {
				break
			}
			b.send(ticket, host, now)
		}
	}
	b.reviewHolds(now)
	b.depth.Store(int64(b.waiting.Len() - len(b.hand)))
	b.watchLine(now)
	b.wake(now)
}

// wake sees to it that the loop looks again when something is due.
func (b *brain) wake(now time.Time) {
	due := b.waiting.NextDue()
	if due.IsZero() || len(b.alarms) > 0 && !due.Before(b.alarms[0].at) {
		return
	}
	b.at(later(due, now.Add(time.Millisecond)), func(time.Time) {})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// send has a waiting job walk to a host: from the hand at once, from the waiting room by a claim.
func (b *brain) send(t route.Ticket, host route.HostID, now time.Time) {
	want := t.Want()
	b.fleet.Occupy(host, runOf(&want, t.Job, now))
	b.pace.count(now)
	if o := b.hand[t.Sequence]; o != nil {
		b.letGo(t.Sequence)
		s := b.spotOn(host, t.Tenant)
		b.walk(func(ctx context.Context) { b.d.dispatch(ctx, o, s) })
		return
	}
	b.waiting.Remove(t.Sequence)
	b.claiming[t.Sequence] = t
	c := claimed{ticket: t, host: string(host), most: b.fleet.Cap(t.Tenant)}
	b.walk(func(ctx context.Context) { b.d.claim(ctx, c) })
}

// won is told when a ticket was claimed, and lost when it was not: then another dispatcher has it, which the
// watch will say, or NATS is away, and the ticket is looked at again.
func (b *brain) won(c claimed) {
	b.d.metrics.claims.WithLabelValues("won").Inc()
	b.tell(func(time.Time) { delete(b.claiming, c.ticket.Sequence) })
}

func (b *brain) lost(c claimed) {
	b.d.metrics.claims.WithLabelValues("lost").Inc()
	b.tell(func(now time.Time) {
		if c.host != "" {
			b.fleet.Release(route.HostID(c.host), c.ticket.Tenant, c.ticket.Job)
			b.dirtyHosts[route.HostID(c.host)] = true
		}
		b.at(now.Add(time.Second), func(time.Time) {
			if t, still := b.claiming[c.ticket.Sequence]; still {
				b.putTicket(t)
			}
		})
	})
}
