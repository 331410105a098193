package dispatcher

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// eventCounts count what has happened to jobs and blocks. Each event is counted by one dispatcher: a queued event by the one that
// has appended it, the others by the one to which the shared consumer tally delivers them. So sums over all dispatchers are
// right, whatever their number is.
type eventCounts struct {
	queued   *prometheus.CounterVec
	started  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	died     *prometheus.CounterVec
	requeued prometheus.Counter
	failed   *prometheus.CounterVec
	waited   *prometheus.HistogramVec
	ran      *prometheus.HistogramVec
	gpu      *prometheus.CounterVec
	output   *prometheus.CounterVec
	opened   *prometheus.CounterVec
	lifted   *prometheus.CounterVec
	tenants  *tenantLabels
}

// jobBuckets are those of waits and runs.
var jobBuckets = []float64{0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600} //nolint:gochecknoglobals // nothing changes it

func newEventCounts() *eventCounts {
	byTenant := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + name, Help: help, Buckets: jobBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"tenant"})
	}
	c := &eventCounts{
		queued:   counterVec("jobs_queued_total", "Jobs that were received, by tenant and priority.", "tenant", "priority"),
		started:  counterVec("attempts_started_total", "Attempts that hosts began, by tenant.", "tenant"),
		ended:    counterVec("jobs_ended_total", "Jobs that ended, by tenant and outcome.", "tenant", "outcome"),
		died:     counterVec("jobs_dead_total", "Jobs that ended dead, by reason.", "reason"),
		requeued: counter("jobs_requeued_total", "Jobs received that repeat a dead one."),
		failed:   counterVec("attempts_failed_total", "Failed attempts by kind, and whether they count towards max_attempts.", "kind", "counted"),
		waited:   byTenant("job_wait_seconds", "From the publish of jobs that completed to the start of their last attempt."),
		ran:      byTenant("attempt_run_seconds", "How long attempts ran that completed."),
		gpu:      counterVec("gpu_seconds_total", "How long attempts ran that completed, in all, by tenant.", "tenant"),
		output:   counterVec("output_bytes_total", "Bytes of stored outputs of completed jobs, by tenant and media: image, video, audio or other.", "tenant", "media"),
		opened:   counterVec("blocks_opened_total", "Pairs of host and workflow that were blocked, by the kind of failure.", "kind"),
		lifted:   counterVec("blocks_lifted_total", "Blocks that ended, by cause.", "cause"),
	}
	c.tenants = newTenantLabels(func(tenant string) {
		labels := prometheus.Labels{"tenant": tenant}
		for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{c.queued, c.started, c.ended, c.waited, c.ran, c.gpu, c.output} {
			v.DeletePartialMatch(labels)
		}
	})
	for _, reason := range failure.Reasons() {
		c.died.WithLabelValues(string(reason))
	}
	for _, kind := range failure.Kinds() {
		c.failed.WithLabelValues(string(kind), "true")
		c.failed.WithLabelValues(string(kind), "false")
		c.opened.WithLabelValues(string(kind))
	}
	for _, cause := range queue.UnblockCauses() {
		c.lifted.WithLabelValues(string(cause))
	}
	return c
}

func (c *eventCounts) register(r prometheus.Registerer) {
	r.MustRegister(c.queued, c.started, c.ended, c.died, c.requeued, c.failed, c.waited, c.ran, c.gpu, c.output, c.opened, c.lifted)
}

// jobQueued counts a queued event that this dispatcher has appended.
func (c *eventCounts) jobQueued(j *job.Job, now time.Time) {
	c.queued.WithLabelValues(c.tenants.of(j.Tenant, now), strconv.Itoa(int(j.Priority))).Inc()
	if j.RequeueOf != "" {
		c.requeued.Inc()
	}
}

// count counts an event of the consumer tally.
func (c *eventCounts) count(n *jetstream.Note) {
	if strings.HasPrefix(n.Subject, names.BlockEventsPrefix) {
		c.countBlock(n)
		return
	}
	tenant, _, kind, ok := names.JobOfEvent(n.Subject)
	if !ok {
		return
	}
	if kind == job.Started {
		c.started.WithLabelValues(c.tenants.of(tenant, n.Time)).Inc()
		return
	}
	b, readable := job.ReadBrief(kind, n.Body)
	if !readable {
		return
	}
	if kind == job.Failed {
		c.failed.WithLabelValues(string(known(b.Kind, failure.Kind.Valid)), strconv.FormatBool(b.Counted)).Inc()
		return
	}
	label := c.tenants.of(tenant, n.Time)
	c.ended.WithLabelValues(label, string(kind)).Inc()
	if kind == job.Dead {
		c.died.WithLabelValues(string(known(failure.Reason(b.Reason), isReason))).Inc()
	}
	if kind == job.Completed {
		c.waited.WithLabelValues(label).Observe(time.Duration(b.QueuedFor).Seconds())
		c.ran.WithLabelValues(label).Observe(time.Duration(b.RanFor).Seconds())
		c.gpu.WithLabelValues(label).Add(time.Duration(b.RanFor).Seconds())
		c.countOutputs(label, n.Body)
	}
}

