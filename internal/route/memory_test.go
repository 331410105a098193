package route_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// outOfMemory is the n-th failure of hash 1 on host a, by a job of a size; 0 = unknown.
func outOfMemory(n int, tenant string, size int64) route.Strike {
	s := strike(n, failure.OutOfMemory, tenant)
	s.Size = size
	return s
}

func TestABlockForMemoryHoldsJobsAtLeastAsBigAndThoseOfUnknownSize(t *testing.T) {
	t.Parallel()
	s, b := route.Strikes{}.Add(outOfMemory(1, "acme", 1000), noon, route.Production())
	if b == nil || b.Size != 1000 || b.HoldsFor("acme", 999) || !b.HoldsFor("acme", 1000) || !b.HoldsFor("acme", 0) || b.HoldsFor("other", 1000) {
		t.Fatalf("block %+v", b)
	}
	if next, lift, changed := s.Success("acme", 999, noon, noon); lift || changed || next.Memory["acme"].Failures != 1 {
		t.Errorf("a smaller job's success: lift %t, changed %t, %+v", lift, changed, next)
	}
	if next, lift, changed := s.Success("acme", 0, noon, noon); lift || changed || next.Memory["acme"].Failures != 1 {
		t.Errorf("the success of a job of unknown size: lift %t, changed %t, %+v", lift, changed, next)
	}
	wider, b2 := s.Add(outOfMemory(2, "acme", 500), noon.Add(time.Second), route.Production())
	if b2 == nil || b2.Size != 500 || !b2.Until.Equal(b.Until) || wider.Level != 1 || b2.HoldsFor("other", 500) {
		t.Errorf("a smaller job out of memory: %+v", b2)
	}
	_, b3 := wider.Add(outOfMemory(3, "other", 2000), noon.Add(time.Second), route.Production())
	if b3 == nil || !b3.HoldsFor("third", 2000) || b3.HoldsFor("third", 1999) || b3.HoldsFor("other", 1999) || !b3.HoldsFor("acme", 500) || b3.HoldsFor("acme", 499) {
		t.Errorf("another tenant out of memory with a bigger job: %+v", b3)
	}
	if next, lift, _ := s.Success("other", 1000, noon, noon); !lift || len(next.Memory) != 0 {
		t.Errorf("the success of a job as big: lift %t, %+v", lift, next)
	}
}

func TestUnknownSizesAreNotTakenForSmall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []int64 // sizes that ran out of memory
		ran    int64   // the biggest that is known to have run
		held   []int64
		free   []int64
	}{
		"NothingIsKnown":        {held: []int64{0, 1, 1 << 40}},
		"OneIsKnownToHaveRun":   {ran: 800, held: []int64{0, 800, 801}, free: []int64{799}},
		"OneIsKnownToRunOut":    {before: []int64{600}, held: []int64{0, 600}, free: []int64{599}},
		"BothOfThemAreKnown":    {before: []int64{900}, ran: 800, held: []int64{0, 800}, free: []int64{799}},
		"AndTheSmallerOfThem":   {before: []int64{700}, ran: 800, held: []int64{0, 700}, free: []int64{699}},
		"TheSmallestThatRanOut": {before: []int64{900, 700}, held: []int64{0, 700}, free: []int64{699}},
	} {
		var s route.Strikes
		for n, size := range c.before {
			s, _ = s.Add(outOfMemory(n+1, "acme", size), noon, route.Production())
		}
		last := outOfMemory(9, "acme", 0)
		last.Ran = c.ran
		s, b := s.Add(last, noon.Add(time.Hour), route.Production())
		if b == nil {
			t.Errorf("%s: no block", name)
			continue
		}
		for _, size := range c.held {
			if !b.HoldsFor("acme", size) {
				t.Errorf("%s: the block %+v does not hold size %d", name, b, size)
			}
		}
		for _, size := range c.free {
			if b.HoldsFor("acme", size) {
				t.Errorf("%s: the block %+v holds size %d", name, b, size)
			}
		}
		f := fleet(online("a"))
		f.PutBlock(*b)
		for _, size := range append(c.held, c.free...) {
			w := want(1)
			w.Size = size
			if _, chosen := f.Choose(w, noon); chosen == b.HoldsFor("acme", size) || f.May(w, "a", noon) != chosen {
				t.Errorf("%s: size %d is chosen: %t", name, size, chosen)
			}
		}
		if _, lift, _ := s.Success("acme", 1<<41, noon.Add(time.Hour), noon.Add(time.Hour)); lift {
			t.Errorf("%s: a known size lifts what holds unknown ones", name)
		}
	}
}

