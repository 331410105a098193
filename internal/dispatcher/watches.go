package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// watches are the loops that tell this loop what changes in NATS, each until its context ends.
func (l *loop) watches() []func(context.Context) error {
	q, c := l.d.q, l.d.answers
	dispatchers, hosts, capabilities := follow(l, l.peerMirror()), follow(l, l.hostMirror()), follow(l, l.capabilityMirror())
	blocks, strikes := follow(l, l.blockMirror()), follow(l, l.strikeMirror())
	affinity, tenants := follow(l, l.affinityMirror()), follow(l, l.tenantMirror())
	grants, slots, tickets := follow(l, l.grantMirror()), follow(l, l.slotMirror()), follow(l, l.ticketMirror())
	return []func(context.Context) error{
		func(ctx context.Context) error { return q.WatchDispatchers(ctx, dispatchers) },
		func(ctx context.Context) error { return q.WatchHosts(ctx, hosts) },
		func(ctx context.Context) error { return q.FollowHosts(ctx, l.hostReport) },
		func(ctx context.Context) error { return q.WatchCapabilities(ctx, capabilities) },
		func(ctx context.Context) error { return q.WatchBlocks(ctx, blocks) },
		func(ctx context.Context) error { return q.WatchStrikes(ctx, strikes) },
		func(ctx context.Context) error { return q.WatchAffinity(ctx, both(c.affinity.change, affinity)) },
		func(ctx context.Context) error { return q.WatchTenants(ctx, both(c.tenants.change, tenants)) },
		func(ctx context.Context) error { return q.WatchGrants(ctx, grants) },
		func(ctx context.Context) error { return q.WatchSlots(ctx, slots) },
		func(ctx context.Context) error { return q.WatchTickets(ctx, tickets) },
		func(ctx context.Context) error { return q.FollowCancels(ctx, l.cancelled) },
	}
}

// follow gives what a watch tells the changes of a bucket: the loop's goroutine has the mirror take them in.
func follow[V any](l *loop, m *mirror[V]) func(queue.Change) {
	l.unsynced++
	known := false
	return func(c queue.Change) {
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

// bucketKnown takes in that all that stands in one more bucket is known.
func (l *loop) bucketKnown() {
	if l.unsynced--; l.unsynced == 0 {
		close(l.synced)
	}
}

// both hands a change to two, the first one first.
func both(first, second func(queue.Change)) func(queue.Change) {
	return func(c queue.Change) {
		first(c)
		second(c)
	}
}

func (l *loop) reports(bucket string) invalidValues {
	return invalidValues{log: l.d.log, where: bucket}
}

func (l *loop) peerMirror() *mirror[[]byte] {
	return &mirror[[]byte]{
		read: func(c queue.Change) ([]byte, string) { return c.Value, "" },
		put: func(c queue.Change, heartbeat []byte, now time.Time) {
			isNew := l.peers.put(c.Key, time.Now().Add(l.d.q.PresenceTTL()))
			if c.Key == l.d.cfg.Name {
				l.name.heartbeat(heartbeat)
			}
			if isNew {
				l.rehome(now)
			}
		},
		gone: func(c queue.Change, now time.Time) {
			l.peers.remove(c.Key)
			l.rehome(now)
		},
		keys: func() []string { return l.peers.names },
	}
}

// rehome has the parts find out anew of what this dispatcher is the home, since dispatchers have come or gone.
func (l *loop) rehome(now time.Time) {
	l.pressure.peers(l.peers.count())
	l.hosts.rehome(now)
	l.slots.rehome()
	l.tickets.rehome(now)
	l.changes.jobs = true
}

func (l *loop) expirePresences(local, now time.Time) {
	l.d.metrics.hosts.Set(float64(len(l.hosts.known)))
	l.d.metrics.blocks.Set(float64(l.blocks.count()))
	l.d.metrics.waiting.Set(float64(l.depth.Load()))
	l.hosts.expire(local)
	for _, name := range l.peers.expired(local) {
		l.peers.remove(name)
		l.rehome(now)
	}
}

func (l *loop) hostMirror() *mirror[queue.HostState] {
	return &mirror[queue.HostState]{
		reports: l.reports(names.HostsBucket), read: readPresence,
		put:  func(c queue.Change, s queue.HostState, now time.Time) { l.hosts.presence(c, &s, now) },
		gone: func(c queue.Change, _ time.Time) { l.hosts.drop(c.Key) },
		keys: l.hosts.keys,
	}
}

// hostReport takes what an agent broadcasts of its host.
func (l *loop) hostReport(s queue.HostState) {
	l.tell(func(now time.Time) { l.hosts.report(&s, now) })
}

// jobEnded takes in that a host has a job off its GPU: first who waits for that, then what is learnt from it.
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
		reports: l.reports(names.CapabilitiesBucket), read: l.capable.read,
		put: func(c queue.Change, capability workflow.Capability, _ time.Time) {
			l.capabilityChanged(c.Key, capability, c.Time)
		},
		invalid: func(host string) { l.fleet.RemoveCapability(route.HostID(host)) },
		gone:    func(c queue.Change, _ time.Time) { l.capable.remove(c.Key) },
		keys:    l.capable.keys,
	}
}

