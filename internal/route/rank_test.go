package route_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// percents are the shares of the lanes of priority 5, in per cent.
func percents(r *route.Room, f *route.Fleet, now time.Time) map[route.Tenant]int {
	all := map[route.Tenant]int{}
	for _, l := range r.Lanes(f, now) {
		all[l.Tenant] = int(math.Round(100 * l.Share))
	}
	return all
}

func TestWhatWasUsedTenMinutesAgoCountsHalf(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "acme", 5), ticket(2, "bolt", 5))
	later := noon.Add(10 * time.Minute)
	next(r, f, noon)
	r.Charge("acme", 5, 100, noon)
	r.Charge("bolt", 5, 60, later)
	for _, none := range []float64{-1000, 0, math.NaN(), math.Inf(1)} {
		r.Charge("acme", 5, none, later)
	}
	if diff := cmp.Diff(map[route.Tenant]int{"acme": 45, "bolt": 55}, percents(r, f, later)); diff != "" {
		t.Error(diff)
	}
	if got := next(r, f, later); got != 1 {
		t.Errorf("ticket %d is next, want that of acme, which has used 50 s to bolt's 60", got)
	}
}

// 2^1152, by which a second of the ninth day would count more than one of the first, is more than a number can hold.
func TestSharesAreThoseOfTheLastMinutesAfterDays(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "acme", 5), ticket(2, "bolt", 5))
	next(r, f, noon)
	r.Charge("acme", 5, 100, noon)
	later := noon.Add(8 * 24 * time.Hour)
	r.Charge("bolt", 5, 30, later)
	r.Charge("acme", 5, 10, later)
	if diff := cmp.Diff(map[route.Tenant]int{"acme": 25, "bolt": 75}, percents(r, f, later)); diff != "" {
		t.Error(diff)
	}
}

// What the lane that was served last had used then is next to nothing after 50 half-lives, also for a newcomer.
func TestANewcomerStartsLevelAfterALongTime(t *testing.T) {
	t.Parallel()
	waits := ticket(2, "old", 5)
	waits.Only = []string{"nowhere"}
	f, r := fleet(online("a")), room(ticket(1, "acme", 5), waits)
	r.Age = 1000 * time.Hour
	next(r, f, noon)
	r.Charge("acme", 5, 1000, noon)
	r.Remove(1)
	r.Put(ticket(5, "acme", 5))
	if got := next(r, f, noon); got != 5 {
		t.Fatalf("ticket %d is next", got)
	}
	r.Remove(5)
	later := noon.Add(500 * time.Minute)
	r.Charge("old", 5, 10, later)
	other, fresh := ticket(3, "old", 5), ticket(4, "new", 5)
	other.Received, fresh.Received = later, later
	r.Put(other)
	r.Put(fresh)
	if got := next(r, f, later); got != 4 {
		t.Errorf("ticket %d is next, want that of the tenant that has used nothing", got)
	}
}

// acme has used 100 s. A newcomer of weight 4 starts level with it, which is at 400 s, and so its job comes behind acme's older one.
func TestANewcomerStartsLevelByItsWeight(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "acme", 5), ticket(2, "acme", 5))
	f.PutTenant("heavy", 4, 0)
	next(r, f, noon)
	r.Charge("acme", 5, 100, noon)
	if got := next(r, f, noon); got != 1 {
		t.Fatalf("ticket %d is next", got)
	}
	r.Remove(1)
	r.Put(ticket(3, "heavy", 5))
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want acme's, which came first", got)
	}
}

// A running job counts as the mean of its lane's from the first one on: acme is at 100 s and 100 s more, bolt at 150 s.
func TestARunningJobCountsAsTheOnlyOneThatHasEnded(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a"), online("b")), room(ticket(1, "acme", 5), ticket(2, "bolt", 5))
	next(r, f, noon)
	r.Charge("acme", 5, 100, noon)
	r.Charge("bolt", 5, 150, noon)
	if got := next(r, f, noon); got != 1 {
		t.Errorf("while nothing runs ticket %d is next", got)
	}
	f.Occupy("b", route.Run{Tenant: "acme", Job: "x", Priority: 5, Hash: hashOf(2)})
	if got := next(r, f, noon); got != 2 {
		t.Errorf("while a job of acme runs ticket %d is next", got)
	}
}