func TestAJobOfUnknownSizeEndsTheProbationOfItsLike(t *testing.T) {
	t.Parallel()
	s, b := route.Strikes{}.Add(outOfMemory(1, "acme", 0), noon, route.Production())
	if after, lift, _ := s.Success("acme", 0, noon.Add(time.Second), noon.Add(time.Second)); lift || !after.OnProbation() {
		t.Errorf("one that ran before the block says something about memory: lift %t, %+v", lift, after)
	}
	if after, _, changed := s.Success("acme", 0, b.Until, b.Until); !changed || after.OnProbation() || len(after.Memory) != 0 {
		t.Errorf("after the block: changed %t, %+v", changed, after)
	}
	if after, _, changed := s.Success("acme", 4000, b.Until, b.Until); !changed || after.Ran != 4000 || !after.OnProbation() {
		t.Errorf("a known size after the block: changed %t, %+v", changed, after)
	}
}

func TestAFailureOfAnotherKindMakesABlockForMemoryHoldEveryJob(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(outOfMemory(1, "acme", 1000), noon, route.Production())
	if _, b := s.Add(strike(2, failure.Timeout, "acme"), noon, route.Production()); b == nil || !b.HoldsFor("acme", 1) || b.HoldsFor("other", 1) {
		t.Errorf("block %+v", b)
	}
	s, _ = route.Strikes{}.Add(strike(1, failure.Timeout, "acme"), noon, route.Production())
	if _, b := s.Add(outOfMemory(2, "acme", 1000), noon, route.Production()); b != nil {
		t.Errorf("out of memory narrowed a block: %+v", b)
	}
	if _, b := s.Add(outOfMemory(2, "other", 1000), noon, route.Production()); b == nil || !b.HoldsFor("acme", 1) || !b.HoldsFor("other", 1000) || b.HoldsFor("other", 999) || b.HoldsFor("third", 0) {
		t.Errorf("out of memory of a second tenant after the first one's error: %+v", b)
	}
}

func TestAHostWithMoreMemoryIsPreferredByWhomTheBlockHoldsFor(t *testing.T) {
	t.Parallel()
	hosts := []route.HostState{online("a"), online("b"), online("c")}
	hosts[0].Memory, hosts[1].Memory, hosts[2].Memory = 8, 8, 24
	f := fleet(hosts...)
	_, b := route.Strikes{}.Add(outOfMemory(1, "acme", 1000), noon, route.Production())
	f.PutBlock(*b)
	for size, want := range map[int64]string{1000: "c", 0: "c"} {
		w := route.Want{Hash: hashOf(1), Tenant: "acme", Size: size}
		if got := chosen(f, w); got != want {
			t.Errorf("size %d goes to %s, want %s", size, got, want)
		}
	}
}

