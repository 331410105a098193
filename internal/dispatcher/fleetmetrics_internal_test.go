package dispatcher

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// crowd is a fleet with many tenants, of which the first have the most jobs.
type crowd struct {
	*fleetMetrics
	tenants []job.Tenant
}

func (c *crowd) Collect(to chan<- prometheus.Metric) {
	var counts []queue.TenantCounts
	depth := map[job.Lane]uint64{}
	for i, t := range c.tenants {
		counts = append(counts, queue.TenantCounts{Tenant: t, Running: 1})
		depth[job.Lane{Tenant: t, Priority: 5}] = uint64(1000 - i)
		depth[job.Lane{Tenant: t, Priority: 7}] = 1
	}
	c.collectTenants(to, counts)
	c.collectLanes(to, depth)
}

func TestTenantsBeyondTheFirst200AreOneInTheFactsOfTheFleet(t *testing.T) {
	t.Parallel()
	c := &crowd{newFleetMetrics(nil), []job.Tenant{"other"}} // a tenant may have the name by which those are counted
	for i := range 201 {
		c.tenants = append(c.tenants, job.Tenant(fmt.Sprint("t", i)))
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	got := series(t, r)
	for name, want := range map[string]float64{
		"fleet_tenant_running_jobs{tenant=t0}": 1, "fleet_tenant_running_jobs{tenant=t198}": 1, "fleet_tenant_running_jobs{tenant=t199}": 0,
		"fleet_tenant_running_jobs{tenant=other}":   3,
		"fleet_lane_jobs{priority=5,tenant=t198}":   801,
		"fleet_lane_jobs{priority=5,tenant=t199}":   0,
		"fleet_lane_jobs{priority=5,tenant=other}":  1000 + 800 + 799,
		"fleet_lane_jobs{priority=7,tenant=other}":  3,
		"fleet_lane_jobs{priority=7,tenant=absent}": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
