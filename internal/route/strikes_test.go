package route_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// strike is the n-th failure of hash 1 on host a.
func strike(n int, kind failure.Kind, tenant string) route.Strike {
	return route.Strike{
		Host: "a", Hash: hashOf(1), Attempt: failure.Attempt{Host: "a", Kind: kind, Message: "boom"}, Tenant: route.Tenant(tenant), Job: "j", Mark: uint64(n),
	}
}

func TestOneFailureBlocksInProductionAndTheBlockDoublesUpToTheCap(t *testing.T) {
	t.Parallel()
	var s route.Strikes
	var b *route.Block
	now := noon
	for level, seconds := range []int{60, 120, 240, 480, 900, 900} {
		s, b = s.Add(strike(level+1, failure.Timeout, "acme"), now, route.Production())
		if b == nil {
			t.Fatalf("failure %d made no block", level+1)
		}
		if got := b.Until.Sub(now); got != time.Duration(seconds)*time.Second || b.Level != level {
			t.Errorf("block %d lasts %s at level %d, not %d s", level+1, got, b.Level, seconds)
		}
		now = b.Until
	}
}

func TestStrikesAreKeptTenTimesTheLastBlock(t *testing.T) {
	t.Parallel()
	for level, minutes := range []int{10, 10, 20, 40, 80, 150, 150} {
		if got := route.Production().StrikesFor(level); got != time.Duration(minutes)*time.Minute {
			t.Errorf("after %d blocks strikes are kept for %s, want %d min", level, got, minutes)
		}
	}
}

func TestASuccessThatIsToldLateClearsNothingThatHappenedAfterIt(t *testing.T) {
	t.Parallel()
	failed := strike(1, failure.ExecutionError, "acme")
	failed.At = noon
	s, _ := route.Strikes{}.Add(failed, noon, route.Development())
	if next, lift, changed := s.Success("acme", 0, noon.Add(-time.Millisecond), noon.Add(time.Second)); lift || changed || next.Tenants["acme"] != 1 {
		t.Errorf("a success before the failure left %+v, lift %t, changed %t", next, lift, changed)
	}
	if next, _, changed := s.Success("acme", 0, noon.Add(time.Millisecond), noon.Add(time.Second)); !changed || next.Tenants["acme"] != 0 {
		t.Errorf("a success after the failure left %+v, changed %t", next, changed)
	}
}

func TestThirdFailureBlocksInDevelopmentAndASuccessInBetweenClearsTheCount(t *testing.T) {
	t.Parallel()
	var s route.Strikes
	var b *route.Block
	for i := range 2 {
		if s, b = s.Add(strike(i+1, failure.ExecutionError, "acme"), noon, route.Development()); b != nil {
			t.Fatalf("failure %d blocked", i+1)
		}
	}
	cleared, lift, changed := s.Success("acme", 0, noon, noon)
	if lift || !changed || !cleared.Clear() && len(cleared.Tenants) > 0 {
		t.Errorf("after a success: %+v, lift %t, changed %t", cleared, lift, changed)
	}
	for i := range 2 {
		if cleared, b = cleared.Add(strike(i+10, failure.ExecutionError, "acme"), noon, route.Development()); b != nil {
			t.Fatalf("failure %d after the success blocked", i+1)
		}
	}
	if _, b = cleared.Add(strike(12, failure.ExecutionError, "acme"), noon, route.Development()); b == nil || b.Failures != 3 {
		t.Fatalf("the third failure made %+v", b)
	}
	if got := b.Until.Sub(noon); got != 30*time.Second {
		t.Errorf("the block lasts %s", got)
	}
}

func TestTheSameFailureCountedTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	s, b := route.Strikes{}.Add(strike(7, failure.Timeout, "acme"), noon, route.Production())
	if b == nil {
		t.Fatal("no block")
	}
	again, second := s.Add(strike(7, failure.Timeout, "acme"), noon.Add(time.Hour), route.Production())
	if second != nil || cmp.Diff(s, again) != "" {
		t.Errorf("again: %+v, %s", second, cmp.Diff(s, again))
	}
}

