package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func TestWhatIsExpectedIsTheMeanOfTheLastDozenRuns(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	for i, c := range []struct{ ran, expected float64 }{
		{0, 0}, {-3, 0}, {10, 10}, {20, 15}, {0, 15}, {30, 20},
	} {
		f.ObserveRun(hashOf(1), "a", seconds(c.ran))
		if got := f.Expected(hashOf(1)); got != seconds(c.expected) {
			t.Errorf("after %d runs %s are expected, want %v s", i, got, c.expected)
		}
	}
	for range 20 {
		f.ObserveRun(hashOf(2), "a", seconds(10))
	}
	f.ObserveRun(hashOf(2), "gone", seconds(22)) // a twelfth of the twelve above
	if got, none := f.Expected(hashOf(2)), f.Expected(hashOf(3)); got != seconds(11) || none != 0 {
		t.Errorf("%s and %s are expected, want 11 s and nothing", got, none)
	}
}

// loads is a fleet in which loading the models of hash 1 takes so long and a run of it 100 s. Hosts that are named run it
// since noon, and host "idle" has none of its models.
func loads(took time.Duration, prefetch int, warm ...string) *route.Fleet {
	f := fleet(online("idle"))
	f.PutRequirements(hashOf(1), needs(1, 2))
	f.ObserveLoad([]string{"model-1.safetensors", "model-2.safetensors"}, took)
	f.ObserveLoad([]string{"model-1.safetensors"}, 0)
	f.ObserveLoad([]string{"model-1.safetensors"}, -time.Hour)
	f.ObserveLoad([]string{"unknown"}, time.Hour)
	f.ObserveRun(hashOf(1), "gone", seconds(100))
	for i, id := range warm {
		s := online(id)
		s.Prefetch = prefetch
		s.Running = []route.Run{{Tenant: "x", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(1), Since: noon}}
		f.PutHost(s)
	}
	return f
}

func chosenAt(f *route.Fleet, w route.Want, after float64) string {
	if id, ok := f.Choose(w, noon.Add(seconds(after))); ok {
		return string(id)
	}
	return "none"
}

// A warm host is free 100 s after noon. It is awaited for half the time that loading takes, and 30 s at most.
func TestAWarmHostIsAwaitedForHalfTheTimeToLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		took, after float64
		chosen      string
	}{
		{20, 90, "idle"}, {20, 90.1, "none"}, {20, 99, "none"}, {20, 100, "idle"},
		{600, 70, "idle"}, {600, 70.1, "none"},
		{0, 99, "idle"},
	} {
		if got := chosenAt(loads(seconds(c.took), 0, "warm"), want(1), c.after); got != c.chosen {
			t.Errorf("loading takes %v s, %v s after noon: %s, want %s", c.took, c.after, got, c.chosen)
		}
	}
}

func TestAWarmHostIsAwaitedOnlyWhenItMayTakeTheJobAndNothingIsPreferred(t *testing.T) {
	t.Parallel()
	probation := route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"x": 1}}
	many := func(n int) []string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint("warm-", i)
		}
		return names
	}
	for name, c := range map[string]struct {
		warm   []string
		change func(f *route.Fleet, w *route.Want)
		chosen string
	}{
		"AsItIs":                {warm: []string{"warm"}, chosen: "none"},
		"SomethingIsPreferred":  {[]string{"warm"}, func(_ *route.Fleet, w *route.Want) { w.Prefer = []string{"x"} }, "idle"},
		"AffinityPrefers":       {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) { f.PutAffinity(hashOf(1), []string{"x"}, nil) }, "idle"},
		"AffinityExcludesOther": {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) { f.PutAffinity(hashOf(1), nil, []string{"x"}) }, "none"},
		"AffinityExcludesIt":    {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) { f.PutAffinity(hashOf(1), nil, []string{"warm"}) }, "idle"},
		"ItIsBlocked":           {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) { f.PutBlock(block("warm", 1)) }, "idle"},
		"ItIsOnProbation":       {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) { f.PutStrikes("warm", hashOf(1), probation) }, "idle"},
		"AnotherWarmHostIsIdle": {[]string{"warm"}, func(f *route.Fleet, _ *route.Want) {
			s := online("hot")
			s.Recent = []workflow.Hash{hashOf(2), hashOf(1)}
			f.PutHost(s)
		}, "hot"},
		"SomebodyElseUsesIt": {nil, func(f *route.Fleet, _ *route.Want) {
			s := online("warm")
			s.Foreign, s.Slots = 1, 2
			s.Running = []route.Run{{Tenant: "x", Job: "j", Hash: hashOf(1), Since: noon}}
			f.PutHost(s)
		}, "idle"},
		"SixtyFourAreWarm":   {warm: many(64), chosen: "none"},
		"SixtyFiveAreWarm":   {warm: many(65), chosen: "idle"},
		"NoneIsWarm":         {chosen: "idle"},
		"ItIsWarmAndRunsOne": {nil, warmBehind(hashOf(3)), "idle"}, // it is not known how long
		"ItIsWarmAndBusy":    {nil, warmBehind(hashOf(4)), "none"},
	} {
		f, w := loads(seconds(20), 0, c.warm...), want(1)
		if c.change != nil {
			c.change(f, &w)
		}
		if got := chosenAt(f, w, 95); got != c.chosen {
			t.Errorf("%s: %s, want %s", name, got, c.chosen)
		}
	}
}

