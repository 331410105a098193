package dispatcher

import (
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// tenants applies the settings of tenants: weight and cap in the fleet, the ceiling of priorities in the waiting room, the
// quota where jobs are taken in.
type tenants struct {
	fleet   *route.Fleet
	room    *route.Room
	slots   *tenantSlots
	quotas  *quotas
	changes *changes
	usual   queue.TenantSettings // of tenants without settings of their own

	known map[string]bool // those that have some
}

func newTenants(t tenants) *tenants {
	t.known = map[string]bool{}
	return &t
}

func (t *tenants) put(tenant string, s *queue.TenantSettings) {
	t.known[tenant] = true
	t.quotas.put(job.Tenant(tenant), *s)
	t.apply(route.Tenant(tenant), s)
}

func (t *tenants) remove(tenant string) {
	delete(t.known, tenant)
	t.quotas.remove(job.Tenant(tenant))
	t.apply(route.Tenant(tenant), &t.usual)
}

func (t *tenants) apply(tenant route.Tenant, s *queue.TenantSettings) {
	t.fleet.PutTenant(tenant, s.Weight, s.MaxRunning)
	t.slots.setCap(tenant, s.MaxRunning)
	if s.MaxPriority == nil {
		t.room.RemoveCeiling(tenant)
	} else {
		t.room.PutCeiling(tenant, int(*s.MaxPriority))
	}
	t.changes.all()
}

// meet applies the usual cap to a tenant that is seen for the first time and has no settings.
func (t *tenants) meet(tenant route.Tenant) {
	if t.usual.MaxRunning > 0 && !t.slots.capped(tenant) && !t.known[string(tenant)] {
		t.slots.makeRoom(func(old route.Tenant) bool { return !t.known[string(old)] })
		t.slots.setCap(tenant, t.usual.MaxRunning)
	}
}

func (t *tenants) keys() []string { return slices.Collect(maps.Keys(t.known)) }
