package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestExplainNamesTheReasonOfEveryHost(t *testing.T) {
	t.Parallel()
	f := fleet(online("blocked"), online("busy"), online("excluded"), online("fine"), online("lacking"), online("failed"))
	f.PutHost(route.HostState{ID: "leaving", State: route.Draining, Slots: 1})
	f.PutHost(route.HostState{ID: "sick", State: route.Unhealthy, Slots: 1})
	f.PutCapability("away", kindOf(7))
	f.PutCapability("lacking", kindOf(1))
	f.PutRequirements(hashOf(1), needs(1))
	b := block("blocked", 1)
	b.Message, b.Tenant = "CUDA error", "acme"
	f.PutBlock(b)
	f.PutHost(route.HostState{ID: "full", State: route.Online, Slots: 1, Prefetch: 1})
	f.Occupy("full", route.Run{Tenant: "other", Job: "y", Hash: hashOf(2)})
	f.Occupy("full", route.Run{Tenant: "other", Job: "z", Hash: hashOf(2)})
	f.PutHost(route.HostState{ID: "shared", State: route.Online, Slots: 1, Foreign: 3})
	f.Occupy("busy", route.Run{Tenant: "other", Job: "x", Hash: hashOf(2)})
	w := want(1)
	w.Exclude, w.Avoid = []string{"excluded"}, []string{"failed"}
	got := map[string]string{}
	for _, v := range f.Explain(w, noon) {
		got[string(v.Host)] = string(v.Code) + ": " + v.Text
		if v.Eligible != (v.Code == route.Eligible) {
			t.Errorf("%s: eligible %t", v.Host, v.Eligible)
		}
	}
	expected := map[string]string{
		"away":     "offline: offline",
		"blocked":  `blocked: blocked until 2026-12-01T12:01:00Z after "CUDA error"`,
		"busy":     "busy: busy: 1 of 1 slots",
		"excluded": "excluded: excluded by the job",
		"full":     "busy: busy: 1 of 1 slots, 1 more in line",
		"shared":   "busy: busy: 1 of 1 slots, 2 more in line; 3 of these are not ours",
		"failed":   "avoided: avoided: it failed this job before, and other hosts can take it",
		"fine":     "eligible: eligible",
		"lacking":  "missing: missing model model-1.safetensors in Loader.ckpt",
		"leaving":  "draining: draining",
		"sick":     "unhealthy: unhealthy",
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Error(diff)
	}
}

func TestABlockTellsOthersOnlyOfWhatKindItIs(t *testing.T) {
	t.Parallel()
	until := "blocked until 2026-12-01T12:01:00Z"
	for name, c := range map[string]struct {
		block route.Block
		whole bool
		want  string
	}{
		"ItsOwn":                 {block: route.Block{Tenant: "acme", Tenants: []route.Tenant{"*"}}, want: until + ` after "secret"`},
		"AnotherTenants":         {block: route.Block{Tenant: "bolt", Tenants: []route.Tenant{"*"}}, want: until + ": out of memory on jobs of others"},
		"NobodyKnowsWhose":       {block: route.Block{Tenants: []route.Tenant{"*"}}, want: until + ": out of memory on jobs of others"},
		"AnOldOneForItAlone":     {block: route.Block{Tenants: []route.Tenant{"acme"}}, want: until + ` after "secret"`},
		"OfSeveralAndItselfToo":  {block: route.Block{Tenant: "bolt", Tenants: []route.Tenant{"bolt"}, Own: map[route.Tenant]int64{"acme": 0}}, want: until + ": out of memory on jobs of several tenants"},
		"OfTwo":                  {block: route.Block{Tenants: []route.Tenant{"acme", "bolt"}}, want: until + ": out of memory on jobs of others"},
		"AnotherTenantsAsAWhole": {block: route.Block{Tenant: "bolt", Tenants: []route.Tenant{"*"}}, whole: true, want: until + ` after "secret"`},
	} {
		b := c.block
		b.Host, b.Hash, b.Kind, b.Message, b.Job, b.Until = "a", hashOf(1), failure.OutOfMemory, "secret", "job-of-it", noon.Add(time.Minute)
		f := fleet(online("a"))
		f.PutBlock(b)
		w := want(1)
		w.Whole = c.whole
		if v := f.Explain(w, noon)[0]; v.Code != route.CodeBlocked || v.Text != c.want {
			t.Errorf("%s: %s: %q, want %q", name, v.Code, v.Text, c.want)
		}
	}
}

