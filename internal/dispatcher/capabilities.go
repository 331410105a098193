package dispatcher

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// capabilities is what hosts can run, as their agents have found out. The fleet holds it, once for all hosts that are
// installed alike.
type capabilities struct {
	fleet   *route.Fleet
	changes *changes

	stored map[string]time.Time // when, by host; an agent stores the capability only when it has changed
}

func newCapabilities(fleet *route.Fleet, changes *changes) *capabilities {
	return &capabilities{fleet: fleet, changes: changes, stored: map[string]time.Time{}}
}

// put takes in what a host can run, as it was stored at a time.
func (c *capabilities) put(host string, capability workflow.Capability, at time.Time) {
	c.stored[host] = at
	c.fleet.PutCapability(route.HostID(host), capability)
	c.changes.all()
}

func (c *capabilities) remove(host string) {
	delete(c.stored, host)
	c.fleet.RemoveCapability(route.HostID(host))
	c.changes.all()
}

func (c *capabilities) keys() []string { return slices.Collect(maps.Keys(c.stored)) }

// capabilityChanged takes in what a host can run now, and lifts its blocks for what it lacked before.
func (l *loop) capabilityChanged(host string, capability workflow.Capability, at time.Time) {
	l.capable.put(host, capability, at)
	if len(l.blocks.incapable[host]) <= liftAtOnce {
		l.liftOutdated(host, always)
		return
	}
	l.background.begin("outdated on "+host, func(pause func() bool) { l.liftOutdated(host, pause) })
}

// liftAtOnce is how many blocks of a host are compared with its capability without a pause.
const liftAtOnce = 256

// outdatedLook is how often blocks are compared with the capabilities that were stored after them.
const outdatedLook = 15 * time.Second

// liftAllOutdated lifts the blocks that are still in force although a capability has changed: the lift may have failed, or the
// host's home may have died meanwhile.
func (l *loop) liftAllOutdated(time.Time) {
	if !l.isSynced() {
		return
	}
	l.background.begin("outdated", func(pause func() bool) {
		for host := range l.blocks.incapable {
			if l.liftOutdated(host, pause); !pause() {
				return
			}
		}
	})
}

// liftOutdated lifts the incapable blocks of a host that are older than its capability. Only the host's home does.
func (l *loop) liftOutdated(host string, pause func() bool) {
	if !l.peers.isHome(host) {
		return
	}
	if hashes := l.blocks.incapableBefore(host, l.capable.stored[host], pause); len(hashes) > 0 {
		l.walk(func(ctx context.Context) { l.d.liftIncapable(ctx, host, hashes) })
	}
}

// affinities holds which hosts operators prefer or exclude for a workflow.
type affinities struct {
	fleet   *route.Fleet
	changes *changes

	known map[string]bool // hashes
}

func newAffinities(fleet *route.Fleet, changes *changes) *affinities {
	return &affinities{fleet: fleet, changes: changes, known: map[string]bool{}}
}

func (a *affinities) put(hash string, rule queue.Affinity) {
	a.known[hash] = true
	a.fleet.PutAffinity(workflow.Hash(hash), rule.Prefer, rule.Exclude)
	a.changes.all()
}

func (a *affinities) remove(hash string) {
	delete(a.known, hash)
	a.fleet.PutAffinity(workflow.Hash(hash), nil, nil)
	a.changes.all()
}

func (a *affinities) keys() []string { return slices.Collect(maps.Keys(a.known)) }
