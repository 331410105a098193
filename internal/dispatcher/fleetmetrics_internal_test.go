package dispatcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
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

func TestASurveyIsExportedAsItIs(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	survey := &route.Survey{
		Hosts: map[route.Availability]int{route.Online: 1, route.Draining: 2, route.Unhealthy: 3, route.Resting: 4}, Busy: 5, Free: 6, Out: 7,
		Blocks: map[failure.Kind]int{failure.Timeout: 8}, Active: 9, Blocked: 10, Wanted: map[string]int{"large": 11},
		Tenants: map[route.Tenant]*route.TenantSurvey{"acme": {
			Weight: 2, Running: 3, Used: 4, Waiting: map[route.HoldReason]int{route.AllBlocked: 12}, OldestDue: time.UnixMilli(1_500_250),
		}},
	}
	r.MustRegister(collector(func(m *fleetMetrics, to chan<- prometheus.Metric) { m.collectSurvey(to, survey) }))
	got := series(t, r)
	for name, want := range map[string]float64{
		"fleet_hosts{state=online}": 1, "fleet_hosts{state=draining}": 2, "fleet_hosts{state=unhealthy}": 3, "fleet_hosts{state=resting}": 4,
		"fleet_slots{state=busy}": 5, "fleet_slots{state=free}": 6, "fleet_slots{state=out}": 7, "fleet_blocks{kind=timeout}": 8,
		"fleet_pairs{state=active}": 9, "fleet_pairs{state=blocked}": 10, "fleet_wanted_hosts{pool=large}": 11,
		"fleet_waiting_jobs{reason=all_blocked,tenant=acme}": 12, "fleet_oldest_due_timestamp_seconds{tenant=acme}": 1500.25,
		"fleet_tenant_share_ratio{tenant=acme}": 1, "fleet_tenant_due_ratio{tenant=acme}": 1, "fleet_tenant_weight{tenant=acme}": 2,
		"fleet_tenant_running_jobs{tenant=acme}": 3,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestWhatTheTenantsBeyondTheFirst200HaveIsAddedUp(t *testing.T) {
	t.Parallel()
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	var tenants []queue.TenantCounts
	for i := range tenantsMax {
		tenants = append(tenants, queue.TenantCounts{Tenant: job.Tenant(fmt.Sprint("t", i))})
	}
	for _, due := range []*time.Time{nil, &late, &early, &late} {
		tenants = append(tenants, queue.TenantCounts{
			Tenant: job.Tenant(fmt.Sprint("more-", len(tenants))), Waiting: map[string]int{"turn": 2}, Running: 1, Share: 0.125, Due: 0.25, Weight: 3, OldestDue: due,
		})
	}
	r := prometheus.NewRegistry()
	r.MustRegister(collector(func(m *fleetMetrics, to chan<- prometheus.Metric) { m.collectTenants(to, tenants) }))
	got := series(t, r)
	for name, want := range map[string]float64{
		"fleet_waiting_jobs{reason=turn,tenant=other}": 8, "fleet_tenant_running_jobs{tenant=other}": 4, "fleet_tenant_share_ratio{tenant=other}": 0.5,
		"fleet_tenant_due_ratio{tenant=other}": 1, "fleet_tenant_weight{tenant=other}": 12, "fleet_oldest_due_timestamp_seconds{tenant=other}": 1000,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// collecting exports by a function.
type collecting struct {
	*fleetMetrics
	collect func(*fleetMetrics, chan<- prometheus.Metric)
}

func collector(collect func(*fleetMetrics, chan<- prometheus.Metric)) *collecting {
	return &collecting{newFleetMetrics(nil), collect}
}

func (c *collecting) Collect(to chan<- prometheus.Metric) { c.collect(c.fleetMetrics, to) }