// A dispatcher's clock may be behind that of the publisher's NATS.
func TestALaneOfWhichTheJobComesFromTheFutureKeepsItsPriority(t *testing.T) {
	t.Parallel()
	early, low := ticket(1, "acme", 5), ticket(2, "bolt", 4)
	early.Received = noon.Add(time.Hour)
	if got := next(room(early, low), fleet(online("a")), noon); got != 1 {
		t.Errorf("ticket %d is next", got)
	}
}

func TestALaneRisesWhenAWholeStepIsOver(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]uint64{route.AgeStep - 1: 2, route.AgeStep: 1} {
		f, r := fleet(online("a")), room(ticket(1, "acme", 4))
		now := noon.Add(wait)
		high := ticket(2, "bolt", 5)
		high.Received = now
		r.Put(high)
		r.Charge("bolt", 5, 1, now) // so that acme's comes first once both count as 5
		r.Charge("bolt", 5, 1, now)
		if got := next(r, f, now); got != want {
			t.Errorf("after %s ticket %d is next, want %d", wait, got, want)
		}
	}
}

func TestATicketThatOthersAreToClaimFirstCountsAsNewer(t *testing.T) {
	t.Parallel()
	first, second, third := ticket(1, "acme", 5), ticket(2, "acme", 5), ticket(3, "acme", 5)
	first.Rank, second.Received, third.Received = 3, noon.Add(250*time.Millisecond), noon.Add(350*time.Millisecond)
	f, r := fleet(online("a")), room(first, second, third)
	for _, want := range []uint64{2, 1, 3} {
		got := next(r, f, noon.Add(time.Second))
		if kept, _ := r.Get(got); got != want || got == 1 && kept.Rank != 3 {
			t.Errorf("ticket %d is next, with the rank %d; want %d", got, kept.Rank, want)
		}
		r.Remove(got)
	}
	r = room(first, second, third)
	next(r, f, noon.Add(time.Second))
	for at := 0; at >= 0; {
		at = r.Rerank(at, 100, func(id route.JobID) int { return map[route.JobID]int{"j1": 9, "j2": 9}[id] })
	}
	if got := next(r, f, noon.Add(time.Second)); got != 3 {
		t.Errorf("after they were ranked anew ticket %d is next", got)
	}
}

func TestManyNewTicketsArePlacedBeforeADecision(t *testing.T) {
	t.Parallel()
	for n, placed := range map[int]bool{255: false, 256: true} {
		f, r := fleet(online("a")), route.NewRoom()
		for i := range n {
			in := ticket(uint64(i+1), "acme", 5)
			in.Hash = hashOf(100 + i)
			r.Put(in)
		}
		r.PlaceNew(f, noon)
		if got := r.Left()["unplaced"] == 0; got != placed {
			t.Errorf("%d tickets are placed: %t, want %t", n, got, placed)
		}
	}
}

func TestAHostThatNobodyKnowsHasNoFacts(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	for i := range 3 {
		f.PutBlock(block("a", i))
	}
	f.PutStrikes("a", hashOf(1), route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"x": 1}})
	f.PutStrikes("a", hashOf(2), route.Strikes{Level: 1})
	for what, got := range map[string]bool{
		"block of no host": f.HasBlock("nowhere", hashOf(1)), "block of no hash": f.HasBlock("a", hashOf(9)), "strikes of no host": f.Struck("nowhere", hashOf(1)),
		"strikes of no hash": f.Struck("a", hashOf(9)), "probation of no host": f.OnProbation("nowhere", hashOf(1)), "probation of no hash": f.OnProbation("a", hashOf(9)),
		"probation without a failure": f.OnProbation("a", hashOf(2)), "slots of no host": f.HasSlots("nowhere"),
	} {
		if got {
			t.Errorf("there is a %s", what)
		}
	}
	blocks, struck := f.Counts("a")
	none, nothing := f.Counts("nowhere")
	if got := fmt.Sprint(blocks, struck, none, nothing, f.OnProbation("a", hashOf(1))); got != "3 2 0 0 true" {
		t.Errorf("counts are %s", got)
	}
	f.RemoveBlock("a", hashOf(0))
	f.RemoveStrikes("a", hashOf(1))
	f.RemoveStrikes("a", hashOf(1))
	if blocks, struck := f.Counts("a"); blocks != 2 || struck != 1 {
		t.Errorf("%d blocks and %d strikes are left", blocks, struck)
	}
}

