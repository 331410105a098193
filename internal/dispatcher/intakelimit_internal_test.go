package dispatcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// So that any number of tenants may come and go.
func TestTenantsOfWhomNothingIsUnderWayOrPutOffAreForgotten(t *testing.T) {
	t.Parallel()
	g := newTenantLimit()
	enter := func(name string, now time.Time) { g.enter(job.Tenant(name), 0, now) }
	for n := range limitTenants - 3 {
		name := fmt.Sprint("tenant-", n)
		enter(name, noonUTC)
		g.done(job.Tenant(name))
	}
	enter("works", noonUTC)
	for _, name := range []string{"waits", "waited"} {
		enter(name, noonUTC)
		g.done(job.Tenant(name))
	}
	g.tenants["waits"].free = noonUTC.Add(2 * time.Second)
	g.tenants["waited"].free = noonUTC.Add(time.Second - 1)
	same(t, "known while there is room", len(g.tenants), limitTenants)
	g.done("nobody")
	enter("one more", noonUTC.Add(time.Second))
	known := []bool{g.tenants["works"] != nil, g.tenants["waits"] != nil, g.tenants["waited"] != nil, g.tenants["one more"] != nil}
	same(t, "known afterwards", []any{len(g.tenants), known}, []any{3, []bool{true, true, false, true}})
}

// A tenant with very many jobs finds out within minutes that there is room.
func TestNoDeliveryIsPutOffForLongerThanFiveMinutes(t *testing.T) {
	t.Parallel()
	g := newTenantLimit()
	g.enter("acme", 0, noonUTC)
	var longest time.Duration
	for range 400_000 {
		putOff, _ := g.enter("bolt", 0, noonUTC)
		longest = max(longest, putOff)
	}
	same(t, "longest", longest, 5*time.Minute)
}

// A megabyte takes an eighth of a second, beginning with the first.
func TestTheBytesOfATenantAreReadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	g := newTenantLimit()
	g.enter("acme", 0, noonUTC)
	enter := func(at time.Duration) time.Duration {
		putOff, _ := g.enter("bolt", 1<<20, noonUTC.Add(at))
		return putOff
	}
	same(t, "the first", enter(0), time.Duration(0))
	same(t, "one that comes too early", enter(25*time.Millisecond-1), 226*time.Millisecond) // after 100 ms, one more, and its own time
	same(t, "the second, almost in time", enter(25*time.Millisecond), time.Duration(0))
	same(t, "a third", enter(150*time.Millisecond), time.Duration(0))
	same(t, "one a while later", enter(time.Minute/2), time.Duration(0))
}
