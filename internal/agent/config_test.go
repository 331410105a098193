package agent_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestConfigIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  agent.Config
		want string
	}{
		"NoHost": {agent.Config{}, "no ComfyUI host is given: set COMFY_HOSTS, such as COMFY_HOSTS=http://127.0.0.1:8188"},
		"TwoOfOneName": {
			agent.Config{Hosts: []agent.HostConfig{{URL: "http://u:secret@127.0.0.1:8188"}, {Name: "127-0-0-1-8188", URL: "http://h:1"}}},
			"two hosts are named 127-0-0-1-8188 (http://127.0.0.1:8188 and http://h:1): name one, as in other=http://h:1",
		},
		"BadName": {
			agent.Config{Hosts: []agent.HostConfig{{Name: "a.b", URL: "http://h:1"}}},
			`"a.b" is no host name: use 1 to 64 of A-Z a-z 0-9 _ -, as in name=http://127.0.0.1:8188`,
		},
		"BadOutputs": {
			agent.Config{Hosts: []agent.HostConfig{{URL: "http://h:1"}}, Outputs: "s3"}, `outputs is "s3": use "store" or "none"`,
		},
		"TwoOfOneNameThatCannotBeRead": {
			agent.Config{Hosts: []agent.HostConfig{{Name: "a", URL: "http://u:secret@h:x"}, {Name: "a", URL: "http://u:secret@h:y"}}},
			"two hosts are named a (an unreadable address and an unreadable address): name one, as in other=an unreadable address",
		},
		"NoNameInAnUnreadableAddress": {
			agent.Config{Hosts: []agent.HostConfig{{URL: "http://u:secret@h:x"}}},
			`"" is no host name: use 1 to 64 of A-Z a-z 0-9 _ -, as in name=http://127.0.0.1:8188`,
		},
		"BadAddress": {
			agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", URL: "htp://u:secret@h:1"}}},
			`host gpu: "…@h:1" is no address of a ComfyUI host; write it like http://127.0.0.1:8188`,
		},
		"BadRange": {
			agent.Config{Hosts: []agent.HostConfig{{URL: "http://h:1"}}, InputURLs: "lan"},
			`input URLs "lan": "lan" is no range of addresses; use none, public, any, or ranges like 10.0.0.0/8 with commas`,
		},
		"BadLabel": {
			agent.Config{Hosts: []agent.HostConfig{{URL: "http://h:1"}}, Labels: []string{"big"}}, `"big" is no label: write it like gpu=4090`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := agent.New(nil, c.cfg); err == nil || err.Error() != c.want {
				t.Errorf("New says %q, want %q", err, c.want)
			}
			if err := c.cfg.Check(); err == nil || err.Error() != c.want {
				t.Errorf("Check says %q, want %q", err, c.want)
			}
		})
	}
}

// Every machine calls itself 127.0.0.1: named after that, the hosts of two machines would have one name.
func TestAHostOnLoopbackIsNamedAfterTheMachine(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"http://127.0.0.1:8188": "gpu-box-lan-8188", "http://localhost:8189/": "gpu-box-lan-8189", "http://[::1]:8188/b": "gpu-box-lan-8188-b",
		"http://127.0.0.1": "gpu-box-lan", "http://10.0.0.5:8188": "10-0-0-5-8188",
	} {
		a, err := agent.New(nil, agent.Config{Hosts: []agent.HostConfig{{URL: address}}, Machine: "gpu-box.lan"})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Hosts()[0].Name; got != want {
			t.Errorf("%s is named %s, want %s", address, got, want)
		}
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	h := start(t, agent.Config{Registerer: registry})
	h.awaitState("gpu", func(s queue.HostState) bool { return s.State == queue.Online })
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{
		"comfyherd_agent_attempts_total", "comfyherd_agent_failures_total", "comfyherd_agent_offers_total", "comfyherd_agent_running_jobs", "comfyherd_agent_host_online",
		"comfyherd_agent_output_bytes_total", "comfyherd_agent_lease_extensions_total", "comfyherd_agent_host_state", "comfyherd_agent_slots",
		"comfyherd_agent_foreign_prompts", "comfyherd_agent_vram_bytes", "comfyherd_agent_busy_seconds_total", "comfyherd_agent_run_seconds",
		"comfyherd_agent_model_loads_total", "comfyherd_agent_model_load_seconds_total",
	} {
		if !names[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestMetricsCountHowAttemptsEnded(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	h := start(t, agent.Config{Registerer: registry})
	h.online()
	h.succeeds("well", saves)
	h.fails("badly", saves, failure.New(failure.ExecutionError, "no"))
	h.fake.makes(10, picture)
	h.fake.set(func() { h.fake.record = []byte(`{"p":{}}`) })
	stored := h.queued(job.Spec{ID: "stored", Record: true})
	h.accepted(stored)
	h.event(stored, job.Completed)
	for range 3 {
		await(h, h.fake.posted, "an earlier POST")
	}
	for id, end := range map[job.ID]job.Event{
		"cancelled": {EventKind: job.Cancelled, By: "test"}, "dropped": {EventKind: job.Dead, Reason: "expired", Attempt: 1},
	} {
		h.fake.set(func() { h.fake.perform = h.fake.waits })
		o := h.queued(job.Spec{ID: id})
		h.accepted(o)
		await(h, h.fake.posted, "the POST")
		h.append(o, end)
		h.acked(o)
	}
	h.awaitState("gpu", func(s queue.HostState) bool { return len(s.Running) == 0 })
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				if label.GetName() != "host" {
					name += " " + label.GetValue()
				}
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"attempts_total completed": 2, "attempts_total failed": 1, "failures_total execution_error": 1, "failures_total timeout": 0,
		"attempts_total cancelled": 1, "attempts_total dropped": 1,
		"offers_total accepted": 5, "output_bytes_total": 18, "host_online": 1, "running_jobs": 0, "slots": 1, "foreign_prompts": 0, "vram_bytes total": 24 << 30, "model_loads_total": 0,
		"host_state online": 1, "host_state draining": 0, "host_state unhealthy": 0,
	} {
		if n, counted := got["comfyherd_agent_"+name]; !counted || n != want {
			t.Errorf("%s is %v, want %v: %v", name, n, want, got)
		}
	}
	if got["comfyherd_agent_lease_extensions_total"] < 1 { // before the failure
		t.Errorf("leases were extended %v times", got["comfyherd_agent_lease_extensions_total"])
	}
	if got["comfyherd_agent_busy_seconds_total"] <= 0 {
		t.Errorf("slots were held for %v", got["comfyherd_agent_busy_seconds_total"])
	}
}
