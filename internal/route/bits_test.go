package route_test

import (
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// A set of more than 32 hosts is kept as bits. Of 100 hosts all but number 70 get what a case says, and lose it again.
func TestWhatHoldsForMostHostsLeavesTheOthers(t *testing.T) {
	t.Parallel()
	const hosts, other = 100, 70
	id := func(i int) route.HostID { return route.HostID(hostName(i)) }
	with := func(tenants ...route.Tenant) func(f *route.Fleet, i int) {
		return func(f *route.Fleet, i int) {
			b := block(hostName(i), 1)
			b.Tenants = tenants
			f.PutBlock(b)
		}
	}
	lift := func(f *route.Fleet, i int) { f.RemoveBlock(id(i), hashOf(1)) }
	for name, c := range map[string]struct {
		put, remove func(f *route.Fleet, i int)
		want        func(w *route.Want)
	}{
		"BlockedForEveryone":  {with("*"), lift, nil},
		"BlockedForTheTenant": {with("acme", "bolt"), lift, nil},
		"OutOfMemory": {func(f *route.Fleet, i int) {
			b := block(hostName(i), 1)
			b.Kind, b.Size = failure.OutOfMemory, 100
			f.PutBlock(b)
		}, lift, func(w *route.Want) { w.Size = 100 }},
		"ExcludedByALabel": {func(f *route.Fleet, i int) {
			s := online(hostName(i))
			s.Labels = []string{"old=1", "gpu=1", "old=1"}
			f.PutHost(s)
		}, func(f *route.Fleet, i int) { f.PutHost(online(hostName(i))) }, func(w *route.Want) { w.Exclude = []string{"old=1"} }},
		"OnProbation": {func(f *route.Fleet, i int) {
			s := online(hostName(i))
			s.Slots = 2
			f.PutHost(s)
			f.Occupy(id(i), route.Run{Tenant: "x", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(1)})
			f.PutStrikes(id(i), hashOf(1), route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"x": 1}})
		}, func(f *route.Fleet, i int) { f.RemoveStrikes(id(i), hashOf(1)) }, nil},
		"Lacking": {func(f *route.Fleet, i int) { f.PutCapability(id(i), kindOf1()) },
			func(f *route.Fleet, i int) { f.RemoveCapability(id(i)) }, nil},
	} {
		f, w := equalFleet(hosts), want(1)
		f.PutRequirements(hashOf(1), needs(1))
		if c.want != nil {
			c.want(&w)
		}
		for i := range hosts {
			if i != other {
				c.put(f, i)
			}
		}
		if got := chosen(f, w); got != hostName(other) {
			t.Errorf("%s: %s is chosen, want %s", name, got, hostName(other))
		}
		f.Occupy(id(other), route.Run{Tenant: "x", Job: "y", Hash: hashOf(9)})
		if got := chosen(f, w); got != "none" {
			t.Errorf("%s: %s is chosen, and %s is busy", name, got, hostName(other))
		}
		for i := range hosts {
			if i != other {
				c.remove(f, i)
			}
			if got := chosen(f, w); i > other && got == "none" {
				t.Fatalf("%s: none is chosen, and %d may", name, i)
			}
		}
	}
}

var lacksModel1 = kindOf(1)

func kindOf1() workflow.Capability { return lacksModel1 }

// Of 80 hosts half have one of the job's models in memory, and half have both.
func TestHostsWithMoreOfTheModelsComeFirst(t *testing.T) {
	t.Parallel()
	f := route.NewFleet()
	f.PutRequirements(hashOf(1), needs(1, 2, 3))
	f.PutRequirements(hashOf(2), needs(1, 2))
	f.PutRequirements(hashOf(3), needs(1))
	both := map[string]bool{}
	for i := range 80 {
		s := online(hostName(i))
		s.Recent = []workflow.Hash{hashOf(2 + i%2)}
		both[hostName(i)] = i%2 == 0
		f.PutHost(s)
	}
	for i := range 40 {
		got := chosen(f, want(1))
		if !both[got] {
			t.Fatalf("after %d jobs %s is chosen", i, got)
		}
		f.Occupy(route.HostID(got), route.Run{Tenant: "x", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(2)})
	}
	if got := chosen(f, want(1)); got == "none" || both[got] {
		t.Errorf("then %s is chosen", got)
	}
}
