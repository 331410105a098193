package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// watches are the loops that report to this loop what changes in NATS, each until its context ends.
func (l *loop) watches() []func(context.Context) error {
	q, c := l.d.q, l.d.answers
	l.presences = l.hostMirror()
	dispatchers, hosts, capabilities := follow(l, l.peerMirror()), follow(l, l.presences), follow(l, l.capabilityMirror())
	blocks, strikes := follow(l, l.blockMirror()), follow(l, l.strikeMirror())
	affinity, tenants := follow(l, l.affinityMirror()), follow(l, l.tenantMirror())
	grants, slots, tickets := follow(l, l.grantMirror()), follow(l, l.slotMirror()), follow(l, l.waiting)
	return []func(context.Context) error{
		func(ctx context.Context) error {
			return q.WatchDispatchers(ctx, both(c.dispatchers.change, dispatchers))
		},
		l.whileAll(func(ctx context.Context) error { return q.WatchHosts(ctx, hosts) }),
		l.whileAll(func(ctx context.Context) error { return q.FollowHosts(ctx, l.hostReport) }),
		func(ctx context.Context) error { return q.FollowChosen(ctx, l.chosen, l.hostReport) },
		func(ctx context.Context) error { return q.FollowHostNames(ctx, l.hostNamed) },
		func(ctx context.Context) error { return q.FollowRelays(ctx, l.relayReceived) },
		l.relayLoop,
		func(ctx context.Context) error { return q.WatchCapabilities(ctx, capabilities) },
		func(ctx context.Context) error { return q.WatchBlocks(ctx, blocks) },
		func(ctx context.Context) error { return q.WatchStrikes(ctx, strikes) },
		func(ctx context.Context) error { return q.WatchAffinity(ctx, both(c.affinity.change, affinity)) },
		func(ctx context.Context) error { return q.WatchTenants(ctx, both(c.tenants.change, tenants)) },
		func(ctx context.Context) error { return q.WatchGrants(ctx, grants) },
		l.whileAll(func(ctx context.Context) error { return q.WatchSlots(ctx, slots) }),
		func(ctx context.Context) error {
			return l.sources.ticket.whileOpen(ctx, func(ctx context.Context) error { return q.WatchTickets(ctx, tickets) })
		},
		func(ctx context.Context) error { return q.FollowCancels(ctx, l.cancelled) },
	}
}

// follow gives the function that a watch calls with each change of a bucket: the loop's goroutine has the mirror take it in.
func follow[V any](l *loop, m *mirror[V]) func(queue.Change[V]) {
	l.unsynced++
	known, name := false, fmt.Sprintf("mirror %d", l.unsynced)
	m.beside = func(work func(pause func() bool)) { l.background.begin(name, work) }
	return func(c queue.Change[V]) {
		l.tell(func(now time.Time) {
			if !m.change(c, now) {
				return
			}
			l.changes.all()
			if !known {
				known = true
				l.bucketKnown()
			}
		})
	}
}

// bucketKnown takes in that all of one more bucket is known.
func (l *loop) bucketKnown() {
	if l.unsynced--; l.unsynced == 0 {
		close(l.synced)
	}
}

// both gives each change to two functions, one after the other.
func both[V any](first, second func(queue.Change[V])) func(queue.Change[V]) {
	return func(c queue.Change[V]) {
		first(c)
		second(c)
	}
}

func (l *loop) peerMirror() *mirror[queue.DispatcherState] {
	return &mirror[queue.DispatcherState]{
		put: func(c queue.Change[queue.DispatcherState], now time.Time) {
			isNew := l.peers.put(c.Key, time.Now().Add(l.d.q.PresenceTTL()))
			if c.Key == l.d.cfg.Name {
				l.name.heartbeat(&c.Value)
			}
			if isNew {
				l.rehome(now)
			}
			if c.Key != l.d.cfg.Name {
				l.sources.peer(&c.Value, now)
			}
		},
		gone: l.peerGone,
		keys: listed(func() []string { return slices.Clone(l.peers.names) }),
	}
}

