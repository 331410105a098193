package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// newLoop makes the parts, each with the few others that it needs.
func newLoop(d *Dispatcher) *loop {
	l := &loop{
		d: d, inbox: make(chan func(time.Time), 1024), over: make(chan struct{}), synced: make(chan struct{}),
		pressure: newBackpressure(), changes: newChanges(), alarms: &alarms{},
		turnBegan: func() {},
		turnEnded: func(took time.Duration) { d.metrics.turns.Observe(took.Seconds()) },
	}
	l.fleet, l.room = route.NewFleet(), route.NewRoom()
	l.room.Slice = 128
	l.fleet.PutUsualCap(d.cfg.MaxRunning)
	if most := d.cfg.MaxPriority; most != nil {
		l.room.PutUsualCeiling(int(*most))
	}
	l.makeFleetParts()
	l.makeJobParts()
	return l
}

func (l *loop) makeFleetParts() {
	d := l.d
	l.peers, l.name = newPeers(d.cfg.Name), duplicateName{log: d.log, started: d.started}
	l.grants, l.successes = newGrants(l.fleet), newSuccesses()
	l.capable, l.affinity = newCapabilities(l.fleet, l.changes), newAffinities(l.fleet, l.changes)
	l.blocks = newBlocks(blocks{fleet: l.fleet, peers: l.peers, changes: l.changes, alarms: l.alarms})
	l.guilt = newGuilt(guilt{fleet: l.fleet, changes: l.changes, alarms: l.alarms})
	l.rests = newHostRests(hostRests{
		first: d.toBegin(), alarms: l.alarms, log: d.log,
		changed: func(host string, now time.Time) { l.hosts.restChanged(host, now) },
	})
	l.hosts = newHosts(hosts{
		fleet: l.fleet, grants: l.grants, rests: l.rests, peers: l.peers, changes: l.changes, alarms: l.alarms, log: d.log,
		ttl:      d.q.PresenceTTL(),
		jobsWait: func() bool { return l.room.Len() > 0 || l.pressure.someInLine() },
		jobEnded: l.jobEnded,
		gone:     func(host string) { l.walk(func(ctx context.Context) { d.announceGone(ctx, host) }) },
	})
	l.makeStateSources()
	l.slots = newTenantSlots(tenantSlots{
		fleet: l.fleet, peers: l.peers, changes: l.changes, alarms: l.alarms, runs: l.hosts.runsFor,
		look: func(tenant job.Tenant, s queue.Slot, wait bool) {
			l.walk(func(ctx context.Context) { d.lookAtSlot(ctx, tenant, s, wait) })
		},
		reads: slotReads{
			needed: l.sources.isShared, pause: d.q.PresenceTTL() * 2 / 3,
			read: func(tenant route.Tenant) { l.walk(func(ctx context.Context) { d.readSlots(ctx, tenant) }) },
		},
	})
	l.tenants = newTenants(tenants{
		fleet: l.fleet, room: l.room, slots: l.slots, quotas: d.quotas, changes: l.changes,
		usual: queue.TenantSettings{Weight: 1, MaxRunning: d.cfg.MaxRunning},
	})
}

func (l *loop) makeStateSources() {
	d, ttl := l.d, l.d.q.PresenceTTL()
	l.outgoing, l.chosen = make(chan queue.Relay, relaysWaiting), make(chan []string, 1)
	l.relays = newRelays(relays{
		name: d.cfg.Name, ttl: ttl, alarms: l.alarms, peers: l.peers, send: l.relaySoon,
		newest: func(host string) *queue.HostState {
			if x := l.hosts.known[host]; x != nil {
				return x.newest()
			}
			return nil
		},
	})
	l.sources = newStateSources(stateSourcesParts{
		above: d.cfg.LargeFleet, ttl: ttl, log: d.log, fleet: l.fleet, hosts: l.hosts, peers: l.peers, relays: l.relays,
		read: l.readPresences, list: l.listHosts, choose: l.followChosen, beat: d.beatSoon,
	})
	l.hosts.relays, l.hosts.sources = l.relays, l.sources
}

func (l *loop) makeJobParts() {
	d := l.d
	l.hand = newHand(l.room, l.pressure)
	l.needs = newRequirements(requirements{
		fleet: l.fleet, alarms: l.alarms, log: d.log,
		read: func(hash workflow.Hash, sequence uint64) {
			l.walk(func(ctx context.Context) { d.learn(ctx, hash, sequence) })
		},
		known: func(t route.Ticket) {
			l.room.Put(t)
			l.changes.all()
		},
		beside: func(work func(pause func() bool)) { l.background.begin("requirements", work) },
	})
	l.promises = newPromises(promises{
		toBegin: d.toBegin(), rests: l.rests,
		look: func(key idKey, p promise) { l.walk(func(ctx context.Context) { d.lookAtPromise(ctx, key, p) }) },
	})
	l.reasons = newReasons(reasons{
		room: l.room, fleet: l.fleet, changes: l.changes, alarms: l.alarms, capableWait: d.cfg.CapableWait,
		skip:  func(t *route.Ticket) bool { return l.hand.has(t.Sequence) || !l.peers.isTicketHome(t) },
		proof: l.guilt.proof, end: l.claimToEnd,
		write: func(t route.Ticket, hold route.Hold) {
			l.walk(func(ctx context.Context) { d.writeReason(ctx, &t, &hold) })
		},
	})
	l.tickets = newTickets(tickets{
		room: l.room, fleet: l.fleet, hand: l.hand, peers: l.peers, changes: l.changes, alarms: l.alarms, unknown: l.needs, capped: l.slots.capped, left: l.reasons.forget,
		replaced: func(old route.Ticket) { l.walk(func(ctx context.Context) { d.endReplaced(ctx, &old) }) },
	})
	l.waiting = l.ticketMirror()
	l.news = newTicketNews(ticketNewsParts{
		relay: l.relays.ticket, ttl: d.q.PresenceTTL(),
		takeIn: func(c queue.Change[queue.Ticket], now time.Time) {
			l.waiting.takeIn(c, now)
			l.changes.all()
		},
		state: func(known uint64) { l.walk(func(ctx context.Context) { d.readTicketLog(ctx, known) }) },
		read:  func(after uint64) { l.walk(func(ctx context.Context) { d.readTickets(ctx, after) }) },
	})
	l.waiting.fresh, l.sources.news = l.news.watched, l.news
	l.ticketing = newTicketing(ticketing{
		room: l.room, hand: l.hand, most: d.cfg.WaitingCap,
		call: func(list []*restingJob) { l.walk(func(context.Context) { d.callBack(list) }) },
	})
	l.removed = &removedJobs{
		room: l.room, fleet: l.fleet, hand: l.hand, peers: l.peers, tickets: l.tickets,
		count: func() { l.walk(d.countRemoved) },
		read: func(list []route.Ticket, since uint64) {
			l.walk(func(ctx context.Context) { d.lookAtTickets(ctx, list, since) })
		},
	}
}
