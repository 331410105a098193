package integration_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (f *fleet) hosts() []queue.HostInfo {
	f.t.Helper()
	return call[queue.HostsAnswer](f, "hosts", struct{}{}).Hosts
}

// idle waits until all dispatchers know that nothing runs: a wish for a host counts only while that is free.
func (f *fleet) idle() {
	f.t.Helper()
	f.everyone("idle hosts", func() bool {
		return count(f.hosts(), func(h queue.HostInfo) bool { return len(h.Running) > 0 }) == 0
	})
}

// labelled starts hosts with labels of their own and one dispatcher that knows them.
func labelled(t *testing.T, labels map[string]string, configs ...comfysim.Config) *fleet {
	t.Helper()
	f := start(t, setup{noAgents: true, hosts: configs})
	for name, sim := range f.sims {
		f.agent(name, sim.URL(), agent.Config{Labels: []string{labels[name]}})
	}
	f.awaitPresence(len(configs))
	f.dispatcher(dispatcher.Config{Policy: quick()})
	return f
}

func TestHostsAndLabelsInAJobsWishes(t *testing.T) {
	t.Parallel()
	f := labelled(t, map[string]string{"a": "gpu=4090", "b": "gpu=3060", "c": "gpu=4090"}, names("a", "b", "c")...)
	for n, c := range []struct {
		spec job.Spec
		want string // hosts that may have run it
	}{
		{job.Spec{OnlyHosts: []string{"b"}}, "b"},
		{job.Spec{OnlyHosts: []string{"gpu=3060"}}, "b"},
		{job.Spec{PreferHosts: []string{"b"}}, "b"},
		{job.Spec{PreferHosts: []string{"gpu=3060"}}, "b"},
		{job.Spec{ExcludeHosts: []string{"gpu=4090"}}, "b"},
		{job.Spec{ExcludeHosts: []string{"a", "b"}}, "c"},
		{job.Spec{OnlyHosts: []string{"gpu=4090"}, ExcludeHosts: []string{"c"}}, "a"},
		{job.Spec{PreferHosts: []string{"gpu=3060"}, OnlyHosts: []string{"a"}}, "a"},
		{job.Spec{PreferHosts: []string{"gpu=none"}, OnlyHosts: []string{"c"}}, "c"},
	} {
		c.spec.Workflow = inverted(1, n)
		f.idle()
		if end := f.end(f.submit("acme", c.spec)); end.Host != c.want {
			t.Errorf("%d: prefer %q only %q exclude %q ran on %q, want %q", n, c.spec.PreferHosts, c.spec.OnlyHosts, c.spec.ExcludeHosts, end.Host, c.want)
		}
	}
}

func TestAnAffinityRuleTiesAWorkflowToHosts(t *testing.T) {
	t.Parallel()
	f := labelled(t, map[string]string{"a": "gpu=4090", "b": "gpu=3060", "c": "gpu=4090"}, names("a", "b", "c")...)
	w := inverted(1, 2)
	hash := hashOf(t, w)
	verdicts := func() map[string]string {
		codes := map[string]string{}
		for _, v := range call[jetstream.WhyAnswer](f, "why", jetstream.WhyRequest{Workflow: w}).Hosts {
			codes[string(v.Host)] = string(v.Code)
		}
		return codes
	}
	set := func(r queue.AffinityRequest) map[workflow.Hash]queue.Affinity {
		r.Hash = hash
		return call[queue.AffinityAnswer](f, "affinity", r).Affinity
	}
	if rule := set(queue.AffinityRequest{Prefer: []string{"a"}, Exclude: []string{"gpu=3060"}})[hash]; len(rule.Prefer) != 1 || rule.Exclude[0] != "gpu=3060" {
		t.Errorf("the rule is %+v", rule)
	}
	f.eventually("the rule at work", func() bool { return verdicts()["b"] == "excluded" })
	f.idle()
	if end := f.end(f.submit("acme", job.Spec{Workflow: w})); end.Host != "a" {
		t.Errorf("ran on %s, want a", end.Host)
	}
	// A job's own wish comes first, and the rule still excludes.
	f.idle()
	if end := f.end(f.submit("acme", job.Spec{Workflow: w, PreferHosts: []string{"b", "c"}})); end.Host != "c" {
		t.Errorf("ran on %s, want c", end.Host)
	}
	set(queue.AffinityRequest{Prefer: []string{"gpu=3060"}, Exclude: []string{"gpu=4090"}})
	f.eventually("the other rule at work", func() bool { return verdicts()["a"] == "excluded" && verdicts()["b"] == "eligible" })
	f.idle()
	if end := f.end(f.submit("acme", job.Spec{Workflow: w})); end.Host != "b" {
		t.Errorf("ran on %s, want b", end.Host)
	}
	// A job of which no host is left waits until the rule is gone.
	r := f.submit("acme", onlyOn("a", w))
	if e := f.await(r, job.Waiting); e.Reason != "excluded" || e.Hosts["a"] != "excluded by the workflow's affinity" {
		t.Errorf("waiting says %q %v", e.Reason, e.Hosts)
	}
	if left := set(queue.AffinityRequest{Remove: true}); len(left) != 0 {
		t.Errorf("after its removal the rule is %v", left)
	}
	if end := f.end(r); end.Host != "a" {
		t.Errorf("ran on %s, want a", end.Host)
	}
	for _, bad := range []queue.AffinityRequest{{Hash: "12"}, {Prefer: []string{"a"}}, {Hash: hash, Prefer: []string{"no host"}}} {
		if err := f.q.Call(f.context(), "affinity", bad, nil); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
