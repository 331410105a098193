package dispatcher

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// source is one of the buckets that the brain mirrors.
type source int

const (
	hostSource source = iota
	capabilitySource
	blockSource
	strikeSource
	affinitySource
	tenantSource
	grantSource
	slotSource
	ticketSource
	dispatcherSource
	sources
)

// mirror tells the brain a change of a bucket. What was not told again between Reset and Synced is gone: a
// watcher that was blind for a while may have missed its end.
func (b *brain) mirror(from source, c queue.Change, put, gone func(c queue.Change, now time.Time), known func() []string) {
	b.tell(func(now time.Time) {
		switch c.Phase {
		case queue.Reset:
			b.syncing[from] = map[string]bool{}
		case queue.Put:
			if seen := b.syncing[from]; seen != nil {
				seen[c.Key] = true
			}
			put(c, now)
		case queue.Gone:
			gone(c, now)
		case queue.Synced:
			b.dropUnseen(from, known(), gone, now)
		}
	})
}

func (b *brain) dropUnseen(from source, known []string, gone func(c queue.Change, now time.Time), now time.Time) {
	seen := b.syncing[from]
	delete(b.syncing, from)
	for _, key := range known {
		if seen != nil && !seen[key] {
			gone(queue.Change{Phase: queue.Gone, Key: key, Time: now}, now)
		}
	}
	b.synced[from] = true
	if len(b.synced) == int(sources) && !b.isSynced.Swap(true) {
		close(b.allSynced)
	}
	b.dirty, b.review = true, true
}

func (b *brain) hearDispatcher(c queue.Change) {
	b.mirror(dispatcherSource, c, func(c queue.Change, now time.Time) {
		_, known := b.dispatchers[c.Key]
		b.dispatchers[c.Key] = time.Now().Add(b.d.q.PresenceTTL())
		if c.Key == b.d.cfg.Name {
			b.twin.hear(b.d, c.Value)
		}
		if !known {
			b.rehome()
		}
	}, func(c queue.Change, _ time.Time) {
		delete(b.dispatchers, c.Key)
		b.rehome()
	}, func() []string { return slices.Collect(maps.Keys(b.dispatchers)) })
}

// rehome says anew which dispatcher matches which host's slots first.
func (b *brain) rehome() {
	b.homes = slices.Sorted(maps.Keys(b.dispatchers))
	b.line.peers.Store(int64(len(b.homes)))
	for _, h := range b.hosts {
		h.home = b.isHome(h.state.Host)
		b.putHost(h)
	}
	for tenant := range b.slots.caps {
		b.tellSlots(tenant)
	}
	b.rehomeTickets(b.last)
	b.dirty = true
}

// isHome reports whether this dispatcher is the host's home; a dispatcher that knows no other is everyone's.
func (b *brain) isHome(host string) bool {
	home := route.Home(b.homes, route.HostID(host))
	return home == "" || home == b.d.cfg.Name
}

func (b *brain) hearCapability(c queue.Change) {
	b.mirror(capabilitySource, c, func(c queue.Change, _ time.Time) {
		var capability workflow.Capability
		if err := capability.UnmarshalBinary(c.Value); err != nil {
			b.d.log.Warn("a host's capability cannot be read; it counts as unknown", "host", c.Key, "error", err)
			b.fleet.RemoveCapability(route.HostID(c.Key))
			return
		}
		changed := b.capabilities[c.Key].Digest() != capability.Digest() || b.capabilities[c.Key].Len() != capability.Len()
		b.capabilities[c.Key] = capability
		b.fleet.PutCapability(route.HostID(c.Key), capability)
		b.dirty, b.review = true, true
		if changed && b.isHome(c.Key) {
			b.freeIncapable(c)
		}
	}, func(c queue.Change, _ time.Time) {
		delete(b.capabilities, c.Key)
		b.fleet.RemoveCapability(route.HostID(c.Key))
		b.dirty, b.review = true, true
	}, func() []string { return slices.Collect(maps.Keys(b.capabilities)) })
}

// freeIncapable lifts the blocks that said a host lacked something before its capability changed.
func (b *brain) freeIncapable(c queue.Change) {
	var hashes []workflow.Hash
	for pair, since := range b.incapable {
		if pair.host == c.Key && since.Before(c.Time) {
			hashes = append(hashes, pair.hash)
		}
	}
	if len(hashes) > 0 {
		b.walk(func(ctx context.Context) { b.d.freeCapable(ctx, c.Key, hashes) })
	}
}

func (b *brain) hearBlock(c queue.Change) {
	b.mirror(blockSource, c, func(c queue.Change, _ time.Time) {
		block, ok := queue.BlockOf(c)
		if !ok {
			return
		}
		p := pair{string(block.Host), block.Hash}
		b.blocked[p] = true
		delete(b.suspects, p)
		delete(b.incapable, p)
		if block.Kind.Verdict().Strike == failure.UntilCapable {
			b.incapable[p] = c.Time
		}
		b.fleet.PutBlock(block)
		b.review = true
	}, func(c queue.Change, now time.Time) {
		host, hash, _ := queue.PairOf(c.Key)
		delete(b.blocked, pair{host, hash})
		delete(b.incapable, pair{host, hash})
		b.unblock(pair{host, hash}, now)
	}, func() []string { return pairKeys(b.blocked) })
}