func TestExplainTellsOfCapsAndProbation(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 2
	f := fleet(s)
	f.Occupy("a", route.Run{Tenant: "acme", Job: "x", Hash: hashOf(1)})
	f.PutStrikes("a", hashOf(1), route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"other": 1}})
	if v := f.Explain(want(1), noon)[0]; v.Code != route.CodeProbe {
		t.Errorf("on probation: %+v", v)
	}
	if got := chosen(f, want(1)); got != "none" {
		t.Errorf("a second job on probation goes to %s", got)
	}
	f.Occupy("a", route.Run{Tenant: "acme", Job: "y", Hash: hashOf(1)})
	f.Release("a", "acme", "y")
	if v := f.Explain(want(1), noon)[0]; v.Text != "probation: one job of this workflow at a time after a block" {
		t.Errorf("when one of two has ended: %+v", v)
	}
	f.Release("a", "acme", "x")
	if v := f.Explain(want(1), noon)[0]; v.Code != route.Eligible {
		t.Errorf("on probation, and none runs: %+v", v)
	}
	f.Occupy("a", route.Run{Tenant: "acme", Job: "x", Hash: hashOf(1)})
	f.RemoveStrikes("a", hashOf(1))
	if got := chosen(f, want(1)); got != "a" {
		t.Errorf("after probation: %s", got)
	}
	f.PutTenant("acme", 1, 1)
	if v := f.Explain(want(1), noon)[0]; v.Code != route.CodeOverCap || !strings.Contains(v.Text, "runs 1 of 1") {
		t.Errorf("at the cap: %+v", v)
	}
}