func (l *loop) peerGone(name string, now time.Time) {
	l.peers.remove(name)
	l.sources.peerGone(name, now)
	l.rehome(now)
}

// rehome has the parts find out again of what this dispatcher is the home, since dispatchers have come or gone.
func (l *loop) rehome(now time.Time) {
	l.pressure.peers(l.peers.count())
	l.sources.leaveToHomes()
	l.background.begin("rehome", func(pause func() bool) {
		l.hosts.rehome(now, pause)
		l.sources.rehome(now, pause)
		l.slots.rehome(pause)
		l.tickets.rehome(now, pause)
		l.changes.jobs = true
	})
}

func (l *loop) expirePresences(local, now time.Time) {
	l.d.metrics.hosts.Set(float64(len(l.hosts.known)))
	l.d.metrics.blocks.Set(float64(l.blocks.count()))
	l.d.metrics.waiting.Set(float64(l.depth.Load()))
	l.background.begin("expire", func(pause func() bool) {
		l.hosts.expire(local, pause)
		l.hosts.openIdle(now, pause)
	})
	for _, name := range l.peers.expired(local) {
		l.peerGone(name, now)
	}
}

func (l *loop) hostMirror() *mirror[queue.HostState] {
	return &mirror[queue.HostState]{
		put:  func(c queue.Change[queue.HostState], now time.Time) { l.hosts.presence(&c.Value, c.Time, now) },
		gone: func(host string, _ time.Time) { l.hosts.drop(host) },
		keys: listed(l.hosts.keys),
	}
}

// hostReport takes in what an agent broadcasts of its host.
func (l *loop) hostReport(s queue.HostState) {
	l.tell(func(now time.Time) { l.hosts.report(&s, now) })
}

// jobEnded takes in that a job has left the GPU of a host: first for the parts that wait for that, then for those that learn from
// how it ended.
func (l *loop) jobEnded(host string, s *queue.HostState, now time.Time) {
	e := s.Ended
	ran := time.Duration(e.RanFor)
	l.promises.over(host, e)
	l.room.Charge(route.Tenant(e.Tenant), int(e.Priority), ran.Seconds(), now)
	l.pressure.jobRan(ran)
	l.slots.jobEnded(e)
	if !e.Success {
		if (&failure.Attempt{Kind: e.Kind}).Lost() {
			l.guilt.lost(e, now)
		}
		l.blocks.halt(host, e, now)
		return
	}
	l.successes.add(host, e, now)
	for _, load := range e.Loads {
		l.fleet.ObserveLoad(load.Files, time.Duration(load.Took))
	}
	l.fleet.ObserveRun(e.Hash, route.HostID(host), ran)
	if l.fleet.Struck(route.HostID(host), e.Hash) {
		ended, at := *e, s.Time
		l.walk(func(ctx context.Context) { l.d.countSuccess(ctx, host, &ended, at) })
	}
}

func (l *loop) capabilityMirror() *mirror[workflow.Capability] {
	return &mirror[workflow.Capability]{
		put:  func(c queue.Change[workflow.Capability], _ time.Time) { l.capabilityChanged(c.Key, c.Value, c.Time) },
		gone: func(host string, _ time.Time) { l.capable.remove(host) },
		keys: listed(l.capable.keys),
	}
}

func (l *loop) blockMirror() *mirror[route.Block] {
	return &mirror[route.Block]{
		put:  func(c queue.Change[route.Block], _ time.Time) { l.blocks.put(&c.Value, c.Time) },
		gone: func(key string, now time.Time) { l.blocks.remove(pairOf(key), now) },
		keys: l.blocks.blockKeys,
	}
}

func pairOf(key string) pair {
	host, hash, _ := queue.PairOf(key)
	return pair{host, hash}
}

func (l *loop) strikeMirror() *mirror[route.Strikes] {
	return &mirror[route.Strikes]{
		put: func(c queue.Change[route.Strikes], _ time.Time) {
			l.blocks.putStrikes(pairOf(c.Key), &c.Value)
			l.guilt.putStrikes(pairOf(c.Key), &c.Value)
		},
		gone: func(key string, _ time.Time) {
			l.blocks.removeStrikes(pairOf(key))
			l.guilt.putStrikes(pairOf(key), &route.Strikes{})
		},
		keys: l.blocks.strikeKeys,
	}
}

