package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestATenantAloneIsNeverPutOff(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	for n := range 1000 {
		if putOff := g.Enter("bolt", 1<<20, now); putOff != 0 {
			t.Fatalf("delivery %d is put off for %v", n, putOff)
		}
	}
}

func TestBesideAnotherATenantHasOnlySoManyDeliveriesUnderWay(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	g.Enter("acme", 100, now)
	for n := range 16 {
		if putOff := g.Enter("bolt", 100, now); putOff != 0 {
			t.Fatalf("delivery %d is put off for %v", n, putOff)
		}
	}
	first, second := g.Enter("bolt", 100, now), g.Enter("bolt", 100, now)
	if first < 100*time.Millisecond || second <= first || second > first+2*time.Millisecond {
		t.Errorf("further ones are put off for %v and %v, want one after the other", first, second)
	}
	if putOff := g.Enter("acme", 100, now); putOff != 0 {
		t.Errorf("acme's is put off for %v", putOff)
	}
	g.Done("bolt")
	if putOff := g.Enter("bolt", 100, now); putOff != 0 {
		t.Errorf("when one has left the next is put off for %v", putOff)
	}
	if putOff := g.Enter("bolt", 100, now.Add(61*time.Second)); putOff != 0 {
		t.Errorf("when the other has been away for some time it is put off for %v", putOff)
	}
}

// A tenant with many jobs does not hold up others that have as many.
func TestTenantsThatAllPublishAsMuchAreNotPutOff(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	tenants := []job.Tenant{"acme", "bolt", "coil"}
	for n := range 999 {
		if putOff := g.Enter(tenants[n%3], 100, now); putOff != 0 && n >= 128 { // it has seen what they publish
			t.Fatalf("delivery %d is put off for %v", n, putOff)
		}
	}
	putOff := 0
	for range 300 { // one of them goes on alone: the window that has this ends within 128
		if g.Enter("bolt", 100, now) > 0 {
			putOff++
		}
	}
	if putOff < 100 {
		t.Errorf("%d of 300 are put off of one who has more than the others", putOff)
	}
}

// Of two tenants with equally many deliveries, the one with large ones publishes more.
func TestATenantOfLargeJobsIsNoEqualOfOneWithSmallJobs(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	passed := 0
	for range 256 {
		if g.Enter("acme", 100, now) == 0 {
			passed++
		}
		g.Enter("bolt", 64<<10, now)
	}
	if passed != 16 {
		t.Errorf("%d deliveries of acme are under way, want the 16 of tenants that do not publish as much", passed)
	}
}

// A megabyte takes an eighth of a second of what a tenant may have read.
func TestBesideAnotherATenantHasOnlySoMuchRead(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	passed := 0
	for at := now; at.Before(now.Add(time.Second)); at = at.Add(5 * time.Millisecond) {
		g.Enter("acme", 100, at)
		g.Done("acme")
		if g.Enter("bolt", 1<<20, at) == 0 {
			passed++
			g.Done("bolt")
		}
	}
	if passed < 8 || passed > 10 {
		t.Errorf("%d of 1 MiB have passed in a second, want some 8", passed)
	}
}
