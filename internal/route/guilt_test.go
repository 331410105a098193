package route_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// down is an unhealthy host, and whose job it ran.
func down(id, tenant string) route.HostState {
	return route.HostState{ID: route.HostID(id), State: route.Unhealthy, Slots: 1, Blame: route.Blame{Tenant: route.Tenant(tenant), Job: route.JobID("job-" + id)}}
}

func TestAHostThatIsLostBlocksNothingAndIsRemembered(t *testing.T) {
	t.Parallel()
	lost := strike(1, failure.HostLost, "acme")
	lost.Attempt.Node, lost.Attempt.Progress, lost.Attempt.NodeRan, lost.Attempt.Cause = "3", 0.25, 7*time.Second, failure.Down
	s, b := route.Strikes{}.Add(lost, noon, route.Production())
	want := []route.Suspicion{{Tenant: "acme", Job: "j", Kind: failure.HostLost, Cause: failure.Down, Node: "3", Progress: 0.25, NodeRan: 7 * time.Second}}
	if diff := cmp.Diff(want, s.Suspects); diff != "" || b != nil || s.OnProbation() || s.Clear() {
		t.Errorf("block %+v, %+v: %s", b, s, diff)
	}
	loss := s.Suspects[0].Loss("a")
	if another := (failure.Attempt{Host: "b", Kind: failure.HostSick, Node: "3", Progress: 0.25}); !failure.Alike(&loss.Attempt, &another) || loss.Job != "j" {
		t.Errorf("the suspicion as a loss is %+v", loss)
	}
	if again, _ := s.Add(lost, noon, route.Production()); len(again.Suspects) != 1 {
		t.Errorf("counted twice: %+v", again)
	}
	if after, _, changed := s.Success("other", 0, noon, noon); changed || len(after.Suspects) != 1 {
		t.Errorf("another tenant's success: %+v", after)
	}
	if after, _, changed := s.Success("acme", 0, noon, noon); !changed || len(after.Suspects) != 0 {
		t.Errorf("its own success: %+v", after)
	}
	if loss.Host != "a" {
		t.Errorf("the loss is of host %q", loss.Host)
	}
	for n := range 20 {
		another := strike(n+2, failure.HostLost, "acme")
		another.Job = route.JobID(fmt.Sprint("job-", n))
		s, _ = s.Add(another, noon, route.Production())
	}
	if len(s.Suspects) != 8 || s.Suspects[0].Job != "job-12" || s.Suspects[7].Job != "job-19" {
		t.Errorf("the suspicions that are kept: %+v, want the last 8", s.Suspects)
	}
}

func TestAHostThatFallsSickBlocksItsPairForTheTenantUnlessItIsProvenToBeAtFault(t *testing.T) {
	t.Parallel()
	sick := strike(1, failure.HostSick, "acme")
	s, b := route.Strikes{}.Add(sick, noon, route.Production())
	if b == nil || !b.HoldsFor("acme", 0) || b.HoldsFor("other", 0) || len(s.Suspects) != 1 {
		t.Errorf("block %+v, %+v", b, s)
	}
	sick.Attempt.Proven = true
	if s, b := (route.Strikes{}).Add(sick, noon, route.Production()); b != nil || !s.Clear() {
		t.Errorf("proven: block %+v, %+v", b, s)
	}
}

func TestAHostThatIsLostWhileThePromptWaitedIsNotHeldAgainstIt(t *testing.T) {
	t.Parallel()
	for _, kind := range []failure.Kind{failure.HostLost, failure.HostSick} {
		waited := strike(1, kind, "acme")
		waited.Attempt.Waited = true
		if s, b := (route.Strikes{}).Add(waited, noon, route.Production()); b != nil || !s.Clear() {
			t.Errorf("%s: block %+v, %+v", kind, b, s)
		}
	}
}

func TestGuiltIsRememberedUntilASuccess(t *testing.T) {
	t.Parallel()
	s := route.Strikes{}.SetGuilty("acme", "a and b")
	if s.Clear() || s.Guilty["acme"] != "a and b" {
		t.Errorf("%+v", s)
	}
	if after, _, changed := s.Success("other", 0, noon, noon); changed || after.Guilty["acme"] == "" {
		t.Errorf("another's success: %+v", after)
	}
	if after, _, changed := s.Success("acme", 0, noon, noon); !changed || len(after.Guilty) != 0 || s.Guilty["acme"] == "" {
		t.Errorf("its own: %+v, before: %+v", after, s)
	}
}

