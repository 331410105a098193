package dispatcher

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// fleetMetrics are facts of the whole fleet, which every dispatcher exports: use the maximum over dispatchers, not the sum. They are
// looked up when they are asked for, from the same survey as the calls; what is gone has no series.
type fleetMetrics struct {
	d *Dispatcher

	hosts, slots, waiting, oldestDue, blocks, pairs, wanted, dispatchers *prometheus.Desc
	laneJobs, laneLimit, share, due, weight, running                     *prometheus.Desc
	connected, reconnects, roundTrip                                     *prometheus.Desc
	storeBytes, storeLimit, storeMessages                                *prometheus.Desc
	consumerPending, consumerUnacked                                     *prometheus.Desc
}

// scrapeTime is how long a scrape waits for facts: those that are not known by then are left out.
const scrapeTime = 4 * time.Second

func newFleetMetrics(d *Dispatcher) *fleetMetrics {
	of := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	return &fleetMetrics{
		d:         d,
		hosts:     of("fleet_hosts", "Hosts by state.", "state"),
		slots:     of("fleet_slots", "Slots of all hosts: busy, free, and out (of hosts that are given no jobs).", "state"),
		waiting:   of("fleet_waiting_jobs", "Waiting jobs by tenant and reason; turn: they only wait their turn.", "tenant", "reason"),
		oldestDue: of("fleet_oldest_due_timestamp_seconds", "Since when the tenant's oldest job is due that its cap does not hold back.", "tenant"),
		blocks:    of("fleet_blocks", "Blocked pairs of host and workflow, by kind.", "kind"),
		pairs:     of("fleet_pairs", "Pairs of a present host and a workflow that it ran lately or that is blocked there: active are all, blocked some of them.", "state"),
		wanted:    of("fleet_wanted_hosts", "Hosts that the busy ones and the due jobs need, so that no job waits for longer than the target.", "pool"),

		dispatchers: of("fleet_dispatchers", "Live dispatchers."),
		laneJobs:    of("fleet_lane_jobs", "Unfinished jobs of a lane.", "tenant", "priority"),
		laneLimit:   of("fleet_lane_jobs_limit", "The most unfinished jobs of a lane."),
		share:       of("fleet_tenant_share_ratio", "The tenant's part of the GPU-seconds used lately.", "tenant"),
		due:         of("fleet_tenant_due_ratio", "The part that follows from the weights of the tenants whose jobs run or could run.", "tenant"),
		weight:      of("fleet_tenant_weight", "The tenant's weight.", "tenant"),
		running:     of("fleet_tenant_running_jobs", "The tenant's running jobs.", "tenant"),

		connected:  of("nats_connected", "1 while this process is connected to NATS."),
		reconnects: of("nats_reconnects_total", "How often this process was connected to NATS anew."),
		roundTrip:  of("nats_round_trip_seconds", "How long a message to NATS and back took."),

		storeBytes:    of("fleet_store_bytes", "Bytes of a stream, bucket or object store.", "store"),
		storeLimit:    of("fleet_store_limit_bytes", "The maximum of these bytes.", "store"),
		storeMessages: of("fleet_store_messages", "Messages of a stream, bucket or object store.", "store"),

		consumerPending: of("fleet_consumer_pending_messages", "Messages that a consumer of the dispatchers has not delivered yet.", "consumer"),
		consumerUnacked: of("fleet_consumer_unacked_messages", "Messages that it has delivered and that are not acked; those of a dispatch consumer are all its unfinished jobs.", "consumer"),
	}
}

// Describe implements prometheus.Collector.
func (m *fleetMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		m.hosts, m.slots, m.waiting, m.oldestDue, m.blocks, m.pairs, m.wanted, m.dispatchers, m.laneJobs, m.laneLimit, m.share, m.due, m.weight, m.running,
		m.connected, m.reconnects, m.roundTrip, m.storeBytes, m.storeLimit, m.storeMessages, m.consumerPending, m.consumerUnacked,
	} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *fleetMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	link := m.d.q.LinkState()
	connected := 0.0
	if link.Connected {
		connected = 1
	}
	send(to, m.connected, connected)
	to <- prometheus.MustNewConstMetric(m.reconnects, prometheus.CounterValue, float64(link.Reconnects))
	if !link.Connected || !m.d.loop.isSynced() {
		return
	}
	if took, err := m.d.q.RoundTrip(ctx); err == nil {
		send(to, m.roundTrip, took.Seconds())
	}
	send(to, m.hosts, float64(len(m.d.history.offlineSince(m.d.clock()))), string(queue.Offline))
	if s, err := m.d.survey(ctx); err == nil {
		m.collectSurvey(to, s.Survey)
	}
	if stores, err := m.d.answers.stores.get(ctx, m.d.q.Stores); err == nil {
		for i := range stores {
			send(to, m.storeBytes, float64(stores[i].Bytes), stores[i].Stream)
			send(to, m.storeMessages, float64(stores[i].Messages), stores[i].Stream)
			if stores[i].Limit > 0 {
				send(to, m.storeLimit, float64(stores[i].Limit), stores[i].Stream)
			}
		}
	}
	if depth, err := m.d.q.Depth(ctx); err == nil {
		m.collectLanes(to, depth)
		if most := m.d.q.LaneCap(); most > 0 {
			send(to, m.laneLimit, float64(most))
		}
	}
	if consumers, err := m.d.q.Consumers(ctx); err == nil {
		for _, c := range consumers {
			send(to, m.consumerPending, float64(c.Pending), c.Consumer)
			send(to, m.consumerUnacked, float64(c.Unacked), c.Consumer)
		}
	}
	live, _ := m.d.answers.dispatchers.some("", "", rowsMost)
	send(to, m.dispatchers, float64(len(live)))
}

