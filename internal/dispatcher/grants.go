package dispatcher

import (
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// usualSlots is how many jobs a host may claim to run at once, and as many again in line, unless its grant says otherwise.
const usualSlots = 64

// grants are what operators allow hosts: of which tenants they may have jobs, and how many at once.
type grants struct {
	fleet  *route.Fleet
	byHost map[string]queue.HostGrant
}

func newGrants(fleet *route.Fleet) *grants {
	return &grants{fleet: fleet, byHost: map[string]queue.HostGrant{}}
}

func (g *grants) put(host string, grant queue.HostGrant) {
	g.byHost[host] = grant
	if len(grant.Tenants) == 0 {
		g.fleet.RemoveGrant(route.HostID(host))
		return
	}
	tenants := make([]route.Tenant, len(grant.Tenants))
	for i, t := range grant.Tenants {
		tenants[i] = route.Tenant(t)
	}
	g.fleet.PutGrant(route.HostID(host), tenants)
}

// putInvalid gives a host whose grant cannot be read no job of any tenant, until it can.
func (g *grants) putInvalid(host string) {
	g.byHost[host] = queue.HostGrant{}
	g.fleet.PutGrant(route.HostID(host), nil)
}

func (g *grants) remove(host string) {
	delete(g.byHost, host)
	g.fleet.RemoveGrant(route.HostID(host))
}

func (g *grants) keys() []string { return slices.Collect(maps.Keys(g.byHost)) }

// most is how many slots of a host count at most, however many it claims.
func (g *grants) most(host string) int {
	if slots := g.byHost[host].Slots; slots > 0 {
		return slots
	}
	return usualSlots
}

// capped gives the slots and the prefetch that a host claims, each no more than most.
func (g *grants) capped(s *queue.HostState) (slots, prefetch int) {
	most := g.most(s.Host)
	return min(s.Slots, most), min(s.Prefetch, most)
}

// serves reports whether a host may have jobs of a tenant. What it says of other tenants' jobs is ignored.
func (g *grants) serves(host string, t job.Tenant) bool {
	tenants := g.byHost[host].Tenants
	return len(tenants) == 0 || slices.Contains(tenants, t)
}

// blame gives whose job a host ran when it became unhealthy.
func (g *grants) blame(s *queue.HostState) route.Blame {
	if s.Blame == nil || !g.serves(s.Host, s.Blame.Tenant) {
		return route.Blame{}
	}
	return route.Blame{Tenant: route.Tenant(s.Blame.Tenant), Job: route.JobID(s.Blame.Job)}
}
