package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// noon is the time at which tests take place.
var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func hashOf(n int) workflow.Hash { return workflow.Hash(fmt.Sprintf("%064x", n)) }

func online(id string) route.HostState {
	return route.HostState{ID: route.HostID(id), State: route.Online, Slots: 1}
}

func want(n int) route.Want { return route.Want{Hash: hashOf(n), Tenant: "acme", Priority: 5} }

func block(host string, n int) route.Block {
	return route.Block{
		Host: route.HostID(host), Hash: hashOf(n), Kind: failure.HostLost,
		Tenants: []route.Tenant{route.Everyone}, Until: noon.Add(time.Minute),
	}
}

func fleet(states ...route.HostState) *route.Fleet {
	f := route.NewFleet()
	for _, s := range states {
		f.PutHost(s)
	}
	return f
}

// chosen is the host that Choose names, or "none".
func chosen(f *route.Fleet, w route.Want) string {
	if id, ok := f.Choose(w, noon); ok {
		return string(id)
	}
	return "none"
}

func TestChooseFollowsTheOrderOfTheContract(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"))
	f.PutBlock(block("a", 1))
	if got := chosen(f, want(1)); got != "b" {
		t.Errorf("with a blocked: %s", got)
	}
	f.Occupy("b", route.Run{Tenant: "acme", Job: "j", Hash: hashOf(2)})
	if got := chosen(f, want(1)); got != "none" {
		t.Errorf("with a blocked and b occupied: %s", got)
	}
	f.Release("b", "acme", "j")
	f.RemoveHost("b")
	f.RemoveBlock("a", hashOf(1))
	if got := chosen(f, want(1)); got != "a" {
		t.Errorf("after the block: %s", got)
	}
}

func TestSlotsAreCountedAsTheHostsSpeak(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"))
	check := func(when string, vacant, occupied int) {
		t.Helper()
		if v, o := f.Slots(); v != vacant || o != occupied {
			t.Errorf("%s: %d vacant and %d occupied, want %d and %d", when, v, o, vacant, occupied)
		}
	}
	check("two hosts", 2, 0)
	first := route.Run{Tenant: "acme", Job: "1", Hash: hashOf(1)}
	f.Occupy("a", first)
	f.Occupy("a", first)
	check("one job kept", 1, 1)
	a := online("a")
	a.Prefetch, a.Running = 1, []route.Run{first}
	f.PutHost(a)
	check("it runs, and one more may be held", 2, 0)
	f.Occupy("a", route.Run{Tenant: "acme", Job: "2", Hash: hashOf(1)})
	f.Release("a", "acme", "1")
	check("a second kept", 1, 1)
	f.Occupy("b", route.Run{Tenant: "acme", Job: "3", Hash: hashOf(1)})
	check("a third kept", 0, 2)
	f.Release("b", "acme", "3")
	b := online("b")
	b.State = route.Draining
	f.PutHost(b)
	check("b drains", 0, 1)
	f.RemoveHost("a")
	check("a is gone", 0, 0)
}
