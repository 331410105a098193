package dispatcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// series are all values that are not 0, by name and labels; of a histogram its count and sum.
func series(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), prefix) + "{" + strings.Join(labels, ",") + "}"
			if h := m.GetHistogram(); h != nil {
				found[name+" count"], found[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			found[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, value := range found {
		if value == 0 {
			delete(found, name)
		}
	}
	return found
}

func counts() (*eventCounts, *prometheus.Registry) {
	c, r := newEventCounts(), prometheus.NewRegistry()
	c.register(r)
	return c, r
}

func note(subject, body string) *jetstream.Note {
	return &jetstream.Note{Subject: "comfy.events." + subject, Body: []byte(body), Time: time.Unix(1_800_000_000, 0)}
}

func TestEventsAreCountedByTenantOutcomeAndKind(t *testing.T) {
	t.Parallel()
	c, r := counts()
	c.jobQueued(&job.Job{Tenant: "acme", Priority: 7, RequeueOf: "root"}, time.Unix(1_800_000_000, 0))
	for _, n := range []*jetstream.Note{
		note("jobs.acme.one.started", `{"priority":7,"host":"gpu-1","attempt":1}`),
		note("jobs.acme.one.completed", `{"priority":7,"queued_for":"2s","ran_for":"4s","outputs":[
			{"node":"9","object":"a","size":100,"content_type":"image/png"},{"node":"9","object":"b","size":30,"content_type":"video/mp4"},
			{"node":"9","object":"c","size":5,"content_type":"text/plain"},{"node":"9","size":7,"content_type":"image/png"}]}`),
		note("jobs.acme.two.completed", `{"priority":7,"queued_for":"1s","ran_for":"500ms"}`),
		note("jobs.bolt.one.dead", `{"priority":5,"reason":"not_retryable","kind":"timeout"}`),
		note("jobs.bolt.two.dead", `{"priority":5,"reason":"made_up"}`),
		note("jobs.bolt.two.cancelled", `{"priority":5}`),
		note("jobs.acme.one.failed", `{"priority":5,"kind":"timeout","counted":true}`),
		note("jobs.acme.one.failed", `{"priority":5,"kind":"made_up"}`),
		note("jobs.acme.one.failed", `no JSON`),
		note("jobs.acme.o n e.failed", `{}`),
		note("blocks.gpu-1.aa.blocked", `{"host":"gpu-1","kind":"out_of_memory"}`),
		note("blocks.gpu-1.aa.unblocked", `{"host":"gpu-1","cause":"expired"}`),
		note("blocks.gpu-1.aa.unblocked", `{"host":"gpu-1","cause":"made up"}`),
	} {
		c.count(n)
	}
	want := map[string]float64{
		"attempts_started_total{tenant=acme}": 1, "output_bytes_total{media=image,tenant=acme}": 100, "output_bytes_total{media=video,tenant=acme}": 30,
		"output_bytes_total{media=other,tenant=acme}": 5,
		"jobs_queued_total{priority=7,tenant=acme}":   1, "jobs_requeued_total{}": 1,
		"jobs_ended_total{outcome=completed,tenant=acme}": 2, "jobs_ended_total{outcome=dead,tenant=bolt}": 2, "jobs_ended_total{outcome=cancelled,tenant=bolt}": 1,
		"jobs_dead_total{reason=not_retryable}": 1, "jobs_dead_total{reason=other}": 1,
		"attempts_failed_total{counted=true,kind=timeout}": 1, "attempts_failed_total{counted=false,kind=other}": 1,
		"job_wait_seconds{tenant=acme} count": 2, "job_wait_seconds{tenant=acme} sum": 3,
		"attempt_run_seconds{tenant=acme} count": 2, "attempt_run_seconds{tenant=acme} sum": 4.5, "gpu_seconds_total{tenant=acme}": 4.5,
		"blocks_opened_total{kind=out_of_memory}": 1, "blocks_lifted_total{cause=expired}": 1, "blocks_lifted_total{cause=other}": 1,
	}
	if diff := cmp.Diff(want, series(t, r)); diff != "" {
		t.Errorf("want (-) and got (+):\n%s", diff)
	}
}

func TestClosedSetsHaveASeriesFromTheStart(t *testing.T) {
	t.Parallel()
	_, r := counts()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
	}
	want := map[string]int{
		prefix + "jobs_dead_total": len(failure.Reasons()), prefix + "attempts_failed_total": 2 * len(failure.Kinds()), prefix + "blocks_opened_total": len(failure.Kinds()),
		prefix + "blocks_lifted_total": 5, prefix + "jobs_requeued_total": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-) and got (+):\n%s", diff)
	}
}

func TestTenantsBeyondTheFirst200AreCountedTogetherAndThoseThatAreGoneForgotten(t *testing.T) {
	t.Parallel()
	c, r := counts()
	at := time.Unix(1_800_000_000, 0)
	queued := func(tenant string, at time.Time) { c.jobQueued(&job.Job{Tenant: job.Tenant(tenant), Priority: 5}, at) }
	for i := range 202 {
		queued(fmt.Sprint("t", i), at)
	}
	got := series(t, r)
	if len(got) != 201 || got["jobs_queued_total{priority=5,tenant=other}"] != 2 {
		t.Errorf("%d series, and %v of other", len(got), got["jobs_queued_total{priority=5,tenant=other}"])
	}
	queued("t0", at.Add(20*time.Hour))
	queued("t0", at.Add(25*time.Hour))
	queued("new", at.Add(25*time.Hour))
	want := map[string]float64{"jobs_queued_total{priority=5,tenant=t0}": 3, "jobs_queued_total{priority=5,tenant=new}": 1, "jobs_queued_total{priority=5,tenant=other}": 2}
	if diff := cmp.Diff(want, series(t, r)); diff != "" {
		t.Errorf("a day later, want (-) and got (+):\n%s", diff)
	}
}

func TestATenantWithTheNameOfTheOthersIsCountedWithThem(t *testing.T) {
	t.Parallel()
	c, r := counts()
	at := time.Unix(1_800_000_000, 0)
	queued := func(tenant string, at time.Time) { c.jobQueued(&job.Job{Tenant: job.Tenant(tenant), Priority: 5}, at) }
	queued("other", at)
	for i := range 201 {
		queued(fmt.Sprint("t", i), at.Add(24*time.Hour))
	}
	queued("t0", at.Add(26*time.Hour)) // when that tenant's series would be removed
	if got := series(t, r)["jobs_queued_total{priority=5,tenant=other}"]; got != 2 {
		t.Errorf("other has %v jobs, want 2", got)
	}
}