func TestOneTenantsErrorBlocksThatTenantUntilASecondMeetsIt(t *testing.T) {
	t.Parallel()
	for _, kind := range []failure.Kind{failure.ExecutionError, failure.Timeout, failure.HostSick, failure.OutOfMemory} {
		s, b := route.Strikes{}.Add(strike(1, kind, "acme"), noon, route.Production())
		if b == nil || !b.HoldsFor("acme", 0) || b.HoldsFor("other", 0) {
			t.Fatalf("%s: first block %+v", kind, b)
		}
		first := b.Until
		s, b = s.Add(strike(2, kind, "acme"), noon.Add(time.Second), route.Production())
		if b != nil {
			t.Errorf("%s: the same tenant widened it: %+v", kind, b)
		}
		s, b = s.Add(strike(3, kind, "other"), noon.Add(2*time.Second), route.Production())
		if b == nil || !b.HoldsFor("third", 0) || !b.Until.Equal(first) || b.Level != 0 {
			t.Errorf("%s: widened block %+v", kind, b)
		}
		if s.Level != 1 {
			t.Errorf("%s: widening raised the level to %d", kind, s.Level)
		}
	}
}

func TestAnotherTenantsSuccessClearsItsOwnStrikesOnly(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.ExecutionError, "acme"), noon, route.Production())
	s, lift, _ := s.Success("other", 0, noon, noon)
	if lift || s.Tenants["acme"] != 1 {
		t.Errorf("another's success: lift %t, %+v", lift, s)
	}
	s, lift, changed := s.Success("acme", 0, noon, noon)
	if !lift || !changed || s.Tenants["acme"] != 0 || s.Open != nil {
		t.Errorf("its own success: lift %t, %+v", lift, s)
	}
	if s.Level != 1 || s.OnProbation() {
		t.Errorf("level %d, probation %t; only time lowers the level", s.Level, s.OnProbation())
	}
}

func TestIncapableBlocksAtOnceForTheCapAndIsNoStrike(t *testing.T) {
	t.Parallel()
	s, b := route.Strikes{}.Add(strike(1, failure.Incapable, "acme"), noon, route.Development())
	if b == nil || b.Until.Sub(noon) != 15*time.Minute || !b.HoldsFor("other", 0) {
		t.Fatalf("block %+v", b)
	}
	if s.Level != 0 || s.OnProbation() {
		t.Errorf("strikes %+v", s)
	}
}

func TestAfterALiftedBlockTheNextFailureBlocksAgain(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.Incapable, "acme"), noon, route.Production())
	if _, b := s.Lifted().Add(strike(2, failure.Timeout, "acme"), noon.Add(time.Second), route.Production()); b == nil || b.Kind != failure.Timeout {
		t.Errorf("block %+v", b)
	}
}

func TestKindsThatBlameNoPairAreNoStrikes(t *testing.T) {
	t.Parallel()
	for _, kind := range []failure.Kind{
		failure.InvalidWorkflow, failure.Refused, failure.Transient, failure.RejectedBusy, failure.Lost, failure.Drained, failure.Interrupted,
	} {
		if s, b := (route.Strikes{}).Add(strike(1, kind, "acme"), noon, route.Production()); b != nil || !s.Clear() {
			t.Errorf("%s: %+v, %+v", kind, s, b)
		}
	}
}

func TestProbationLastsFromTheBlockToTheNextSuccess(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.Timeout, "acme"), noon, route.Development())
	if s.OnProbation() {
		t.Error("on probation before any block")
	}
	s, _ = route.Strikes{}.Add(strike(1, failure.Timeout, "acme"), noon, route.Production())
	if !s.OnProbation() {
		t.Error("not on probation after a block")
	}
	if s, _, _ = s.Success("acme", 0, noon.Add(2*time.Minute), noon.Add(2*time.Minute)); s.OnProbation() {
		t.Error("on probation after a success")
	}
}

func TestBlocksLastWholeSecondsAndNeverLongerThanTheCap(t *testing.T) {
	t.Parallel()
	p := route.Policy{Cooldown: 1500 * time.Millisecond, Cap: 5 * time.Second, MaxFailures: 1}
	for level, want := range []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 5 * time.Second} {
		if got := p.BlockFor(level, 0); got != want {
			t.Errorf("level %d: %s, not %s", level, got, want)
		}
	}
	if got := p.BlockFor(0, 600*time.Millisecond); got != 3*time.Second {
		t.Errorf("with jitter: %s", got)
	}
	if got := (route.Policy{}).BlockFor(2000, 0); got != 15*time.Minute {
		t.Errorf("at level 2000: %s", got)
	}
}

func TestStrikesSurviveJSON(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(1, failure.ExecutionError, "acme"), noon, route.Production())
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back route.Strikes
	if err := json.Unmarshal(text, &back); err != nil || cmp.Diff(s, back) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(s, back))
	}
}

func TestPresetsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	want := map[string]route.Policy{
		"production":        {Cooldown: 60 * time.Second, Cap: 15 * time.Minute, MaxFailures: 1},
		"development":       {Cooldown: 30 * time.Second, Cap: 15 * time.Minute, MaxFailures: 3},
		"high-availability": {Cooldown: 120 * time.Second, Cap: 15 * time.Minute, MaxFailures: 1},
	}
	for _, name := range route.Presets() {
		if got, ok := route.Preset(name); !ok || got != want[name] {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, ok := route.Preset("reckless"); ok || len(route.Presets()) != len(want) {
		t.Error("presets differ")
	}
}

func TestTheLastSixteenFailuresAreKnownAgain(t *testing.T) {
	t.Parallel()
	s, _ := route.Strikes{}.Add(strike(0, failure.Timeout, "acme"), noon, route.Development())
	if len(s.Marks) != 0 || s.Tenants["acme"] != 1 {
		t.Errorf("a failure without a number left %+v", s)
	}
	for n := range 17 {
		s, _ = s.Add(strike(n+1, failure.Timeout, "acme"), noon, route.Development())
	}
	if diff := cmp.Diff([]uint64{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}, s.Marks); diff != "" {
		t.Error(diff)
	}
	for n, counted := range map[int]int{1: 19, 2: 18, 17: 18, 18: 19} {
		if again, _ := s.Add(strike(n, failure.Timeout, "acme"), noon, route.Development()); again.Tenants["acme"] != counted {
			t.Errorf("failure %d once more: %d are counted, want %d", n, again.Tenants["acme"], counted)
		}
	}
}

func TestABlockForALackSaysWhoseJobShowedItAndStandsOnce(t *testing.T) {
	t.Parallel()
	s, timeout := route.Strikes{}.Add(strike(1, failure.Timeout, "acme"), noon, route.Production())
	s, b := s.Add(strike(2, failure.Incapable, "bolt"), noon.Add(time.Second), route.Production())
	want := &route.Block{
		Host: "a", Hash: hashOf(1), Kind: failure.Incapable, Message: "boom", Job: "j", Tenant: "bolt", Tenants: []route.Tenant{"*"},
		Failures: 1, Level: 1, Until: noon.Add(time.Second + 15*time.Minute),
	}
	if diff := cmp.Diff(want, b); diff != "" || timeout == nil {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, s.Open); diff != "" {
		t.Errorf("what stands: %s", diff)
	}
	if _, again := s.Add(strike(3, failure.Incapable, "acme"), noon.Add(time.Minute), route.Production()); again != nil {
		t.Errorf("once more: %+v", again)
	}
	if _, later := s.Add(strike(3, failure.Incapable, "acme"), want.Until, route.Production()); later == nil {
		t.Error("none when it is over")
	}
}

func TestWhoIsGuiltyLaterIsNotGuiltyBefore(t *testing.T) {
	t.Parallel()
	first := route.Strikes{}.SetGuilty("acme", "a")
	if both := first.SetGuilty("bolt", "b"); len(both.Guilty) != 2 || len(first.Guilty) != 1 {
		t.Errorf("%v and %v", first.Guilty, both.Guilty)
	}
}

func TestABlockWithoutTenantsHoldsForAll(t *testing.T) {
	t.Parallel()
	if b := (route.Block{Kind: failure.Timeout}); !b.HoldsFor("acme", 0) || !b.HoldsFor("bolt", 7) {
		t.Error("it holds for some only")
	}
}

func TestStrikesAreKeptAsLongAsTheySayAnything(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]route.Strikes{
		"Tenants": {Tenants: map[route.Tenant]int{"acme": 1}}, "Memory": {Memory: map[route.Tenant]route.Shortage{"acme": {Failures: 1}}}, "Level": {Level: 1},
		"Open": {Open: &route.Block{}}, "Suspects": {Suspects: []route.Suspicion{{}}}, "Guilty": {Guilty: map[route.Tenant]string{"acme": ""}},
	} {
		if s.Clear() {
			t.Errorf("%s may go", name)
		}
	}
	if s := (route.Strikes{Marks: []uint64{1}, Last: noon, Ran: 7}); !s.Clear() {
		t.Error("what says nothing of failures is kept")
	}
	loss := (&route.Suspicion{Kind: failure.HostLost, NodeRan: time.Second, Progress: 0.5, Node: "3", Cause: failure.Down, Job: "j"}).Loss("a")
	want := failure.Loss{Job: "j", Attempt: failure.Attempt{Host: "a", Kind: failure.HostLost, NodeRan: time.Second, Progress: 0.5, Node: "3", Cause: failure.Down}}
	if diff := cmp.Diff(want, loss); diff != "" {
		t.Error(diff)
	}
}
