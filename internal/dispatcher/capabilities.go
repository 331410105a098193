package dispatcher

import (
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// capabilities is what hosts can run, as their agents have found out.
type capabilities struct {
	fleet   *route.Fleet
	changes *changes

	byHost map[string]workflow.Capability
}

func newCapabilities(fleet *route.Fleet, changes *changes) *capabilities {
	return &capabilities{fleet: fleet, changes: changes, byHost: map[string]workflow.Capability{}}
}

func readCapability(c queue.Change) (capability workflow.Capability, why string) {
	if err := capability.UnmarshalBinary(c.Value); err != nil {
		return capability, "the host's capability counts as unknown: " + err.Error()
	}
	return capability, ""
}

// put reports whether the host can run anything else than before.
func (c *capabilities) put(host string, capability workflow.Capability) (changed bool) {
	old := c.byHost[host]
	c.byHost[host] = capability
	c.fleet.PutCapability(route.HostID(host), capability)
	c.changes.all()
	return old.Digest() != capability.Digest() || old.Len() != capability.Len()
}

func (c *capabilities) remove(host string) {
	delete(c.byHost, host)
	c.fleet.RemoveCapability(route.HostID(host))
	c.changes.all()
}

func (c *capabilities) keys() []string { return slices.Collect(maps.Keys(c.byHost)) }

// affinities is which hosts operators would rather have, or not have, run a workflow.
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
