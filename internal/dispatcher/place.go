package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// spot is what the loop says of a job: a host with a slot that is kept for it, or why it waits and where.
type spot struct {
	host     string
	quiet    time.Duration // how long the agent may wait before it tells the other dispatchers that the slot was taken
	free     bool          // the slot is believed to be free, though others may have taken it
	end      *ending       // why it must not run at all
	position int           // in the waiting room, when it has to wait
	hold     *route.Hold   // why no host may take it; nil when hosts are merely busy
	most     int           // how many jobs its tenant may run at once; 0 = as many as it likes

	elsewhere bool // it is parked for the dispatcher that gives its tenant's jobs to hosts
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
func (l *loop) place(o *owned) spot {
	var s spot
	l.ask(func(now time.Time) { s = l.placeNow(o, now) })
	return s
}

// placeNow is place in the loop. First the parts take in that the job has come; then a slot that has become free a
// moment ago goes to a job that waited for it; then this job is looked at. When this turn has no time to fill all free slots, this
// job has to wait too.
func (l *loop) placeNow(o *owned, now time.Time) spot {
	l.ticketing.arrived(o)
	l.tenants.meet(route.Tenant(o.job.Tenant))
	l.tickets.evict(o.job.Sequence, route.Tenant(o.job.Tenant), route.JobID(o.job.ID))
	l.promises.again(o, now)
	l.needs.learn(o.job)
	if text := l.guilt.proof(o.tenantHash()); text != "" {
		return spot{end: &ending{reason: failure.TakesHostsDown, message: text}}
	}
	l.setLacks(o)
	want := wantOf(o)
	if l.changes.unmatched() {
		l.step(now)
	}
	if host, ok := l.choose(want, now); ok && !passed(o.job.Expires(), now) && !l.changes.unmatched() {
		l.occupy(host, &want, route.JobID(o.job.ID), now)
		return l.spotOn(host, want.Tenant)
	}
	s := spot{position: l.room.PlaceOf(l.fleet, want.Tenant, want.Priority, now), elsewhere: l.fleet.Elsewhere(want.Tenant)}
	if hold := l.fleet.Hold(want, now); hold.Reason != "" {
		s.hold = &hold
	}
	return s
}

func (l *loop) choose(w route.Want, now time.Time) (route.HostID, bool) {
	if now.Before(w.NotBefore) {
		return "", false
	}
	begun := time.Now()
	host, ok := l.fleet.Choose(w, now)
	l.d.metrics.decided.Observe(time.Since(begun).Seconds())
	return host, ok
}

// occupy keeps a slot of a host for a job, until release or until the host reports the job.
func (l *loop) occupy(host route.HostID, w *route.Want, id route.JobID, now time.Time) {
	l.fleet.Occupy(host, runOf(w, id, now))
	l.pressure.placed(now)
}

func (l *loop) spotOn(host route.HostID, tenant route.Tenant) spot {
	return spot{
		host: string(host), quiet: l.quiet(string(host)), most: l.fleet.Cap(tenant), free: l.sources.isShared() && l.fleet.HasSlots(host),
	}
}

// quiet is how long the agent of a host may wait before it tells the other dispatchers that a slot was taken. For a while they
// leave a freed slot to its home, which is here, and do not need to know.
func (l *loop) quiet(host string) time.Duration {
	if !l.hosts.isHome(host) {
		return 0
	}
	return min(l.peers.headStart(), handTime) / 2 // half, since another dispatcher's head start may be shorter: it follows from the round trips measured there
}

// release gives back the slot that was kept for a job, if there is one. A slot on which a job ran becomes free in hosts.apply.
func (l *loop) release(o *owned, host string) {
	if host != "" {
		l.tell(func(time.Time) { l.releaseNow(host, route.Tenant(o.job.Tenant), route.JobID(o.job.ID)) })
	}
}

func (l *loop) releaseNow(host string, tenant route.Tenant, id route.JobID) {
	l.fleet.Release(route.HostID(host), tenant, id)
	l.changes.host(host)
}

// noSlot takes in that a job got none of its tenant's slots, and gives back the host's.
func (l *loop) noSlot(o *owned, host string) {
	tenant := route.Tenant(o.job.Tenant)
	l.tell(func(now time.Time) {
		l.releaseNow(host, tenant, route.JobID(o.job.ID))
		l.slots.wasFull(tenant, now)
	})
}

// answered takes in the answer to an offer: first what the agent says of its host, then the slot that was kept.
func (l *loop) answered(o *owned, host string, asked time.Time, reply queue.Reply, err error) {
	release := func() { l.releaseNow(host, route.Tenant(o.job.Tenant), route.JobID(o.job.ID)) }
	l.tell(func(now time.Time) {
		l.peers.offerTook(now.Sub(asked))
		switch {
		case err == nil && reply.State.Host == host:
			l.hosts.report(&reply.State, now)
			release()
			if reply.Answer == queue.Accepted {
				l.promises.accepted(o, host, now)
			}
			if reply.Answer != queue.Accepted && reply.Answer != queue.Busy && reply.State.State == queue.Online {
				l.hosts.suspend(host, now)
			}
		case errors.Is(err, queue.ErrNoAgent):
			l.hosts.suspend(host, now)
			release()
		default: // it may have been accepted: the slot is kept until the host must have reported
			if err != nil {
				l.promises.unanswered(o, host, now)
			}
			l.alarms.at(now.Add(l.d.q.PresenceTTL()/2), func(time.Time) { release() })
		}
	})
}

// keep puts a job in hand, when fewer than handMost are there: so many may be expected to leave it within handTime. Otherwise the job
// is parked, or one of the tenant that has most in hand is. A job that comes while the dispatcher stops goes back.
func (l *loop) keep(o *owned) {
	l.pressure.enter()
	l.tell(func(now time.Time) {
		if l.closing {
			l.d.giveBack(o.lease)
			l.pressure.exit()
			return
		}
		if l.hand.len() >= l.pressure.handMost(now) {
			other := l.hand.takeForOther(o.job.Tenant)
			if other == nil {
				l.parkSoon(o)
				l.pressure.exit()
				return
			}
			l.parkSoon(other)
		}
		l.hand.take(o.job.Sequence) // when it was delivered again
		l.needs.learn(o.job)        // it may have been forgotten while the walk took long
		l.hand.put(o, now)
		l.changes.jobs = true
	})
}

func (l *loop) parkSoon(o *owned) {
	l.walk(func(ctx context.Context) { l.d.shelve(ctx, o) })
}

func (l *loop) parkLate(now time.Time) {
	for _, o := range l.hand.takeLate(now) {
		l.parkSoon(o)
	}
}

// emptyHand takes everything out of the hand, when the dispatcher stops, and has nothing begin any more.
func (l *loop) emptyHand() []*owned {
	var all []*owned
	l.ask(func(time.Time) {
		l.closing = true
		all = l.hand.takeAll()
	})
	return all
}

// admit says whether a job that has to wait gets a ticket, whose writing the caller ends with admitted; otherwise it is
// to rest. A dispatcher that stops says yes, since it can call nothing back any more.
func (l *loop) admit(o *owned) bool {
	yes := true
	l.ask(func(now time.Time) {
		if l.closing {
			l.ticketing.write(o.job.Tenant)
			return
		}
		yes = l.ticketing.admit(o, now)
	})
	return yes
}

// admitted takes in that the ticket of an admitted job was written, or will not be.
func (l *loop) admitted(tenant job.Tenant) {
	l.tell(func(time.Time) { l.ticketing.written(tenant) })
}