// warmBehind adds a warm host that runs another hash; of hash 4 it is known that it takes 100 s.
func warmBehind(runs workflow.Hash) func(f *route.Fleet, _ *route.Want) {
	return func(f *route.Fleet, _ *route.Want) {
		f.ObserveRun(hashOf(4), "gone", seconds(100))
		s := online("warm")
		s.Running, s.Recent = []route.Run{{Tenant: "x", Job: "j", Hash: runs, Since: noon}}, []workflow.Hash{hashOf(1)}
		f.PutHost(s)
	}
}

func TestOfWarmHostsThatAreFreeAtOneTimeTheFirstByNameHoldsTheJob(t *testing.T) {
	t.Parallel()
	for _, warm := range [][]string{{"b", "a", "c"}, {"a", "b", "c"}, {"c", "b", "a"}} {
		f := loads(seconds(20), 1, warm...)
		if early, ripe := chosenAt(f, want(1), 97.9), chosenAt(f, want(1), 98); early != "none" || ripe != "a" {
			t.Errorf("%q: %s, and when it is free in 2 s %s; want none and a", warm, early, ripe)
		}
	}
}

func TestTheRoomAsksAgainWhenTheWarmHostMayHoldTheJob(t *testing.T) {
	t.Parallel()
	for prefetch, again := range []float64{100, 98} {
		f, r := loads(seconds(20), prefetch, "warm"), room(ticket(1, "acme", 5))
		if got := next(r, f, noon.Add(seconds(95))); got != 0 || !r.NextDue().Equal(noon.Add(seconds(again))) {
			t.Errorf("prefetch %d: ticket %d is next, and it asks again at %s", prefetch, got, r.NextDue())
		}
	}
}

// While the idle host has other work, the job waits for the whole time that loading takes.
func TestAJobWaitsLongerForAWarmHostWhileTheIdleOneHasOtherWork(t *testing.T) {
	t.Parallel()
	f := loads(seconds(20), 0, "warm")
	r := room(ticket(1, "acme", 5))
	if got := next(r, f, noon.Add(seconds(85))); got != 1 {
		t.Errorf("alone, 15 s before: ticket %d is next, want 1 on the idle host", got)
	}
	other := ticket(2, "acme", 5)
	other.Hash = hashOf(7)
	r.Put(other)
	for after, want := range map[float64]uint64{79: 1, 81: 2, 85: 2} {
		r := room(ticket(1, "acme", 5), other)
		if got := next(r, f, noon.Add(seconds(after))); got != want {
			t.Errorf("%v s after noon ticket %d is next, want %d", after, got, want)
		}
		got, ok := r.Next(f, "idle", noon.Add(seconds(after)))
		if !ok || got.Sequence != want {
			t.Errorf("%v s after noon the idle host takes %d, want %d", after, got.Sequence, want)
		}
	}
}

// busyHost is one that may hold a job more, and when it is free; 0 = not known.
type busyHost struct {
	id   string
	free time.Duration
	warm bool
}