func send(to chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (m *fleetMetrics) collectSurvey(to chan<- prometheus.Metric, s *route.Survey) {
	for _, state := range []route.Availability{route.Online, route.Draining, route.Unhealthy, route.Resting} {
		send(to, m.hosts, float64(s.Hosts[state]), string(state))
	}
	send(to, m.slots, float64(s.Busy), "busy")
	send(to, m.slots, float64(s.Free), "free")
	send(to, m.slots, float64(s.Out), "out")
	for _, kind := range failure.Kinds() {
		send(to, m.blocks, float64(s.Blocks[kind]), string(kind))
	}
	send(to, m.pairs, float64(s.Active), "active")
	send(to, m.pairs, float64(s.Blocked), "blocked")
	for pool, n := range s.Wanted {
		send(to, m.wanted, float64(n), pool)
	}
	m.collectTenants(to, tenantCounts(s))
}

// collectTenants gives the tenants with the most waiting jobs series of their own, and the others one together.
func (m *fleetMetrics) collectTenants(to chan<- prometheus.Metric, tenants []queue.TenantCounts) {
	rest, some := queue.TenantCounts{Tenant: other, Waiting: map[string]int{}}, false
	for i := range tenants {
		t := &tenants[i]
		if i < tenantsMax && t.Tenant != other {
			m.collectTenant(to, t)
			continue
		}
		some = true
		for reason, n := range t.Waiting {
			rest.Waiting[reason] += n
		}
		rest.Running += t.Running
		rest.Share += t.Share
		rest.Due += t.Due
		rest.Weight += t.Weight
		if t.OldestDue != nil && (rest.OldestDue == nil || t.OldestDue.Before(*rest.OldestDue)) {
			rest.OldestDue = t.OldestDue
		}
	}
	if some {
		m.collectTenant(to, &rest)
	}
}

// collectLanes gives the lanes of the tenants with the most unfinished jobs series of their own, and those of the others one together for
// each priority.
func (m *fleetMetrics) collectLanes(to chan<- prometheus.Metric, depth map[job.Lane]uint64) {
	jobs := map[job.Tenant]uint64{}
	for lane, n := range depth {
		jobs[lane.Tenant] += n
	}
	tenants := slices.SortedFunc(maps.Keys(jobs), func(a, b job.Tenant) int {
		return cmp.Or(cmp.Compare(jobs[b], jobs[a]), cmp.Compare(a, b))
	})
	for _, t := range tenants[min(len(tenants), tenantsMax):] {
		delete(jobs, t)
	}
	lanes := map[job.Lane]uint64{}
	for lane, n := range depth {
		if _, own := jobs[lane.Tenant]; !own {
			lane.Tenant = other
		}
		lanes[lane] += n
	}
	for lane, n := range lanes {
		send(to, m.laneJobs, float64(n), string(lane.Tenant), strconv.Itoa(int(lane.Priority)))
	}
}

func (m *fleetMetrics) collectTenant(to chan<- prometheus.Metric, t *queue.TenantCounts) {
	tenant := string(t.Tenant)
	for _, reason := range append(holdReasons(), route.Turn) {
		send(to, m.waiting, float64(t.Waiting[string(reason)]), tenant, string(reason))
	}
	if t.OldestDue != nil {
		send(to, m.oldestDue, float64(t.OldestDue.UnixMilli())/1000, tenant)
	}
	send(to, m.share, t.Share, tenant)
	send(to, m.due, t.Due, tenant)
	send(to, m.weight, t.Weight, tenant)
	send(to, m.running, float64(t.Running), tenant)
}

func holdReasons() []route.HoldReason {
	return []route.HoldReason{route.NoneCapable, route.AllBlocked, route.Excluded, route.OverCap, route.NotDue, route.HostsDown, route.OthersHosts}
}

// DescribeMetrics registers the metrics of a dispatcher that does nothing, for their reference.
func DescribeMetrics(r prometheus.Registerer) {
	newMetrics(r)
	r.MustRegister(newFleetMetrics(nil))
}
