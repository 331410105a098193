package route_test

import (
	"maps"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestJobsAboveTheirTenantsCeilingCountAsOfIt(t *testing.T) {
	t.Parallel()
	r := route.NewRoom()
	check := func(when string, want map[route.Tenant][3]int) { // what priorities 9, 5 and 2 count as
		t.Helper()
		for tenant, counts := range want {
			for i, p := range []int{9, 5, 2} {
				if got := r.CountsAs(tenant, p); got != counts[i] {
					t.Errorf("%s: priority %d of %s counts as %d, want %d", when, p, tenant, got, counts[i])
				}
			}
		}
	}
	check("without ceilings", map[route.Tenant][3]int{"own": {9, 5, 2}, "other": {9, 5, 2}})
	r.PutUsualCeiling(6)
	r.PutCeiling("own", 3)
	check("with ceilings", map[route.Tenant][3]int{"own": {3, 3, 2}, "other": {6, 5, 2}})
	r.PutCeiling("own", 12)
	check("above all priorities", map[route.Tenant][3]int{"own": {9, 5, 2}})
	r.PutCeiling("own", -1)
	check("below all", map[route.Tenant][3]int{"own": {0, 0, 0}})
	r.RemoveCeiling("own")
	r.PutUsualCeiling(99)
	check("when they are gone", map[route.Tenant][3]int{"own": {9, 5, 2}, "other": {9, 5, 2}})
}

func TestTicketsMoveWithTheirTenantsCeiling(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := room(ticket(1, "limited", 9), ticket(2, "limited", 3), ticket(3, "other", 7), ticket(4, "other", 9))
	r.Charge("other", 9, 100, noon) // so that limited comes first among equals
	check := func(when string, first uint64, places map[uint64]int) {
		t.Helper()
		if got := next(r, f, noon); got != first {
			t.Errorf("%s: ticket %d is next, want %d", when, got, first)
		}
		for sequence, want := range places {
			if got, of := r.Position(f, sequence, noon); got != want || of != 4 {
				t.Errorf("%s: ticket %d has place %d of %d, want %d of 4", when, sequence, got, of, want)
			}
		}
		if got, ok := r.Get(1); !ok || got.Priority != 9 {
			t.Errorf("%s: the ticket is %+v", when, got)
		}
	}
	check("without a ceiling", 1, map[uint64]int{1: 1, 4: 2, 3: 3, 2: 4})
	r.PutCeiling("limited", 5)
	check("with ceiling 5", 4, map[uint64]int{4: 1, 3: 2, 1: 3, 2: 4})
	r.PutCeiling("limited", 2)
	check("with ceiling 2", 4, map[uint64]int{4: 1, 3: 2, 1: 3, 2: 4})
	r.RemoveCeiling("limited")
	check("without it again", 1, map[uint64]int{1: 1, 3: 3, 2: 4}) // as a newcomer, level with the other
}

// TestTicketsMoveInSlices has the ceilings of two tenants change one after the other while decisions are made.
func TestTicketsMoveInSlices(t *testing.T) {
	t.Parallel()
	const jobs, slice = 3000, 8
	f, r := fleet(), route.NewRoom()
	r.Slice = slice
	for i := range uint64(jobs) {
		r.Put(ticket(2*i+1, "acme", 9))
		r.Put(ticket(2*i+2, "bolt", 9))
	}
	for r.CatchUp(f, noon) {
	}
	r.PutCeiling("acme", 4)
	steps := 0
	for more := true; more; steps++ {
		if steps == 3 {
			r.PutCeiling("bolt", 2)
		}
		more = r.CatchUp(f, noon)
	}
	if want := 2 * jobs / 64; steps < want {
		t.Errorf("%d steps, want at least %d", steps, want)
	}
	if got := r.Depths(); !maps.Equal(got, map[string]int{"acme 4": jobs, "bolt 2": jobs}) {
		t.Errorf("they wait in %v", got)
	}
}

func TestALaneAgesNoFurtherThanItsCeiling(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := route.NewRoom()
	r.Age = time.Minute
	r.PutCeiling("limited", 5)
	r.Put(ticket(1, "limited", 3))
	high, higher := ticket(2, "high", 5), ticket(3, "higher", 6)
	high.Received, higher.Received = noon.Add(59*time.Minute+30*time.Second), noon.Add(59*time.Minute+30*time.Second)
	r.Put(high)
	r.Charge("high", 5, 100, noon)
	if got := next(r, f, noon.Add(time.Hour)); got != 1 {
		t.Errorf("ticket %d is next, want that of the lane that has aged from 3 to 5 and used less", got)
	}
	r = route.NewRoom()
	r.Age = time.Minute
	r.PutCeiling("limited", 5)
	r.Put(ticket(1, "limited", 3))
	r.Put(higher)
	if got := next(r, f, noon.Add(time.Hour)); got != 3 {
		t.Errorf("ticket %d is next, and the lane with the ceiling has aged beyond it", got)
	}
}

func TestWhatRunsAboveTheCeilingCountsForTheLaneThere(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 4
	f := fleet(s)
	r := room(ticket(1, "limited", 9), ticket(2, "other", 5))
	r.PutCeiling("limited", 5)
	f.Occupy("a", route.Run{Tenant: "limited", Job: "x", Priority: 9, Hash: hashOf(1), Since: noon})
	f.Occupy("a", route.Run{Tenant: "limited", Job: "y", Priority: 5, Hash: hashOf(1), Since: noon})
	f.Occupy("a", route.Run{Tenant: "other", Job: "z", Priority: 5, Hash: hashOf(1), Since: noon})
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, although its tenant runs two jobs that count as of priority 5, and the other one", got)
	}
	five := 5
	lanes := r.Lanes(f, noon)
	want := map[int]route.LaneStat{ // of the limited tenant, by published priority
		9: {Tenant: "limited", Priority: 9, Depth: 1, Oldest: noon, Running: 1, CountsAs: &five},
		5: {Tenant: "limited", Priority: 5, Running: 1},
	}
	for _, l := range lanes {
		w, listed := want[l.Priority]
		if l.Tenant != "limited" {
			continue
		}
		counts := l.CountsAs != nil && *l.CountsAs == 5
		if !listed || l.Depth != w.Depth || !l.Oldest.Equal(w.Oldest) || l.Running != w.Running || counts != (w.CountsAs != nil) {
			t.Errorf("lane %+v, want %+v", l, w)
		}
	}
	if len(lanes) != 3 || lanes[0].Tenant != "other" || lanes[1].Priority != 9 || lanes[2].Priority != 5 {
		t.Errorf("lanes %+v", lanes)
	}
}