func TestPairsAreVisitedUntilTheVisitorOrThePauseSaysNo(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"))
	for i := range 3 {
		for _, host := range []string{"a", "b"} {
			f.PutBlock(block(host, i))
			f.PutStrikes(route.HostID(host), hashOf(i), route.Strikes{Level: 1})
		}
	}
	visits := map[string]int{}
	count := func(what string) { visits[what]++ }
	for range f.EachBlock(func() bool { count("pauses of blocks"); return true }) {
		count("blocks")
	}
	for range f.EachStruck(func() bool { count("pauses of strikes"); return true }) {
		count("strikes")
	}
	for range f.EachBlock(func() bool { return false }) {
		count("blocks of one workflow")
	}
	for range f.EachStruck(func() bool { return false }) {
		count("strikes of one workflow")
	}
	for range f.EachBlock(func() bool { count("pauses after the end"); return true }) {
		count("first block")
		break
	}
	for range f.EachStruck(func() bool { count("pauses after the end"); return true }) {
		count("first strikes")
		break
	}
	for host, hash := range f.EachBlock(func() bool { return true }) {
		count("blocks still in force")
		f.RemoveBlock(map[route.HostID]route.HostID{"a": "b", "b": "a"}[host], hash)
	}
	want := map[string]int{
		"pauses of blocks": 3, "blocks": 6, "pauses of strikes": 3, "strikes": 6, "blocks of one workflow": 2, "strikes of one workflow": 2,
		"first block": 1, "first strikes": 1, "blocks still in force": 3,
	}
	if diff := cmp.Diff(want, visits); diff != "" {
		t.Error(diff)
	}
}

func TestABlockIsKeptAsItWasWhenItWasPut(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	plain := block("a", 1)
	plain.Tenants = []route.Tenant{"acme"}
	odd := block("a", 2)
	odd.Tenants, odd.Own = []route.Tenant{"acme"}, map[route.Tenant]int64{"bolt": 7}
	f.PutBlock(plain)
	f.PutBlock(odd)
	odd.Tenants[0], odd.Own["bolt"] = "changed", 8
	got, _ := f.Blocked("a", hashOf(1))
	same(t, "plain block", got, plain)
	got, _ = f.Blocked("a", hashOf(2))
	same(t, "tenants", got.Tenants, []route.Tenant{"acme"})
	same(t, "sizes", got.Own, map[route.Tenant]int64{"bolt": 7})
}

func TestAGrantThatIsPutTwiceIsRemovedOnce(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	f.PutGrant("a", []route.Tenant{"acme"})
	f.PutGrant("a", []route.Tenant{"bolt"})
	if got := chosen(f, want(1)); got != "none" {
		t.Errorf("acme's job goes to %s", got)
	}
	f.RemoveHost("a")
	f.RemoveGrant("nowhere")
	f.RemoveGrant("a")
	f.RemoveGrant("a")
	left := f.Left()
	delete(left, "hashes not idle")
	if diff := cmp.Diff(map[string]int{}, left); diff != "" {
		t.Errorf("the fleet keeps %s", diff)
	}
}

