package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// match gives every free slot the best job that waits for it, as many as the turn has time for: what is left stays in changes.
// When any job may have found a host (changes.jobs), the best ticket for any host is sought until there is none, and then no host
// is left to look at. Otherwise only the hosts that have changed are. The order of tickets is decided in route: Pick, Next and
// consider (internal/route/turn.go).
func (l *loop) match(now time.Time) {
	if l.room.Unfinished() {
		l.changes.jobs = true
	}
	for l.changes.jobs {
		ticket, host, ok := l.room.Pick(l.fleet, now)
		switch {
		case ok:
			l.send(ticket, host, now)
		case !l.room.Unfinished():
			l.changes.jobs = false
			clear(l.changes.hosts)
		}
		if l.spent() {
			return
		}
	}
	for host := range l.changes.hosts {
		for ticket, ok := l.room.Next(l.fleet, host, now); ok; ticket, ok = l.room.Next(l.fleet, host, now) {
			if l.send(ticket, host, now); l.spent() {
				return
			}
		}
		if l.room.Unfinished() {
			l.changes.jobs = true
			return
		}
		if delete(l.changes.hosts, host); l.spent() {
			return
		}
	}
}

// send has a waiting job walk to a host: from the hand at once, from the waiting room by a claim.
func (l *loop) send(t route.Ticket, host route.HostID, now time.Time) {
	want := t.Want()
	l.occupy(host, &want, t.Job, now)
	if o := l.hand.take(t.Sequence); o != nil {
		s := l.spotOn(host, t.Tenant)
		l.walk(func(ctx context.Context) { l.d.dispatch(ctx, o, s) })
		return
	}
	l.tickets.claim(t)
	c := claim{ticket: t, host: string(host), most: l.fleet.Cap(t.Tenant)}
	l.walk(func(ctx context.Context) { l.d.claim(ctx, c) })
}

// claim is a ticket that this dispatcher is to claim.
type claim struct {
	ticket route.Ticket
	host   string // kept for it; empty when its job is to be ended
	most   int    // as in spot
	why    ending // when host is empty
}

// claimWon takes in that a ticket was claimed.
func (l *loop) claimWon(c claim) {
	l.d.metrics.claims.WithLabelValues("won").Inc()
	l.tell(func(time.Time) { l.tickets.claimed(c.ticket.Sequence) })
}

// claimLost takes in that a ticket was not claimed: then another dispatcher has it, which the watch will report, or NATS is
// away, and the ticket waits again after a moment.
func (l *loop) claimLost(c claim) {
	l.d.metrics.claims.WithLabelValues("lost").Inc()
	l.tell(func(now time.Time) {
		if c.host != "" {
			l.releaseNow(c.host, c.ticket.Tenant, c.ticket.Job)
		}
		l.alarms.at(now.Add(time.Second), func(time.Time) {
			if t, still := l.tickets.beingClaimed(c.ticket.Sequence); still {
				l.putTicket(t)
			}
		})
	})
}

const expiredText = "no host had accepted the job when its expires_in was over"

// endExpired ends jobs whose expires_in is over. A ticket is left for two seconds to each dispatcher that is
// before this one in the job's order (peers.rank).
func (l *loop) endExpired(now time.Time) {
	const grace = 2 * time.Second
	for _, t := range l.room.Expired(now) {
		why := ending{reason: failure.Expired, message: expiredText}
		if o := l.hand.take(t.Sequence); o != nil {
			l.walk(func(ctx context.Context) { l.d.endWaiting(ctx, o, why) })
			continue
		}
		if now.Sub(t.Expires) >= time.Duration(l.peers.rank(t.Job))*grace {
			l.claimToEnd(t, why)
		}
	}
}

// claimToEnd claims a ticket in order to end its job.
func (l *loop) claimToEnd(t route.Ticket, why ending) {
	l.tickets.claim(t)
	l.reasons.forget(t.Sequence)
	l.walk(func(ctx context.Context) { l.d.claim(ctx, claim{ticket: t, why: why}) })
}
