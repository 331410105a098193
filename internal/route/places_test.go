package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestAPlaceCountsPriorityCapsAndShares(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := room(ticket(1, "low", 1), ticket(2, "low", 1), ticket(3, "capped", 9), ticket(4, "capped", 9), ticket(5, "heavy", 5), ticket(6, "heavy", 5), ticket(7, "heavy", 5))
	f.PutTenant("capped", 1, 1)
	f.PutTenant("heavy", 2, 0)
	f.Occupy("a", route.Run{Tenant: "capped", Job: "runs", Priority: 9, Hash: hashOf(2), Since: noon})
	for name, c := range map[string]struct {
		tenant   route.Tenant
		priority int
		place    int
	}{
		"NextOfAll":         {"new", 9, 1},
		"BesideTheCapped":   {"new", 7, 1},
		"BehindItsOwn":      {"heavy", 5, 4},
		"BehindTheHigher":   {"new", 1, 4},
		"OfTheCappedItself": {"capped", 9, 3},
		"BehindItsOwnAbove": {"capped", 8, 3},
	} {
		if got := r.PlaceOf(f, c.tenant, c.priority, noon); got != c.place {
			t.Errorf("%s: place %d, want %d", name, got, c.place)
		}
	}
	if place, of := r.Position(f, 5, noon); place != 1 || of != 7 {
		t.Errorf("the next job has place %d of %d", place, of)
	}
}

func TestNoStartIsPromisedThatACapForbids(t *testing.T) {
	t.Parallel()
	f := fleet(online("gone"), online("a"), online("b"))
	f.RemoveHost("gone")
	r := room(ticket(1, "capped", 5))
	f.PutTenant("capped", 1, 1)
	r.Charge("capped", 5, 10, noon)
	runs := online("a")
	runs.Running = []route.Run{{Tenant: "capped", Job: "runs", Priority: 5, Hash: hashOf(2), Since: noon}}
	f.PutHost(runs)
	if eta := r.ETA(f, 1, noon); !eta.IsZero() {
		t.Errorf("expected at %s, while nobody knows how long the running job takes", eta)
	}
	f.ObserveRun(hashOf(2), "b", 100*time.Second)
	if eta := r.ETA(f, 1, noon); !eta.Equal(noon.Add(100 * time.Second)) {
		t.Errorf("expected at %s, before the running job is", eta)
	}
}

func TestAPlaceIsCountedByTheTimeThatItIs(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := room(from(1, 10), from(2, 3600))
	if place, of := r.Position(f, 1, noon.Add(20*time.Second)); place != 1 || of != 2 {
		t.Errorf("a job that is due since then has place %d of %d", place, of)
	}
	r = room(from(1, 10), from(2, 3600))
	if place := r.PlaceOf(f, "a", 5, noon.Add(20*time.Second)); place != 2 {
		t.Errorf("the next job would get place %d", place)
	}
	r.Put(ticket(3, "high", 7))
	r.PutCeiling("limited", 5)
	if place := r.PlaceOf(f, "limited", 9, noon.Add(20*time.Second)); place != 2 {
		t.Errorf("a job with a ceiling below another's priority would get place %d", place)
	}
}

func TestAStartIsExpectedOnlyWhereSomethingIsKnown(t *testing.T) {
	t.Parallel()
	ran := func(f *route.Fleet) { f.ObserveRun(hashOf(1), "gone", 10*time.Second) }
	for name, c := range map[string]struct {
		facts func(f *route.Fleet)
		want  float64 // seconds after noon; 0 = not known
	}{
		"TwoHosts":         {ran, 10},
		"NothingHasRun":    {func(*route.Fleet) {}, 0},
		"OneSlotIsAllowed": {func(f *route.Fleet) { ran(f); f.PutTenant("acme", 1, 1) }, 20},
		"ThreeAreAllowed":  {func(f *route.Fleet) { ran(f); f.PutTenant("acme", 1, 3) }, 10},
		"TwoHostsAreOut":   {func(f *route.Fleet) { ran(f); f.PutHost(down("x", "acme")); f.PutHost(down("y", "acme")) }, 0},
		"ItIsWithheld":     {func(f *route.Fleet) { ran(f); f.Withhold(hashOf(1), "acme", true) }, 0},
		"OneIsBlocked":     {func(f *route.Fleet) { ran(f); f.PutBlock(block("a", 1)) }, 20},
		"BothAreBlocked":   {func(f *route.Fleet) { ran(f); f.PutBlock(block("a", 1)); f.PutBlock(block("b", 1)) }, 0},
	} {
		f := fleet(online("a"), online("b"))
		r := room(ticket(1, "acme", 5), ticket(2, "acme", 5))
		c.facts(f)
		want := time.Time{}
		if c.want > 0 {
			want = noon.Add(seconds(c.want))
		}
		if eta := r.ETA(f, 2, noon); !eta.Equal(want) {
			t.Errorf("%s: expected at %s, want %s", name, eta, want)
		}
	}
	if eta := room().ETA(fleet(), 7, noon); !eta.IsZero() {
		t.Errorf("a job that does not wait is expected at %s", eta)
	}
}

// Of weights 2 and 3 the second lane has three turns for two of the first.
func TestAPlaceCountsTurnsByWeight(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	f.PutTenant("two", 2, 0)
	f.PutTenant("three", 3, 0)
	for i := range uint64(10) {
		r.Put(ticket(i+1, "two", 5))
		r.Put(ticket(i+101, "three", 5))
		r.Put(ticket(i+201, "guilty", 9))
	}
	f.PutHost(down("x", "guilty"))
	f.PutHost(down("y", "guilty"))
	for sequence, want := range map[uint64]int{1: 1, 3: 2 + 3 + 1, 5: 4 + 6 + 1, 103: 2 + 1 + 1} {
		if got, of := r.Position(f, sequence, noon); got != want || of != 30 {
			t.Errorf("ticket %d has place %d of %d, want %d of 30", sequence, got, of, want)
		}
	}
}