func TestHowManyHostsCanRunAWorkflow(t *testing.T) {
	t.Parallel()
	s := online("out")
	s.State = route.Unhealthy
	f := fleet(online("a"), online("b"), online("c"), s)
	f.PutRequirements(hashOf(1), needs(1))
	f.PutCapability("b", kindOf(1)) // lacks it
	incapable := block("c", 1)
	incapable.Kind = "incapable"
	f.PutBlock(incapable)
	f.PutBlock(block("a", 1))
	for n, want := range map[int][3]int{1: {1, 3, 2}, 7: {0, 3, 0}} {
		if capable, on, blocked := f.Reach(hashOf(n)); [3]int{capable, on, blocked} != want {
			t.Errorf("hash %d: %d capable, %d online, %d blocked; want %v", n, capable, on, blocked, want)
		}
	}
}

func TestNoMoreHostsAreListedThatLackSomethingThanAreAskedFor(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"), online("c"))
	rich := kindOf(2)
	for host, k := range map[route.HostID]int{"a": 1, "b": 3, "c": 2} {
		f.PutCapability(host, kindOf(k))
	}
	has := func(c workflow.Capability) bool { return c.Digest() == rich.Digest() }
	for most, listed := range map[int]int{2: 2, 1: 0} {
		if got := f.Lacking(want(1), has, most); len(got) != listed {
			t.Errorf("of at most %d: %q", most, got)
		}
	}
	if got := f.Lacking(want(1), func(workflow.Capability) bool { return true }, 9); got != nil {
		t.Errorf("when none lacks anything: %q", got)
	}
}

func TestABlockIsRoundedUpToASecond(t *testing.T) {
	t.Parallel()
	for cooldown, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Second + 1: 2 * time.Second, 1: time.Second} {
		if got := (route.Policy{Cooldown: cooldown}).BlockFor(0, 0); got != want {
			t.Errorf("%s: %s", cooldown, got)
		}
	}
}

// A running job counts as a second while none of its lane has ended, and as what one usually takes by the time that it is.
func TestWhatRunsCountsByTheTimeThatItIs(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a"), online("b")), room(ticket(1, "acme", 5), ticket(2, "bolt", 5))
	f.Occupy("b", route.Run{Tenant: "acme", Job: "x", Priority: 5, Hash: hashOf(2)})
	next(r, f, noon)
	r.Charge("bolt", 5, 1.5, noon)
	if got := next(r, f, noon); got != 1 {
		t.Errorf("ticket %d is next, want that of acme at 1 s", got)
	}
	f, r = fleet(online("a"), online("b")), room(ticket(1, "acme", 5), ticket(2, "bolt", 5))
	f.Occupy("b", route.Run{Tenant: "acme", Job: "x", Priority: 5, Hash: hashOf(2)})
	next(r, f, noon)
	later := noon.Add(10 * time.Minute)
	r.Charge("acme", 5, 100, noon)
	r.Charge("bolt", 5, 125, later)
	if got := next(r, f, later); got != 2 {
		t.Errorf("ticket %d is next, want that of bolt at 125 s, while acme is at 50 s and one that takes 100 s", got)
	}
}

func TestARunningJobCountsInTheLaneOfItsPriorityOrOfTheCeiling(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ceiling, running int
		next             uint64
	}{
		"AboveTheCeiling": {5, 6, 2},
		"FarAboveIt":      {5, 9, 2},
		"AtTheCeiling":    {5, 5, 2},
		"Below":           {5, 4, 1},
		"AnotherLane":     {9, 7, 1},
		"AnotherAndBelow": {9, 4, 1},
	} {
		f, r := fleet(online("a"), online("b")), route.NewRoom()
		r.PutCeiling("acme", c.ceiling)
		r.Put(ticket(1, "acme", 5))
		r.Put(ticket(2, "bolt", 5))
		f.Occupy("b", route.Run{Tenant: "acme", Job: "x", Priority: c.running, Hash: hashOf(2)})
		if got := next(r, f, noon); got != c.next {
			t.Errorf("%s: ticket %d is next, want %d", name, got, c.next)
		}
	}
}

func TestACapIsNeverLessThanNone(t *testing.T) {
	t.Parallel()
	f := fleet()
	for most, kept := range map[int]int{-3: 0, 0: 0, 1: 1} {
		f.PutTenant("acme", 1, most)
		if got := f.Cap("acme"); got != kept {
			t.Errorf("with %d the cap is %d", most, got)
		}
	}
}
