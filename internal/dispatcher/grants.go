package dispatcher

import (
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// usualSlots is how many jobs a host may claim to run at once, and as many again in line, unless its grant says otherwise.
const usualSlots = 64

// grantTable is what operators have said of hosts, by host.
type grantTable map[string]queue.HostGrant

// most is how many slots of a host count, whatever it claims.
func (g grantTable) most(host string) int {
	if slots := g[host].Slots; slots > 0 {
		return slots
	}
	return usualSlots
}

// capped is what a host claims, as far as it counts.
func (g grantTable) capped(s *queue.HostState) (slots, prefetch int) {
	most := g.most(s.Host)
	return min(s.Slots, most), min(s.Prefetch, most)
}

// serve reports whether a host may have jobs of a tenant. What it says of others' is not heard.
func (g grantTable) serve(host string, t job.Tenant) bool {
	tenants := g[host].Tenants
	return len(tenants) == 0 || slices.Contains(tenants, t)
}

// hearGrant mirrors the grants. A host whose grant cannot be read is given to nobody until it can.
func (b *brain) hearGrant(c queue.Change) {
	b.mirror(grantSource, c, func(c queue.Change, _ time.Time) {
		if !job.ValidHost(c.Key) {
			b.odd.tell(b.d.log, names.GrantsBucket, c.Key, "the key is no host")
			return
		}
		g, err := queue.GrantOf(c)
		b.grants[c.Key] = g
		switch {
		case err != nil:
			b.odd.tell(b.d.log, names.GrantsBucket, c.Key, err.Error())
			b.fleet.PutGrant(route.HostID(c.Key), nil)
		case len(g.Tenants) == 0:
			b.odd.well(names.GrantsBucket, c.Key)
			b.fleet.RemoveGrant(route.HostID(c.Key))
		default:
			b.odd.well(names.GrantsBucket, c.Key)
			tenants := make([]route.Tenant, len(g.Tenants))
			for i, t := range g.Tenants {
				tenants[i] = route.Tenant(t)
			}
			b.fleet.PutGrant(route.HostID(c.Key), tenants)
		}
		b.grantChanged(c.Key)
	}, func(c queue.Change, _ time.Time) {
		delete(b.grants, c.Key)
		b.fleet.RemoveGrant(route.HostID(c.Key))
		b.grantChanged(c.Key)
	}, func() []string { return slices.Collect(maps.Keys(b.grants)) })
}

// grantChanged has all that waits looked at again, and the host's slots counted anew.
func (b *brain) grantChanged(host string) {
	if h := b.hosts[host]; h != nil {
		b.putHost(h)
	}
	b.dirty, b.review = true, true
}