func TestWhileTwoHostsAreOutBecauseOfATenantItsJobsWaitAndOthersGoOn(t *testing.T) {
	t.Parallel()
	f := fleet(online("gone"), online("c"))
	f.RemoveHost("gone")
	if got := chosen(f, want(1)); got != "c" {
		t.Errorf("with none out: %s", got)
	}
	f.PutHost(down("b", "acme"))
	if got := chosen(f, want(1)); got != "c" {
		t.Errorf("with one host out: %s", got)
	}
	f.PutHost(down("a", "acme"))
	f.PutHost(down("d", "other"))
	room := route.NewRoom()
	room.Put(route.Ticket{Sequence: 1, Tenant: "acme", Job: "j", Hash: hashOf(1), Priority: 9})
	_, _, picked := room.Pick(f, noon)
	_, next := room.Next(f, "c", noon)
	if got := chosen(f, want(1)); got != "none" || f.May(want(1), "c", noon) || picked || next {
		t.Errorf("with two out: chosen %s, may %t, picked %t, next %t", got, f.May(want(1), "c", noon), picked, next)
	}
	if got := chosen(f, route.Want{Hash: hashOf(1), Tenant: "other"}); got != "c" {
		t.Errorf("another tenant's job: %s", got)
	}
	text := "2 hosts are out since they ran jobs of tenant acme: a (job job-a), b (job job-b); its other jobs wait until one of them is back"
	if hold := f.Hold(want(1), noon); hold.Reason != route.HostsDown || hold.Text != text {
		t.Errorf("held because of %s: %s", hold.Reason, hold.Text)
	}
	at := slices.IndexFunc(f.Explain(want(1), noon), func(v route.HostVerdict) bool { return v.Host == "c" })
	if v := f.Explain(want(1), noon)[at]; v.Code != route.CodeLiable || v.Eligible || v.Text != text {
		t.Errorf("why says %+v", v)
	}
	f.PutHost(online("a"))
	if t2, host, ok := room.Pick(f, noon); !ok || t2.Job != "j" {
		t.Errorf("when one is back: %s, %t", host, ok)
	}
	f.PutHost(down("a", "acme"))
	f.RemoveHost("b")
	if got := chosen(f, want(1)); got != "c" {
		t.Errorf("when one has left the fleet: %s", got)
	}
}

func TestWhatIsWithheldGoesNowhereUntilItIsLetGo(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	room := route.NewRoom()
	room.Put(route.Ticket{Sequence: 1, Tenant: "acme", Job: "j", Hash: hashOf(1)})
	f.Withhold(hashOf(1), "acme", true)
	f.Withhold(hashOf(1), "acme", true)
	if _, _, ok := room.Pick(f, noon); ok || chosen(f, want(1)) != "none" {
		t.Error("what is withheld is chosen")
	}
	if got, ok := room.Next(f, "a", noon); ok {
		t.Errorf("the host takes %s, which is withheld", got.Job)
	}
	if hold := f.Hold(want(1), noon); hold.Reason != "" {
		t.Errorf("a moment's judging is told as %+v", hold)
	}
	if v := f.Explain(want(1), noon)[0]; v.Code != route.CodeBlocked || !strings.Contains(v.Text, "judged") {
		t.Errorf("why says %+v", v)
	}
	for _, w := range []route.Want{{Hash: hashOf(2), Tenant: "acme"}, {Hash: hashOf(1), Tenant: "other"}} {
		if got := chosen(f, w); got != "a" {
			t.Errorf("%+v: %s", w, got)
		}
	}
	f.Withhold(hashOf(1), "acme", false)
	f.Withhold(hashOf(1), "acme", false)
	if _, host, ok := room.Pick(f, noon); !ok || host != "a" {
		t.Errorf("let go: %s, %t", host, ok)
	}
}