// holders is the plain reading of which busy hosts may hold the job at noon: of those that should be free already any one, else
// the one that is free first if it is in 2 s; a warm one that is free before that one would have loaded comes before it.
func holders(hosts []busyHost, loading time.Duration) []string {
	known := slices.DeleteFunc(slices.Clone(hosts), func(h busyHost) bool { return h.free == 0 })
	if len(known) == 0 {
		return names(hosts)
	}
	first := func(list []busyHost) busyHost {
		return slices.MinFunc(list, func(a, b busyHost) int {
			if a.free != b.free {
				return int(max(a.free, 0) - max(b.free, 0))
			}
			return slices.Compare([]string{a.id}, []string{b.id})
		})
	}
	soonest := first(known)
	from := known
	warm := slices.DeleteFunc(slices.Clone(known), func(h busyHost) bool { return !h.warm })
	if len(warm) > 0 && max(first(warm).free, 0) <= max(soonest.free, 0)+loading {
		soonest, from = first(warm), warm
	}
	switch {
	case soonest.free > route.PrefetchAhead:
		return nil
	case soonest.free > 0:
		return []string{soonest.id}
	}
	return names(slices.DeleteFunc(from, func(h busyHost) bool { return h.free > 0 }))
}

func names(hosts []busyHost) []string {
	list := make([]string, len(hosts))
	for i, h := range hosts {
		list[i] = h.id
	}
	return list
}

func TestAJobIsHeldWhereItRunsFirst(t *testing.T) {
	t.Parallel()
	const loading = 4 * time.Second
	seen := map[int]int{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 11))
		f := loads(loading, 0)
		f.RemoveHost("idle")
		var hosts []busyHost
		earliest := r.IntN(8) - 2
		for i := range 1 + r.IntN(150) {
			h := busyHost{id: hostName(r.IntN(1000) + 1000*i), warm: r.IntN(20) == 0, free: time.Duration(earliest+r.IntN(12)) * time.Second}
			if h.free == 0 {
				h.free = time.Millisecond
			}
			s := online(h.id)
			s.Prefetch = 1
			run := route.Run{Tenant: "x", Job: "j", Hash: hashOf(2), Since: noon.Add(h.free - seconds(100))}
			if r.IntN(10) == 0 || seed%40 == 0 {
				h.free, run.Hash = 0, hashOf(3)
			}
			if h.warm {
				s.Recent = []workflow.Hash{hashOf(4), hashOf(1)}[r.IntN(2):]
			}
			s.Running = []route.Run{run}
			f.ObserveRun(hashOf(2), "gone", seconds(100))
			f.PutHost(s)
			hosts = append(hosts, h)
		}
		want, got := holders(hosts, loading), chosenAt(f, want(1), 0)
		seen[min(len(want), 2)]++
		if len(want) == 0 && got != "none" || len(want) > 0 && !slices.Contains(want, got) {
			t.Fatalf("seed %d: it is held by %s, and should be by one of %q: %+v", seed, got, want, hosts)
		}
	}
	if seen[0] < 20 || seen[1] < 20 || seen[2] < 20 {
		t.Errorf("cases with none, one and several: %v", seen)
	}
}

func TestAPreferredHostHoldsTheJobHoweverLateItIsFree(t *testing.T) {
	t.Parallel()
	f := loads(seconds(4), 1, "soon")
	f.RemoveHost("idle")
	late := online("late")
	late.Prefetch = 1
	late.Running = []route.Run{{Tenant: "x", Job: "j", Hash: hashOf(1), Since: noon.Add(time.Hour)}}
	f.PutHost(late)
	w := want(1)
	if got := chosenAt(f, w, 99); got != "soon" {
		t.Errorf("without a preference: %s", got)
	}
	w.Prefer = []string{"late"}
	if got := chosenAt(f, w, 99); got != "late" {
		t.Errorf("preferred by the job: %s", got)
	}
	f.PutAffinity(hashOf(1), []string{"late"}, nil)
	if got := chosenAt(f, want(1), 99); got != "late" {
		t.Errorf("preferred by the affinity: %s", got)
	}
	f.PutAffinity(hashOf(1), nil, []string{"other"})
	if got := chosenAt(f, want(1), 99); got != "soon" {
		t.Errorf("with an affinity that excludes another: %s", got)
	}
}
