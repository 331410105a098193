package route_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

var (
	someTenants = []route.Tenant{"acme", "bolt", "carl", "dora"}
	someSizes   = []int64{0, 100, 200, 300, 400}
)

// Any failures and successes of four tenants' jobs: a block in force keeps away all that it kept away before, and the job that
// failed, until it is lifted.
func TestABlockThatStandsNeverHoldsLessThanBefore(t *testing.T) {
	t.Parallel()
	kinds := []failure.Kind{failure.OutOfMemory, failure.OutOfMemory, failure.Timeout}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s route.Strikes
		for n := range 8 {
			tenant, size, now := pick(r, someTenants...), pick(r, someSizes...), noon.Add(time.Duration(n)*time.Second)
			if r.IntN(4) == 0 {
				s, _, _ = s.Success(tenant, size, now, now)
				continue
			}
			f := strike(n+1, pick(r, kinds...), string(tenant))
			f.Size = size
			before := s.Open
			s, _ = s.Add(f, now, route.Production())
			if !s.Open.HoldsFor(tenant, size) {
				t.Fatalf("seed %d: after a failure of %s with size %d stands %+v", seed, tenant, size, s.Open)
			}
			for _, tenant := range someTenants {
				for _, size := range someSizes {
					if before != nil && before.HoldsFor(tenant, size) && !s.Open.HoldsFor(tenant, size) {
						t.Fatalf("seed %d: %+v held %s's jobs of size %d, and %+v does not", seed, before, tenant, size, s.Open)
					}
				}
			}
		}
	}
}

// Neither block covers the other: the one in force holds bolt's jobs from a smaller size on, the new one everyone's.
func TestABlockForAllIsWidenedToSmallerJobs(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(outOfMemory(1, "acme", 300), noon, route.Production())
	s, _ = s.Add(outOfMemory(2, "bolt", 100), noon, route.Production())
	s, lift, _ := s.Success("bolt", 150, noon, noon)
	s, same := s.Add(outOfMemory(3, "carl", 250), noon, route.Production())
	if lift || same == nil || same.Size != 300 {
		t.Fatalf("carl's failure: lift %t, %+v", lift, same)
	}
	_, b := s.Add(outOfMemory(4, "acme", 260), noon, route.Production())
	want := &route.Block{
		Host: "a", Hash: hashOf(1), Kind: failure.OutOfMemory, Message: "boom", Job: "j", Tenant: "acme", Tenants: []route.Tenant{"*"},
		Failures: 2, Size: 260, Own: map[route.Tenant]int64{"bolt": 100, "carl": 250}, Until: noon.Add(time.Minute),
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
}

func TestABlockForAllBecomesThatOfASmallerJob(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(outOfMemory(1, "acme", 300), noon, route.Production())
	s, _ = s.Add(outOfMemory(2, "bolt", 200), noon, route.Production())
	wider, b := s.Add(outOfMemory(3, "acme", 250), noon, route.Production())
	if b == nil || b.Size != 250 || !b.HoldsFor("dora", 250) || b.HoldsFor("dora", 249) || !b.HoldsFor("bolt", 200) {
		t.Fatalf("a smaller job of the same tenant: %+v", b)
	}
	_, b = wider.Add(outOfMemory(4, "carl", 100), noon, route.Production())
	if b == nil || b.Size != 200 || !cmp.Equal(b.Own, map[route.Tenant]int64{"carl": 100}) {
		t.Errorf("a smaller job of a third tenant: %+v", b)
	}
}

// The block tells of the newest failure, and keeps the jobs of both tenants away.
func TestTwoTenantsFailuresOfDifferentKindsMakeOneBlock(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.Timeout, "acme"), noon, route.Production())
	_, b := s.Add(outOfMemory(2, "bolt", 64), noon, route.Production())
	want := &route.Block{
		Host: "a", Hash: hashOf(1), Kind: failure.OutOfMemory, Message: "boom", Job: "j", Tenant: "bolt", Tenants: []route.Tenant{"bolt"},
		Failures: 1, Size: 64, Own: map[route.Tenant]int64{"acme": 0}, Until: noon.Add(time.Minute),
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
}

func TestATenantWithFewerFailuresThanTheLimitDoesNotWidenABlockForMemory(t *testing.T) {
	t.Parallel()
	var s route.Strikes
	var b *route.Block
	s, _ = s.Add(outOfMemory(1, "bolt", 50), noon, route.Development())
	for n := range 3 {
		s, b = s.Add(outOfMemory(n+2, "acme", 100), noon, route.Development())
	}
	if b == nil || b.Size != 100 || !cmp.Equal(b.Tenants, []route.Tenant{"acme"}) || b.Own != nil || b.HoldsFor("bolt", 100) {
		t.Errorf("block %+v", b)
	}
}

