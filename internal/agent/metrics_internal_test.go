package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// counted gives every series that is not zero: its value, or of a histogram its sum.
func counted(t *testing.T, m *metrics) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := m.register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, one := range f.GetMetric() {
			name := f.GetName()[len("comfyherd_agent_"):]
			for _, label := range one.GetLabel() {
				name += " " + label.GetValue()
			}
			if v := one.GetCounter().GetValue() + one.GetGauge().GetValue() + one.GetHistogram().GetSampleSum(); v != 0 {
				all[name] = v
			}
		}
	}
	return all
}

func TestWhatIsCountedOfRequestsAndRuns(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.requested("/prompt", 200, time.Second)
	m.requested("/prompt", 200, 2*time.Second)
	m.requested("/secret/path", 0, 4*time.Second)
	h := m.of("gpu")
	h.freed(time.Now().Add(time.Hour), 3*time.Second, []queue.ModelLoad{{Took: job.Duration(time.Second)}, {Took: job.Duration(2 * time.Second)}})
	h.freed(time.Now().Add(time.Hour), 0, nil)
	h.ended("failed", failure.Timeout)
	h.ended("dropped", "")
	h.answered("accepted")
	h.answered("busy")
	h.state(&queue.HostState{State: queue.Unhealthy, Slots: 2, Foreign: 3, Memory: 100, Used: 40})
	want := map[string]float64{
		"comfyui_requests_seconds 200 /prompt": 3, "comfyui_requests_seconds none other": 4, "run_seconds gpu": 3,
		"model_loads_total gpu": 2, "model_load_seconds_total gpu": 3, "attempts_total gpu failed": 1, "attempts_total gpu dropped": 1,
		"failures_total gpu timeout": 1, "offers_total accepted gpu": 1, "offers_total busy gpu": 1, "host_state gpu unhealthy": 1, "slots gpu": 2,
		"foreign_prompts gpu": 3, "vram_bytes gpu total": 100, "vram_bytes gpu used": 40,
	}
	if diff := cmp.Diff(want, counted(t, m)); diff != "" {
		t.Error(diff)
	}
	h.gone()
	for name, v := range counted(t, m) {
		if name == "host_state gpu unhealthy" || name == "slots gpu" {
			t.Errorf("a host that is not served has %s of %v", name, v)
		}
	}
}