func TestHoldSaysWhyNobodyMayTakeTheJob(t *testing.T) {
	t.Parallel()
	incapable := block("a", 1)
	incapable.Kind = failure.Incapable
	later := block("b", 1)
	later.Until = noon.Add(2 * time.Minute)
	busy := func(f *route.Fleet) { f.Occupy("a", route.Run{Tenant: "x", Job: "x", Hash: hashOf(2)}) }
	for name, c := range map[string]struct {
		facts  func(f *route.Fleet)
		want   func(w *route.Want)
		reason route.HoldReason
		text   string
		until  time.Time
	}{
		"no host":     {facts: func(f *route.Fleet) { f.RemoveHost("a"); f.RemoveHost("b") }, reason: route.NoneCapable, text: "no host is online"},
		"merely busy": {facts: busy},
		"incapable blocked": {facts: func(f *route.Fleet) { f.PutBlock(incapable); f.RemoveHost("b") }, reason: route.NoneCapable,
			text: "no host that is online can run it: a: blocked until 2026-12-01T12:01:00Z: incapable on jobs of others"},
		"lacking": {facts: func(f *route.Fleet) {
			f.PutCapability("a", kindOf(1))
			f.PutCapability("b", kindOf(1))
		}, reason: route.NoneCapable, text: "no host that is online can run it: a: missing model model-1.safetensors in Loader.ckpt; " +
			"b: missing model model-1.safetensors in Loader.ckpt"},
		"all drained or sick": {facts: func(f *route.Fleet) {
			drained, sick := online("a"), online("b")
			drained.State, sick.State = route.Draining, route.Unhealthy
			f.PutHost(drained)
			f.PutHost(sick)
		}, reason: route.NoneCapable, text: "no host is online: a is draining; b is unhealthy"},
		"blocked": {facts: func(f *route.Fleet) { f.PutBlock(block("a", 1)); f.PutBlock(later) }, reason: route.AllBlocked,
			text: "it is blocked on every host that can run it", until: noon.Add(time.Minute)},
		"one blocked": {facts: func(f *route.Fleet) { f.PutBlock(block("a", 1)) }},
		"excluded":    {want: func(w *route.Want) { w.Exclude = []string{"a", "b"} }, reason: route.Excluded, text: "every online host that can run it is excluded"},
		"failed on both": {want: func(w *route.Want) { w.Avoid, w.AvoidUntil = []string{"a", "b"}, noon.Add(time.Second) }, reason: route.NotDue,
			text: "only hosts that failed it before are left; they are tried again at 2026-12-01T12:00:01Z", until: noon.Add(time.Second)},
		"not due": {want: func(w *route.Want) { w.NotBefore = noon.Add(time.Hour) }, reason: route.NotDue, text: "not due before 2026-12-01T13:00:00Z", until: noon.Add(time.Hour)},
		"over the cap": {facts: func(f *route.Fleet) {
			f.PutTenant("acme", 1, 1)
			f.Occupy("a", route.Run{Tenant: "acme", Job: "x", Hash: hashOf(2)})
		}, reason: route.OverCap, text: "tenant acme runs 1 jobs, as many as it may"},
	} {
		f, w := fleet(online("a"), online("b")), want(1)
		f.PutRequirements(hashOf(1), needs(1))
		if c.facts != nil {
			c.facts(f)
		}
		if c.want != nil {
			c.want(&w)
		}
		got := f.Hold(w, noon)
		if got.Reason != c.reason || got.Text != c.text || !got.Until.Equal(c.until) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestABlockStandsUntilItIsRemovedWhateverTimeItIs(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	f.PutBlock(block("a", 1)) // until noon + 1 min
	if id, ok := f.Choose(want(1), noon.Add(24*time.Hour)); ok {
		t.Errorf("a day after its end the blocked host %s is chosen", id)
	}
	f.RemoveBlock("a", hashOf(1))
	if got := chosen(f, want(1)); got != "a" {
		t.Errorf("a block that was removed before its end still holds: %s", got)
	}
}

func TestAHostThatCouldHoldAJobIsBusyWhileAnotherIsIdle(t *testing.T) {
	t.Parallel()
	s := online("working")
	s.Prefetch = 1
	f := fleet(s, online("idle"))
	f.Occupy("working", route.Run{Tenant: "other", Job: "x", Hash: hashOf(2)})
	if v := f.Explain(want(1), noon); v[0].Code != route.Eligible || v[1].Code != route.CodeBusy || v[1].Eligible {
		t.Errorf("beside an idle host: %+v", v)
	}
	f.Occupy("idle", route.Run{Tenant: "other", Job: "y", Hash: hashOf(2)})
	if v := f.Explain(want(1), noon); v[0].Code != route.CodeBusy || v[1].Code != route.Eligible {
		t.Errorf("when both work: %+v", v)
	}
}

func TestAHostIsBusyUntilShortlyBeforeItMayHoldTheJob(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Prefetch = 1
	f := fleet(s)
	f.ObserveRun(hashOf(2), "a", time.Minute)
	s.Running = []route.Run{{Tenant: "other", Job: "x", Hash: hashOf(2), Since: noon}}
	f.PutHost(s)
	v := f.Explain(want(1), noon)[0]
	if v.Eligible || v.Code != route.CodeBusy || v.Text != "busy: 1 of 1 slots, free about 2026-12-01T12:01:00Z" || !v.Until.Equal(noon.Add(time.Minute)) {
		t.Errorf("a minute before it is free: %+v", v)
	}
	if v := f.Explain(want(1), noon.Add(time.Minute-route.PrefetchAhead))[0]; v.Code != route.Eligible {
		t.Errorf("when it may hold the job: %+v", v)
	}
	f.Occupy("a", route.Run{Tenant: "other", Job: "y", Hash: hashOf(2)})
	if v := f.Explain(want(1), noon.Add(59*time.Second))[0]; v.Text != "busy: 1 of 1 slots, 1 more in line" {
		t.Errorf("when it holds one: %+v", v)
	}
}

func TestAnIdleHostIsColdWhileAWarmOneIsExpectedSooner(t *testing.T) {
	t.Parallel()
	codes := func(prefetch int, at time.Duration) string {
		v := learned(prefetch, false).Explain(want(1), noon.Add(at)) // its warm host is free at noon + 14 s; loading takes 8 s
		if v[0].Code == route.CodeCold && (v[0].Eligible || v[0].Text == "" || v[0].Until.IsZero()) {
			t.Errorf("%+v", v[0])
		}
		return string(v[0].Code) + " " + string(v[1].Code)
	}
	for _, c := range []struct {
		prefetch int
		at       time.Duration
		want     string
	}{
		{0, 9 * time.Second, "eligible busy"},
		{0, 11 * time.Second, "cold busy"},
		{1, 11 * time.Second, "cold busy"},
		{1, 12 * time.Second, "cold eligible"},
		{1, 15 * time.Second, "eligible busy"},
	} {
		if got := codes(c.prefetch, c.at); got != c.want {
			t.Errorf("prefetch %d after %s: %s, want %s", c.prefetch, c.at, got, c.want)
		}
	}
}