func TestABlockForAllIsLiftedWhenEveryTenantOfItHasSucceeded(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.ExecutionError, "acme"), noon, route.Production())
	s, _ = s.Add(strike(2, failure.ExecutionError, "bolt"), noon, route.Production())
	s, lift, _ := s.Success("acme", 0, noon, noon)
	if lift || s.Open == nil {
		t.Errorf("after one of two: lift %t, %+v", lift, s.Open)
	}
	if s, lift, _ = s.Success("bolt", 0, noon, noon); !lift || s.Open != nil {
		t.Errorf("after both: lift %t, %+v", lift, s.Open)
	}
}

func TestASuccessLiftsABlockForALack(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.ExecutionError, "acme"), noon, route.Development())
	s, _ = s.Add(strike(2, failure.Incapable, "acme"), noon, route.Development())
	if again, b := s.Add(strike(3, failure.Incapable, "acme"), noon, route.Development()); b != nil || again.Tenants["acme"] != 1 || again.Open == nil {
		t.Errorf("told twice: %+v, %+v", b, again)
	}
	if next, lift, changed := s.Success("bolt", 0, noon, noon); !lift || !changed || next.Open != nil || next.Tenants["acme"] != 1 {
		t.Errorf("lift %t, changed %t, %+v", lift, changed, next)
	}
	if lifted := s.Lifted(); lifted.Open != nil || lifted.Tenants["acme"] != 1 {
		t.Errorf("lifted by hand: %+v", lifted)
	}
}

func TestOnlyTenantsWithEnoughFailuresWidenABlock(t *testing.T) {
	t.Parallel()
	var s route.Strikes
	var b *route.Block
	s, _ = s.Add(strike(1, failure.Timeout, "bolt"), noon, route.Development())
	for n := range 3 {
		s, b = s.Add(strike(n+2, failure.Timeout, "acme"), noon, route.Development())
	}
	if b == nil || !b.HoldsFor("acme", 0) || b.HoldsFor("bolt", 0) {
		t.Fatalf("block %+v", b)
	}
	if _, lift, _ := s.Success("acme", 0, noon, noon); !lift {
		t.Error("acme's success does not lift what holds acme alone")
	}
}

func TestTheSmallestJobThatRanOutCountsWhateverHasRun(t *testing.T) {
	t.Parallel()
	first := outOfMemory(1, "acme", 500)
	first.Ran = 300
	s, b := route.Strikes{}.Add(first, noon, route.Production())
	if b == nil || b.Size != 500 {
		t.Fatalf("block %+v", b)
	}
	s, _ = s.Add(outOfMemory(2, "acme", 1000), noon, route.Production())
	if got := s.Memory["acme"]; got != (route.Shortage{Failures: 2, Size: 500}) {
		t.Errorf("after a bigger one: %+v", got)
	}
	s, _ = s.Add(outOfMemory(3, "acme", 0), noon, route.Production())
	s.Ran = 4000
	next, _, changed := s.Success("acme", 2000, noon, noon)
	if got := next.Memory["acme"]; !changed || got != (route.Shortage{Failures: 3, Unknown: true}) || next.Ran != 4000 {
		t.Errorf("after one that had enough: changed %t, %+v", changed, next)
	}
}

// Failures are told in any order.
func TestTheNewestFailureIsTheOneThatASuccessMustNotClear(t *testing.T) {
	t.Parallel()
	var s route.Strikes
	for n, at := range []time.Duration{10 * time.Second, 0} {
		f := strike(n+1, failure.ExecutionError, "acme")
		f.At = noon.Add(at)
		s, _ = s.Add(f, noon, route.Development())
	}
	if next, _, changed := s.Success("acme", 0, noon.Add(5*time.Second), noon.Add(20*time.Second)); changed || next.Tenants["acme"] != 2 {
		t.Errorf("a success between the two: changed %t, %+v", changed, next)
	}
}

func TestABlockForALackLastsAsLongAsTheUsualCap(t *testing.T) {
	t.Parallel()
	if _, b := (route.Strikes{}).Add(strike(1, failure.Incapable, "acme"), noon, route.Policy{}); b == nil || b.Until.Sub(noon) != 15*time.Minute {
		t.Errorf("block %+v", b)
	}
}