// countOutputs counts the stored files of a completed event by what they are.
func (c *eventCounts) countOutputs(tenant string, body []byte) {
	var e struct {
		Outputs []struct {
			Object string `json:"object"`
			Size   int64  `json:"size"`
			Type   string `json:"content_type"`
		} `json:"outputs"`
	}
	if json.Unmarshal(body, &e) != nil {
		return // another program has written it
	}
	for i := range e.Outputs {
		o := &e.Outputs[i]
		if o.Object == "" || o.Size <= 0 {
			continue
		}
		media, _, _ := strings.Cut(o.Type, "/")
		if media != "image" && media != "video" && media != "audio" {
			media = other
		}
		c.output.WithLabelValues(tenant, media).Add(float64(o.Size))
	}
}

func (c *eventCounts) countBlock(n *jetstream.Note) {
	switch n.Subject[strings.LastIndexByte(n.Subject, '.')+1:] {
	case "blocked":
		var b route.Block
		if json.Unmarshal(n.Body, &b) == nil {
			c.opened.WithLabelValues(string(known(b.Kind, failure.Kind.Valid))).Inc()
		}
	case "unblocked":
		var u queue.Unblocked
		if json.Unmarshal(n.Body, &u) == nil {
			c.lifted.WithLabelValues(string(known(u.Cause, isUnblockCause))).Inc()
		}
	}
}

// known is a word of a closed set, or "other": any program may have written the event.
func known[T ~string](word T, valid func(T) bool) T {
	if !valid(word) {
		return other
	}
	return word
}

func isReason(r failure.Reason) bool { return slices.Contains(failure.Reasons(), r) }

func isUnblockCause(c queue.UnblockCause) bool { return slices.Contains(queue.UnblockCauses(), c) }

const (
	other      = "other"        // stands for all tenants beyond tenantsMax, and is the label of a tenant of that name
	tenantsMax = 200            // tenants that have series of their own
	tenantGone = 24 * time.Hour // after which the series of a tenant without events are removed
)

// tenantLabels bounds how many tenants have series of their own, and forgets those that have had no events for long.
type tenantLabels struct {
	mu     sync.Mutex // guards all below
	seen   map[job.Tenant]time.Time
	forgot time.Time
	remove func(tenant string)
}

func newTenantLabels(remove func(string)) *tenantLabels {
	return &tenantLabels{seen: map[job.Tenant]time.Time{}, remove: remove}
}

// of is the label of a tenant that has an event now.
func (l *tenantLabels) of(tenant job.Tenant, now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.forgot) > tenantGone/24 {
		l.forget(now)
	}
	if _, has := l.seen[tenant]; tenant == other || !has && len(l.seen) >= tenantsMax {
		return other
	}
	if tenant = job.Tenant(strings.Clone(string(tenant))); now.After(l.seen[tenant]) {
		l.seen[tenant] = now
	}
	return string(tenant)
}

func (l *tenantLabels) forget(now time.Time) {
	l.forgot = now
	for tenant, last := range l.seen {
		if now.Sub(last) > tenantGone {
			delete(l.seen, tenant)
			l.remove(string(tenant))
		}
	}
}

// tallyLoop counts until ctx ends, and passes on which jobs have ended. A dispatcher whose metrics nobody can read leaves the events to
// the others, in whose counts they would be missing.
func (d *Dispatcher) tallyLoop(ctx context.Context) error {
	if !d.cfg.CountEvents && d.cfg.JobEnded == nil {
		return nil
	}
	return d.q.Tally(ctx, func(n jetstream.Note) {
		d.metrics.count(&n)
		if d.cfg.JobEnded == nil {
			return
		}
		if end, ended := queue.EndOf(&n); ended {
			d.cfg.JobEnded(end)
		}
	}, d.failed("count events for metrics"))
}
