package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// exported are the metrics by name, with the values of labels before each; of a histogram the number of what it has seen.
func exported(t *testing.T, r *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range families {
		text := ""
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				text += l.GetValue() + " "
			}
			text += fmt.Sprint(m.GetGauge().GetValue()+m.GetCounter().GetValue()+float64(m.GetHistogram().GetSampleCount()), "; ")
		}
		found[strings.TrimPrefix(f.GetName(), "comfyherd_")] = text
	}
	return found
}

func TestTheFactsOfTheFleetAreExported(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		registry := prometheus.NewRegistry()
		s.dispatcher(dispatcher.Config{Registerer: registry})
		s.submit("one")
		s.submit("two")
		s.pass(time.Second)
		got := exported(t, registry)
		for name, want := range map[string]string{
			"nats_connected": "1; ", "nats_reconnects_total": "0; ", "nats_round_trip_seconds": "0.001; ", "fleet_dispatchers": "1; ",
			"fleet_store_bytes": "COMFY_JOBS 900; ", "fleet_store_messages": "COMFY_JOBS 3; ", "fleet_store_limit_bytes": "COMFY_JOBS 1000; ",
			"fleet_lane_jobs": "5 acme 2; ", "fleet_lane_jobs_limit": "10000; ", "fleet_consumer_pending_messages": "dispatch_5 4; ",
			"fleet_consumer_unacked_messages": "dispatch_5 2; ", "fleet_hosts": "draining 0; offline 0; online 0; resting 0; unhealthy 0; ",
		} {
			s.want(name, got[name], want)
		}
	})
}

func TestADispatcherCountsWhatItDoes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		registry := prometheus.NewRegistry()
		s.dispatcher(dispatcher.Config{Registerer: registry})
		s.submit("waits")
		s.pass(time.Second)
		s.submit("other", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(time.Second)
		got := exported(t, registry)
		for name, want := range map[string]string{"jobs_parked_total": "2; ", "mirror_tickets": "2; ", "mirror_hosts": "0; ", "claims_total": "lost 0; won 0; ", "jobs_queued_total": "5 acme 2; ", "settle_lag_seconds": "0; "} {
			s.want(name, got[name], want)
		}
		s.runs("a", map[job.ID]outcome{"waits": {kind: failure.InvalidWorkflow}})
		s.pass(2 * time.Second)
		operator[queue.HostsAnswer](s, "hosts", nil)
		answered[jetstream.QueueAnswer](s, "acme", "queue", nil)
		_, _ = callAs[any](s.memory, "acme", "status", jetstream.StatusRequest{Job: "none"}) // it is counted as refused
		s.pass(time.Second)
		got = exported(t, registry)
		for name, want := range map[string]string{
			"claims_total": "lost 0; won 2; ", "mirror_tickets": "0; ", "mirror_hosts": "1; ", "settle_lag_seconds": "1; ", "offer_seconds": "2; ", "clock_offset_seconds": "0; ",
			"api_refused_total": "400 0; 404 1; 409 0; 413 0; 429 0; 500 0; 503 0; ",
		} {
			s.want(name, got[name], want)
		}
		for name, part := range map[string]string{"offers_total": "accepted 2; ", "api_requests_seconds": "hosts 1; "} {
			if !strings.Contains(got[name], part) {
				t.Errorf("%s is %q, want %q in it", name, got[name], part)
			}
		}
		for _, part := range []string{"tenant_queue 1; ", "tenant_status 1; ", "tenant_jobs 0; ", "drain 0; "} {
			if !strings.Contains(got["api_requests_seconds"], part) {
				t.Errorf("calls are %q, want %q in it", got["api_requests_seconds"], part)
			}
		}
		if got["decision_seconds"] == "0; " || got["loop_turn_seconds"] == "0; " {
			t.Errorf("decisions %s turns %s", got["decision_seconds"], got["loop_turn_seconds"])
		}
	})
}

// Each event is delivered to one of the dispatchers that count. One whose metrics nobody reads takes none away from the others.
func TestADispatcherWhoseMetricsNobodyReadsLeavesTheEventsToTheOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		counting, silent := prometheus.NewRegistry(), prometheus.NewRegistry()
		s.dispatcher(dispatcher.Config{Registerer: counting, CountEvents: true})
		s.dispatcher(dispatcher.Config{Registerer: silent})
		s.tallied(jetstream.Note{Subject: "comfy.events.jobs.acme.x.started", Body: []byte("{}")})
		s.want("counted", exported(t, counting)["attempts_started_total"], "acme 1; ")
		s.want("left alone", exported(t, silent)["attempts_started_total"], "")
	})
}

func TestTheEndOfEachJobIsPassedOn(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		registry := prometheus.NewRegistry()
		var ends []queue.JobEnd
		s.dispatcher(dispatcher.Config{Registerer: registry, JobEnded: func(e queue.JobEnd) { ends = append(ends, e) }})
		for _, n := range []jetstream.Note{
			{Subject: "comfy.events.jobs.acme.x.started", Body: []byte("{}")}, {Subject: "comfy.events.jobs.acme.x.completed", Body: []byte(`{"traceparent":"00-1"}`)},
			{Subject: "comfy.events.hosts.a.offline", Body: []byte("{}")}, {Subject: "comfy.events.jobs.bolt.y.cancelled", Body: []byte("{}")},
		} {
			s.tallied(n)
		}
		want := []queue.JobEnd{{Tenant: "acme", Job: "x", How: job.Completed, Traceparent: "00-1"}, {Tenant: "bolt", Job: "y", How: job.Cancelled}}
		if diff := cmp.Diff(want, ends); diff != "" {
			t.Error(diff)
		}
		counted := false
		for _, text := range exported(t, registry) {
			counted = counted || strings.Contains(text, "cancelled bolt 1; ") || strings.Contains(text, "bolt cancelled 1; ")
		}
		s.want("counted", counted, true)
	})
}
