package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestABlockIsToldAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		block route.Block
		want  string
	}{
		"WithoutAnEnd":      {route.Block{Tenant: "bolt", Kind: failure.Timeout}, "blocked: timeout on jobs of others"},
		"WithoutAMessage":   {route.Block{Tenant: "acme", Kind: failure.Timeout, Until: noon.Add(time.Minute)}, "blocked until 2026-12-01T12:01:00Z"},
		"WithNothingOfBoth": {route.Block{Tenant: "acme", Kind: failure.Timeout}, "blocked"},
	} {
		b := c.block
		b.Host, b.Hash = "a", hashOf(1)
		f := fleet(online("a"))
		f.PutBlock(b)
		if v := f.Explain(want(1), noon)[0]; v.Code != route.CodeBlocked || v.Text != c.want {
			t.Errorf("%s: %s: %q, want %q", name, v.Code, v.Text, c.want)
		}
	}
}

func TestAHostThatFailedTheJobIsAvoidedUntilItsTime(t *testing.T) {
	t.Parallel()
	shared := online("b")
	shared.Foreign, shared.Slots = 1, 1
	f, w := fleet(online("a"), shared), want(1)
	w.Avoid, w.AvoidUntil = []string{"a", "b"}, noon.Add(time.Minute)
	for _, v := range f.Explain(w, noon) {
		if v.Code != route.CodeAvoid || v.Text != "avoided: it failed this job before" || !v.Until.Equal(w.AvoidUntil) {
			t.Errorf("before: %+v", v)
		}
	}
	v := f.Explain(w, w.AvoidUntil)
	if v[0].Code != route.Eligible || v[1].Text != "busy: 1 of 1 slots; 1 of these are not ours" {
		t.Errorf("then: %+v", v)
	}
}

func TestAHoldNamesWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	lacking := func(ids ...string) func(f *route.Fleet, w *route.Want) {
		return func(f *route.Fleet, _ *route.Want) {
			f.RemoveHost("a")
			f.PutRequirements(hashOf(1), needs(1))
			for _, id := range ids {
				f.PutHost(online(id))
				f.PutCapability(route.HostID(id), kindOf(1))
			}
		}
	}
	const lack = ": missing model model-1.safetensors in Loader.ckpt"
	for name, c := range map[string]struct {
		facts  func(f *route.Fleet, w *route.Want)
		reason route.HoldReason
		text   string
		until  time.Time
		online bool
		away   int
	}{
		"OneBlockedHost": {func(f *route.Fleet, _ *route.Want) { f.PutBlock(block("a", 1)) }, route.AllBlocked,
			"it is blocked on every host that can run it", noon.Add(time.Minute), true, 0},
		"BlockedAndAnotherToAvoid": {func(f *route.Fleet, w *route.Want) {
			f.PutBlock(block("a", 1))
			w.Avoid, w.AvoidUntil = []string{"gone"}, noon.Add(time.Hour)
		}, route.AllBlocked, "it is blocked on every host that can run it", noon.Add(time.Minute), true, 0},
		"BlockedAndAnotherOfOthers": {func(f *route.Fleet, _ *route.Want) {
			f.PutBlock(block("a", 1))
			f.PutHost(online("b"))
			f.PutGrant("b", []route.Tenant{"bolt"})
		}, route.AllBlocked, "it is blocked on every host that can run it", noon.Add(time.Minute), true, 0},
		"OthersHostsOfWhichOneLacks": {func(f *route.Fleet, w *route.Want) {
			lacking("lacks")(f, w)
			f.PutHost(online("able"))
			f.PutGrant("able", []route.Tenant{"bolt"})
			f.PutGrant("lacks", []route.Tenant{"bolt"})
		}, route.OthersHosts, "every host that is online and can run it serves other tenants: able", time.Time{}, false, 0},
		"ThreeLack": {lacking("x", "y", "z"), route.NoneCapable, "no host that is online can run it: x" + lack + "; y" + lack + "; z" + lack, time.Time{}, true, 0},
		"FiveLack": {lacking("v", "w", "x", "y", "z"), route.NoneCapable,
			"no host that is online can run it: v" + lack + "; w" + lack + "; x" + lack + "; and 2 more", time.Time{}, true, 0},
		"OneLacksAndOthersAreNoConcern": {func(f *route.Fleet, w *route.Want) {
			lacking("x", "others", "left")(f, w)
			f.PutGrant("others", []route.Tenant{"bolt"})
			f.RemoveHost("left")
		}, route.NoneCapable, "no host that is online can run it: x" + lack, time.Time{}, true, 0},
		"OnlyOneThatDrains": {func(f *route.Fleet, _ *route.Want) {
			f.PutHost(route.HostState{ID: "a", State: route.Draining, Slots: 1})
		}, route.NoneCapable,
			"no host is online: a is draining", time.Time{}, false, 1},
		"OnlyOneThatIsSick": {func(f *route.Fleet, _ *route.Want) { f.PutHost(down("a", "x")) }, route.NoneCapable,
			"no host is online: a is unhealthy", time.Time{}, false, 1},
		"ForAnotherHost": {func(_ *route.Fleet, w *route.Want) { w.Only = []string{"b", "gpu=1"} }, route.Excluded,
			"every online host that can run it is excluded", time.Time{}, true, 0},
	} {
		f, w := fleet(online("a")), want(1)
		c.facts(f, &w)
		got := f.Hold(w, noon)
		if got.Reason != c.reason || got.Text != c.text || !got.Until.Equal(c.until) || got.Online != c.online || got.Away != c.away {
			t.Errorf("%s: %s: %s, until %s, online %t, away %d", name, got.Reason, got.Text, got.Until, got.Online, got.Away)
		}
	}
}

func TestAHostThatIsExcludedSaysByWhat(t *testing.T) {
	t.Parallel()
	f, w := fleet(online("a")), want(1)
	w.Only = []string{"b", "gpu=1"}
	if v := f.Explain(w, noon)[0]; v.Text != "excluded: the job is for b, gpu=1 only" {
		t.Errorf("%+v", v)
	}
	f.PutAffinity(hashOf(1), nil, []string{"a"})
	if v := f.Explain(want(1), noon)[0]; v.Text != "excluded by the workflow's affinity" {
		t.Errorf("%+v", v)
	}
	f.PutAffinity(hashOf(1), []string{"a"}, []string{"b"})
	if v := f.Explain(want(1), noon)[0]; v.Code != route.Eligible {
		t.Errorf("%+v", v)
	}
	f.PutStrikes("unknown", hashOf(1), route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"x": 1}})
	if v := f.Explain(want(1), noon); len(v) != 1 {
		t.Errorf("a host that is neither there nor known is listed: %+v", v)
	}
}