// unblock opens a pair. What waits for a host at home elsewhere is matched after the head start: the pair is on
// probation, and of two dispatchers each would send the one job that may run.
func (b *brain) unblock(p pair, now time.Time) {
	b.fleet.RemoveBlock(route.HostID(p.host), p.hash)
	b.review = true
	if b.isHome(p.host) || !b.struck[p] {
		b.dirty = true
		return
	}
	b.at(now.Add(b.headStart()), func(time.Time) { b.dirty = true })
}

func (b *brain) hearStrikes(c queue.Change) {
	b.mirror(strikeSource, c, func(c queue.Change, _ time.Time) {
		host, hash, ok := queue.PairOf(c.Key)
		var strikes route.Strikes
		if !ok || json.Unmarshal(c.Value, &strikes) != nil {
			return
		}
		b.struck[pair{host, hash}] = true
		b.fleet.PutStrikes(route.HostID(host), hash, strikes)
		b.remember(pair{host, hash}, &strikes)
		if strikes.Open == nil {
			b.settled(pair{host, hash})
		}
		b.dirty = true
	}, func(c queue.Change, _ time.Time) {
		host, hash, _ := queue.PairOf(c.Key)
		delete(b.struck, pair{host, hash})
		b.fleet.RemoveStrikes(route.HostID(host), hash)
		b.remember(pair{host, hash}, &route.Strikes{})
		b.dirty = true
	}, func() []string { return pairKeys(b.struck) })
}

func pairKeys(pairs map[pair]bool) []string {
	keys := make([]string, 0, len(pairs))
	for p := range pairs {
		keys = append(keys, p.host+"."+string(p.hash))
	}
	return keys
}

func (b *brain) hearAffinity(c queue.Change) {
	b.mirror(affinitySource, c, func(c queue.Change, _ time.Time) {
		if rule, ok := queue.AffinityOf(c); ok {
			b.affinities[c.Key] = true
			b.fleet.PutAffinity(workflow.Hash(c.Key), rule.Prefer, rule.Exclude)
			b.dirty, b.review = true, true
		}
	}, func(c queue.Change, _ time.Time) {
		delete(b.affinities, c.Key)
		b.fleet.PutAffinity(workflow.Hash(c.Key), nil, nil)
		b.dirty, b.review = true, true
	}, func() []string { return slices.Collect(maps.Keys(b.affinities)) })
}

func (b *brain) hearTenant(c queue.Change) {
	b.mirror(tenantSource, c, func(c queue.Change, _ time.Time) {
		if s, ok := queue.TenantOf(c); ok {
			b.tenants[c.Key] = true
			b.d.quotas.put(job.Tenant(c.Key), s)
			b.putTenant(route.Tenant(c.Key), &s)
		}
	}, func(c queue.Change, _ time.Time) {
		delete(b.tenants, c.Key)
		b.d.quotas.remove(job.Tenant(c.Key))
		b.putTenant(route.Tenant(c.Key), &queue.TenantSettings{Weight: 1, MaxRunning: b.d.cfg.MaxRunning})
	}, func() []string { return slices.Collect(maps.Keys(b.tenants)) })
}

// putTenant has a tenant's settings hold.
func (b *brain) putTenant(tenant route.Tenant, s *queue.TenantSettings) {
	b.fleet.PutTenant(tenant, s.Weight, s.MaxRunning)
	b.putCap(tenant, s.MaxRunning)
	if s.MaxPriority == nil {
		b.waiting.RemoveCeiling(tenant)
	} else {
		b.waiting.PutCeiling(tenant, int(*s.MaxPriority))
	}
	b.dirty, b.review = true, true
}

// hearCancel takes a cancelled job out of the hand, the waiting room, or its rest. The agent that runs it hears for itself.
func (b *brain) hearCancel(e job.Event) {
	b.tell(func(time.Time) {
		ticket, waits := b.waiting.ByJob(route.Tenant(e.Tenant), route.JobID(e.Job))
		if !waits {
			if x := b.admission.byJob[idKey{e.Tenant, e.Job}]; x != nil {
				b.admission.remove(x.sequence)
				b.walk(func(ctx context.Context) { b.d.finishStored(ctx, idKey{x.lane.Tenant, x.id}, x.sequence, x.lease) })
			}
			return
		}
		if o := b.hand[ticket.Sequence]; o != nil {
			b.letGo(ticket.Sequence)
			b.walk(func(ctx context.Context) { b.d.finish(ctx, &o.message, o.lease) })
			return
		}
		b.walk(func(ctx context.Context) { b.d.tearUp(ctx, keyOf(&ticket)) })
	})
}
