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
	f := fleet(online("a"), online("b"))
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