// bolt lets a tiny job of acme's workflow run out of memory, as with a prompt that takes a lot of it; then a big one of
// acme's does.
func TestNoTenantDecidesAloneHowBigTheJobsOfOthersMayBe(t *testing.T) {
	t.Parallel()
	s, first := route.Strikes{}.Add(outOfMemory(1, "bolt", 64), noon, route.Production())
	if first.HoldsFor("acme", 1<<40) || first.HoldsFor("acme", 0) {
		t.Errorf("bolt's failure holds acme's jobs: %+v", first)
	}
	s, b := s.Add(outOfMemory(2, "acme", 5000), noon, route.Production())
	if b == nil || b.HoldsFor("acme", 4999) || !b.HoldsFor("acme", 5000) || !b.HoldsFor("third", 5000) || b.HoldsFor("third", 4999) || !b.HoldsFor("bolt", 64) {
		t.Fatalf("block %+v", b)
	}
	f := fleet(online("a"))
	f.PutBlock(*b)
	for tenant, free := range map[route.Tenant]int64{"acme": 4999, "third": 4999, "bolt": 63} {
		for size := free; size <= free+1; size++ {
			w := want(1)
			w.Tenant, w.Size = tenant, size
			if _, chosen := f.Choose(w, noon); chosen != (size == free) || f.May(w, "a", noon) != chosen {
				t.Errorf("a job of %s of size %d is chosen: %t", tenant, size, chosen)
			}
		}
	}
	if !f.RemoveBlock("a", hashOf(1)) {
		t.Error("the block is not in force")
	}
	if w := want(1); !f.May(w, "a", noon) {
		t.Error("something is left of the block")
	}
	if _, lift, _ := s.Success("acme", 5000, noon, noon); !lift {
		t.Error("a job as big as the biggest has run, and the block is still in force")
	}
}

func TestFailuresOfDifferentKindsHoldTheirTenantsOnly(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(outOfMemory(1, "acme", 1000), noon, route.Production())
	s, b := s.Add(strike(2, failure.ExecutionError, "bolt"), noon, route.Production())
	if b == nil || b.HoldsFor("acme", 999) || !b.HoldsFor("acme", 1000) || !b.HoldsFor("bolt", 1) || b.HoldsFor("third", 0) {
		t.Fatalf("block %+v", b)
	}
	if _, lift, _ := s.Success("bolt", 1, noon, noon); lift {
		t.Error("bolt's success lifts what holds acme")
	}
	if s, lift, _ := s.Success("acme", 1000, noon, noon); lift || s.Open == nil {
		t.Error("acme's success lifts what holds bolt")
	}
}

func TestWhatWasTooBigIsKnownAfterItsBlockIsOver(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(outOfMemory(1, "bolt", 64), noon, route.Production())
	later := noon.Add(time.Hour)
	s, b := s.Add(outOfMemory(2, "acme", 5000), later, route.Production())
	want := &route.Block{
		Host: "a", Hash: hashOf(1), Kind: failure.OutOfMemory, Message: "boom", Job: "j", Tenant: "acme", Tenants: []route.Tenant{"*"},
		Failures: 1, Level: 1, Size: 5000, Own: map[route.Tenant]int64{"bolt": 64}, Until: later.Add(2 * time.Minute),
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
	if _, b := s.Add(outOfMemory(3, "carl", 6000), later, route.Production()); b != nil {
		t.Errorf("a third tenant's bigger job widens it: %+v", b)
	}
	_, b = s.Add(strike(4, failure.Timeout, "acme"), later, route.Production())
	if b == nil || !b.HoldsFor("acme", 1) || !b.HoldsFor("bolt", 64) || b.HoldsFor("bolt", 63) || b.HoldsFor("carl", 4999) || !b.HoldsFor("carl", 5000) {
		t.Errorf("after another failure of acme's: %+v", b)
	}
	if diff := cmp.Diff(want, s.Open); diff != "" {
		t.Errorf("the strikes before it were changed: %s", diff)
	}
}

func TestTheBiggestJobThatRanIsKnownWhoeverRanOutOfMemoryBefore(t *testing.T) {
	t.Parallel()
	for range 20 { // the tenants are looked at in any order
		s, _ := route.Strikes{}.Add(outOfMemory(1, "acme", 0), noon, route.Production())
		s, _ = s.Add(outOfMemory(2, "bolt", 9000), noon, route.Production())
		s, _ = s.Add(outOfMemory(3, "carl", 9000), noon, route.Production())
		if after, _, changed := s.Success("dora", 4000, noon.Add(time.Hour), noon.Add(time.Hour)); !changed || after.Ran != 4000 {
			t.Fatalf("changed %t, %+v", changed, after)
		}
	}
}