func (l *loop) affinityMirror() *mirror[queue.Affinity] {
	return &mirror[queue.Affinity]{
		put:  func(c queue.Change[queue.Affinity], _ time.Time) { l.affinity.put(c.Key, c.Value) },
		gone: func(hash string, _ time.Time) { l.affinity.remove(hash) },
		keys: listed(l.affinity.keys),
	}
}

func (l *loop) tenantMirror() *mirror[queue.TenantSettings] {
	return &mirror[queue.TenantSettings]{
		put:  func(c queue.Change[queue.TenantSettings], _ time.Time) { l.tenants.put(c.Key, &c.Value) },
		gone: func(tenant string, _ time.Time) { l.tenants.remove(tenant) },
		keys: listed(l.tenants.keys),
	}
}

func (l *loop) grantMirror() *mirror[queue.HostGrant] {
	changed := func(host string, now time.Time) {
		l.hosts.again(host, now)
		l.changes.all()
	}
	return &mirror[queue.HostGrant]{
		put: func(c queue.Change[queue.HostGrant], now time.Time) {
			l.grants.put(c.Key, c.Value)
			changed(c.Key, now)
		},
		invalid: func(host string, now time.Time) {
			if job.ValidHost(host) {
				l.grants.putInvalid(host)
				changed(host, now)
			}
		},
		gone: func(host string, now time.Time) {
			l.grants.remove(host)
			changed(host, now)
		},
		keys: listed(l.grants.keys),
	}
}

func (l *loop) slotMirror() *mirror[[]queue.Slot] {
	return &mirror[[]queue.Slot]{
		put:  func(c queue.Change[[]queue.Slot], _ time.Time) { l.slots.put(route.Tenant(c.Key), c.Value) },
		gone: func(tenant string, _ time.Time) { l.slots.put(route.Tenant(tenant), nil) },
		keys: listed(l.slots.keys),
	}
}

func (l *loop) ticketMirror() *mirror[queue.Ticket] {
	return &mirror[queue.Ticket]{
		put: func(c queue.Change[queue.Ticket], now time.Time) {
			l.putTicket(l.tickets.inTurn(routeTicket(&c.Value), c.Time, now))
		},
		gone: func(key string, _ time.Time) {
			if t, err := queue.TicketAt(key); err == nil {
				l.tickets.remove(&t)
			}
		},
		keys: l.tickets.keys,
	}
}

// putTicket lets a ticket wait, unless its job is in hand. Before that, the parts take in that its job has come.
func (l *loop) putTicket(t route.Ticket) {
	if l.hand.has(t.Sequence) {
		return
	}
	l.tenants.meet(t.Tenant)
	l.ticketing.came(job.Tenant(t.Tenant), t.Sequence)
	l.guilt.settled(tenantHash{job.Tenant(t.Tenant), t.Hash}, job.ID(t.Job))
	l.tickets.put(t)
}

// cancelled takes a cancelled job out of the hand, the waiting room, or its rest. The agent that runs it follows cancels
// itself.
func (l *loop) cancelled(e job.Event) {
	l.tell(func(time.Time) {
		ticket, waits := l.room.ByJob(route.Tenant(e.Tenant), route.JobID(e.Job))
		if !waits {
			if x := l.ticketing.byJob[idKey{e.Tenant, e.Job}]; x != nil {
				l.ticketing.remove(x.sequence)
				l.walk(func(ctx context.Context) { l.d.finishStored(ctx, idKey{x.lane.Tenant, x.id}, x.sequence, x.lease) })
			}
			return
		}
		if o := l.hand.take(ticket.Sequence); o != nil {
			l.walk(func(ctx context.Context) { l.d.finish(ctx, &o.message, o.lease) })
			return
		}
		l.walk(func(ctx context.Context) { l.d.discardTicket(ctx, keyOf(&ticket)) })
	})
}
