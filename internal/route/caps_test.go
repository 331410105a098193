package route_test

import (
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestATenantsCapIsItsOwnOrTheUsualOne(t *testing.T) {
	t.Parallel()
	f := route.NewFleet()
	f.PutUsualCap(-1)
	if got := f.Cap("other"); got != 0 {
		t.Errorf("without a usual cap: %d", got)
	}
	f.PutUsualCap(2)
	f.PutHost(online("a"))
	f.Occupy("a", route.Run{Tenant: "runs", Job: "x", Hash: hashOf(1)})
	f.PutTenant("own", 1, 3)
	f.PutTenant("none", 1, 0)
	f.PutTenant("negative", 1, -1)
	for tenant, want := range map[route.Tenant]int{"other": 2, "runs": 2, "own": 3, "none": 0, "negative": 0} {
		if got := f.Cap(tenant); got != want {
			t.Errorf("cap of %s: %d, want %d", tenant, got, want)
		}
	}
}

func TestATenantHasItsSlotsWhoeverTookThem(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 9
	f := fleet(s)
	f.PutTenant("acme", 1, 3)
	f.PutSlots("free", 5, true)
	for name, c := range map[string]struct {
		slots     int
		elsewhere bool
		running   int
		chosen    string
		kept      bool
	}{
		"None":           {chosen: "a"},
		"TwoOfThree":     {slots: 2, running: 2, chosen: "a"},
		"AllOfThem":      {slots: 3, running: 3, chosen: "none"},
		"More":           {slots: 4, running: 4, chosen: "none"},
		"AnothersToGive": {elsewhere: true, chosen: "none", kept: true},
	} {
		f.PutSlots("acme", c.slots, c.elsewhere)
		if got := f.Running("acme"); got != c.running {
			t.Errorf("%s: %d run, want %d", name, got, c.running)
		}
		if got := chosen(f, want(1)); got != c.chosen || f.Elsewhere("acme") != c.kept {
			t.Errorf("%s: chosen %s, want %s; elsewhere %t", name, got, c.chosen, f.Elsewhere("acme"))
		}
	}
	if got := chosen(f, route.Want{Hash: hashOf(1), Tenant: "free"}); got != "a" || f.Elsewhere("free") || f.Elsewhere("unknown") {
		t.Errorf("a tenant without a cap: chosen %s", got)
	}
	if got, none := f.Running("free"), f.Running("unknown"); got != 5 || none != 0 {
		t.Errorf("%d and %d run, want 5 and 0", got, none)
	}
}

func TestHostsArePresentUntilTheyAreRemoved(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), route.HostState{ID: "b", State: route.Draining})
	f.PutCapability("away", kindOf(1))
	if got := f.Len(); got != 2 {
		t.Errorf("%d hosts, want 2", got)
	}
	f.RemoveHost("a")
	f.RemoveHost("a")
	f.RemoveHost("away")
	f.RemoveHost("unknown")
	if got := f.Len(); got != 1 {
		t.Errorf("%d hosts, want 1", got)
	}
}

func TestTheFirstRequirementsOfAHashCount(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	f.PutCapability("a", kindOf(1))
	if f.Known(hashOf(1)) || chosen(f, want(1)) != "a" || f.Known(hashOf(1)) {
		t.Error("known before anything was said")
	}
	f.PutRequirements(hashOf(1), needs(1))
	f.PutRequirements(hashOf(1), needs(2))
	if !f.Known(hashOf(1)) || chosen(f, want(1)) != "none" {
		t.Errorf("known %t, chosen %s", f.Known(hashOf(1)), chosen(f, want(1)))
	}
}

// 16 384 hashes are kept that nothing refers to.
func TestOfTheHashesThatNothingRefersToThoseUsedLastAreKept(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	f.PutCapability("a", kindOf(5))
	for i := range 16_384 {
		f.PutRequirements(hashOf(i), needs(i%2))
	}
	f.PutBlock(block("a", 2))
	chosen(f, want(0))
	for i := range 3 {
		f.PutRequirements(hashOf(20_000+i), needs())
	}
	for i, want := range map[int]bool{0: true, 1: false, 2: true, 3: false, 4: true, 16_383: true, 20_000: true, 20_002: true} {
		if got := f.Known(hashOf(i)); got != want {
			t.Errorf("hash %d is known: %t, want %t", i, got, want)
		}
	}
	f.RemoveBlock("a", hashOf(2))
	if f.Known(hashOf(4)) || !f.Known(hashOf(2)) || !f.Known(hashOf(5)) {
		t.Error("a hash that is referred to no more takes the place of the one used longest ago")
	}
}

// Above 1024 tenants those are forgotten of which nothing is known.
func TestATenantOfWhichSomethingIsKnownIsNotForgotten(t *testing.T) {
	t.Parallel()
	many := online("a")
	many.Slots = 9
	f := fleet(many, down("x", "guilty"), down("y", "guilty"))
	r := route.NewRoom()
	f.PutTenant("capped", 1, 2)
	f.PutTenant("heavy", 3, 0)
	f.PutSlots("slots", 4, false)
	f.Occupy("a", route.Run{Tenant: "runs", Job: "j", Priority: 5, Hash: hashOf(1)})
	for i := range 3000 {
		f.PutTenant(route.Tenant(fmt.Sprint("passes-", i)), float64(i%3-1), 0)
	}
	if kept := f.TenantsKept(); kept > 1024 {
		t.Errorf("%d tenants are kept", kept)
	}
	r.Put(ticket(1, "light", 5))
	r.Put(ticket(2, "heavy", 5))
	r.Charge("light", 5, 10, noon)
	r.Charge("heavy", 5, 20, noon)
	f.Release("a", "runs", "j")
	f.Occupy("a", route.Run{Tenant: "runs", Job: "j", Priority: 5, Hash: hashOf(1)})
	for tenant, want := range map[route.Tenant][2]int{"capped": {2, 0}, "slots": {0, 4}, "runs": {0, 1}} {
		if got := [2]int{f.Cap(tenant), f.Running(tenant)}; got != want {
			t.Errorf("%s has cap and running jobs %v, want %v", tenant, got, want)
		}
	}
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want that of the heavier tenant", got)
	}
	if got := chosen(f, route.Want{Hash: hashOf(1), Tenant: "guilty"}); got != "none" {
		t.Errorf("a tenant that has two hosts out gets %s", got)
	}
}