func (l *loop) blockMirror() *mirror[route.Block] {
	return &mirror[route.Block]{
		reports: l.reports(names.BlocksBucket), read: orWhy(queue.BlockOf, "it is no block"),
		put:  func(c queue.Change, block route.Block, _ time.Time) { l.blocks.put(&block, c.Time) },
		gone: func(c queue.Change, now time.Time) { l.blocks.remove(pairOf(c.Key), now) },
		keys: l.blocks.blockKeys,
	}
}

func pairOf(key string) pair {
	host, hash, _ := queue.PairOf(key)
	return pair{host, hash}
}

func (l *loop) strikeMirror() *mirror[route.Strikes] {
	return &mirror[route.Strikes]{
		reports: l.reports(names.StrikesBucket), read: readStrikes,
		put: func(c queue.Change, strikes route.Strikes, _ time.Time) {
			l.blocks.putStrikes(pairOf(c.Key), &strikes)
			l.guilt.putStrikes(pairOf(c.Key), &strikes)
		},
		gone: func(c queue.Change, _ time.Time) {
			l.blocks.removeStrikes(pairOf(c.Key))
			l.guilt.putStrikes(pairOf(c.Key), &route.Strikes{})
		},
		keys: l.blocks.strikeKeys,
	}
}

func (l *loop) affinityMirror() *mirror[queue.Affinity] {
	return &mirror[queue.Affinity]{
		reports: l.reports(names.AffinityBucket), read: orWhy(queue.AffinityOf, "it is no affinity of a hash"),
		put:  func(c queue.Change, rule queue.Affinity, _ time.Time) { l.affinity.put(c.Key, rule) },
		gone: func(c queue.Change, _ time.Time) { l.affinity.remove(c.Key) },
		keys: l.affinity.keys,
	}
}

func (l *loop) tenantMirror() *mirror[queue.TenantSettings] {
	return &mirror[queue.TenantSettings]{
		reports: l.reports(names.TenantsBucket), read: orWhy(queue.TenantOf, "they are no settings of a tenant"),
		put:  func(c queue.Change, s queue.TenantSettings, _ time.Time) { l.tenants.put(c.Key, &s) },
		gone: func(c queue.Change, _ time.Time) { l.tenants.remove(c.Key) },
		keys: l.tenants.keys,
	}
}

func (l *loop) grantMirror() *mirror[queue.HostGrant] {
	changed := func(host string, now time.Time) {
		l.hosts.again(host, now)
		l.changes.all()
	}
	return &mirror[queue.HostGrant]{
		reports: l.reports(names.GrantsBucket), read: readGrant,
		put: func(c queue.Change, grant queue.HostGrant, now time.Time) {
			l.grants.put(c.Key, grant)
			changed(c.Key, now)
		},
		invalid: func(host string) {
			if job.ValidHost(host) {
				l.grants.putInvalid(host)
				changed(host, l.last)
			}
		},
		gone: func(c queue.Change, now time.Time) {
			l.grants.remove(c.Key)
			changed(c.Key, now)
		},
		keys: l.grants.keys,
	}
}

func (l *loop) slotMirror() *mirror[[]queue.Slot] {
	return &mirror[[]queue.Slot]{
		reports: l.reports(names.SlotsBucket), read: orWhy(queue.SlotsOf, "it is no list of slots"),
		put:  func(c queue.Change, taken []queue.Slot, _ time.Time) { l.slots.put(route.Tenant(c.Key), taken) },
		gone: func(c queue.Change, _ time.Time) { l.slots.put(route.Tenant(c.Key), nil) },
		keys: l.slots.keys,
	}
}

func (l *loop) ticketMirror() *mirror[queue.Ticket] {
	return &mirror[queue.Ticket]{
		reports: l.reports(names.WaitingBucket), read: readTicket,
		put: func(_ queue.Change, t queue.Ticket, now time.Time) {
			l.putTicket(l.tickets.inTurn(routeTicket(&t), now))
		},
		gone: func(c queue.Change, _ time.Time) {
			if t, ok := queue.TicketOf(c); ok {
				l.tickets.remove(&t)
			}
		},
		keys: l.tickets.keys,
	}
}

// putTicket lets a ticket wait, unless its job is in hand: the parts first to which it says that its job has come.
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