func TestProspectsTellWhetherAnotherHostIsWorthAsking(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"), online("c"), down("away", "x"))
	plain, rich := kindOf(1), kindOf(2)
	has := func(c workflow.Capability) bool { return c.Digest() == rich.Digest() }
	f.PutCapability("a", plain)
	f.PutCapability("b", plain)
	f.PutCapability("c", rich)
	f.PutCapability("away", plain)
	for name, c := range map[string]struct {
		asked, exclude []string
		left, better   bool
	}{
		"AllButOne":              {asked: []string{"a"}, left: true, better: true},
		"TheOneThatHasIt":        {asked: []string{"c"}, left: true},
		"OneThatIsAwayIsLeft":    {asked: []string{"a", "b", "c"}, left: true},
		"AllHaveBeenAsked":       {asked: []string{"a", "b", "c", "away"}},
		"TheOthersAreExcluded":   {asked: []string{"a"}, exclude: []string{"b", "c", "away"}},
		"AHostThatIsKnownNoMore": {asked: []string{"gone"}, left: true},
	} {
		w := want(1)
		w.Exclude = c.exclude
		if left, better := f.Prospects(w, c.asked, has); left != c.left || better != c.better {
			t.Errorf("%s: left %t, better %t", name, left, better)
		}
	}
}

func TestAHostThatCannotRunTheJobIsNoProspect(t *testing.T) {
	t.Parallel()
	never := func(workflow.Capability) bool { return false }
	incapable := block("b", 1)
	incapable.Kind = failure.Incapable
	for name, c := range map[string]struct {
		facts func(f *route.Fleet)
		left  bool
	}{
		"NothingIsKnownOfIt": {func(*route.Fleet) {}, true},
		"ItLacksAModel":      {func(f *route.Fleet) { f.PutCapability("b", kindOf(1)) }, false},
		"ItIsIncapable":      {func(f *route.Fleet) { f.PutBlock(incapable) }, false},
		"ItIsBlocked":        {func(f *route.Fleet) { f.PutBlock(block("b", 1)) }, true},
		"ItIsGone":           {func(f *route.Fleet) { f.PutCapability("b", kindOf(2)); f.RemoveHost("b") }, false},
		"ItServesOthers":     {func(f *route.Fleet) { f.PutGrant("b", []route.Tenant{"bolt"}) }, false},
	} {
		f := fleet(online("a"), online("b"))
		f.PutRequirements(hashOf(1), needs(1))
		c.facts(f)
		if left, better := f.Prospects(want(1), []string{"a"}, never); left != c.left || better {
			t.Errorf("%s: left %t, better %t", name, left, better)
		}
	}
}

func TestHostsVaryWhenTheirInstallationsDo(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"))
	for _, c := range []struct {
		host   route.HostID
		kind   int
		varied bool
	}{{"a", 1, false}, {"b", 1, false}, {"b", 2, true}, {"a", 2, false}} {
		f.PutCapability(c.host, kindOf(c.kind))
		if got := f.Varied(); got != c.varied {
			t.Errorf("after %s has kind %d: varied %t", c.host, c.kind, got)
		}
	}
}

func TestHostsThatLackSomethingAreListedWhileOneHasIt(t *testing.T) {
	t.Parallel()
	f := fleet(online("b"), online("a"), online("c"))
	plain, rich := kindOf(1), kindOf(2)
	has := func(c workflow.Capability) bool { return c.Digest() == rich.Digest() }
	f.PutCapability("a", plain)
	f.PutCapability("b", plain)
	f.PutCapability("c", plain)
	if got := f.Lacking(want(1), has, 9); got != nil {
		t.Errorf("when all lack it: %q", got)
	}
	f.PutCapability("c", rich)
	if diff := cmp.Diff([]string{"a", "b"}, f.Lacking(want(1), has, 9)); diff != "" {
		t.Error(diff)
	}
	avoiding := want(1)
	avoiding.Avoid = []string{"c"}
	f.PutBlock(block("c", 2))
	for name, w := range map[string]route.Want{"avoided": avoiding, "blocked": want(2)} {
		if got := f.Lacking(w, has, 9); got != nil {
			t.Errorf("when the one that has it is %s: %q", name, got)
		}
	}
	f.PutHost(down("c", "x"))
	if got := f.Lacking(want(1), has, 9); got != nil {
		t.Errorf("when the one that has it is out: %q", got)
	}
}
