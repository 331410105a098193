package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestATicketIsWantedAsItWasPut(t *testing.T) {
	t.Parallel()
	wishes := route.Wishes{Prefer: []string{"p"}, Only: []string{"o"}, Exclude: []string{"e"}, Avoid: []string{"x"}}
	in := route.Ticket{Hash: hashOf(1), Tenant: "acme", Priority: 7, Size: 9, Wishes: wishes, AvoidUntil: noon, NotBefore: noon.Add(time.Hour)}
	got := in.Want()
	if got.Hash != in.Hash || got.Tenant != "acme" || got.Priority != 7 || got.Size != 9 || !got.AvoidUntil.Equal(noon) || !got.NotBefore.Equal(in.NotBefore) {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(wishes, got.Wishes); diff != "" {
		t.Error(diff)
	}
}

func TestTheSameTermsInAnotherListAreOtherWishes(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := route.NewRoom()
	lists := []route.Wishes{
		{Only: []string{"b"}}, {Prefer: []string{"b"}}, {Exclude: []string{"a"}}, {Avoid: []string{"b"}}, {Only: []string{"b", "c"}}, {Prefer: []string{"b", "c"}},
		{Prefer: []string{"b"}, Only: []string{"c"}}, {Only: []string{"a"}},
	}
	for i, wishes := range lists {
		in := ticket(uint64(i+1), "acme", 5)
		in.Wishes = wishes
		r.Put(in)
	}
	for _, want := range []uint64{2, 4, 6, 8, 0} {
		got := next(r, f, noon)
		if got != want {
			t.Errorf("ticket %d is next, want %d", got, want)
		}
		r.Remove(got)
	}
	for _, i := range []int{0, 2, 4, 6} {
		if got, _ := r.Get(uint64(i + 1)); cmp.Diff(lists[i], got.Wishes) != "" {
			t.Errorf("ticket %d: %s", i+1, cmp.Diff(lists[i], got.Wishes))
		}
	}
}

// All jobs of a workflow are blocked from some size on, and the last one is the smallest.
func TestTheOnlyJobThatCanRunIsFoundBehindAnyNumberOfOthers(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		f, r := fleet(online("a")), route.NewRoom()
		b := block("a", 1)
		b.Kind, b.Size = failure.OutOfMemory, 2
		f.PutBlock(b)
		for i := range n + 1 {
			in := ticket(uint64(i+1), "acme", 5)
			in.Size = int64(n + 1 - i)
			r.Put(in)
		}
		if got := next(r, f, noon); got != uint64(n+1) {
			t.Errorf("of %d jobs %d is next", n+1, got)
		}
		if got, ok := r.Next(f, "a", noon); !ok || got.Sequence != uint64(n+1) {
			t.Errorf("of %d jobs the host takes %d", n+1, got.Sequence)
		}
	}
}

func TestAJobThatFewerHostsCanRunComesFirstWhileThatIsSo(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"), online("b"), online("c"), online("d"))
	r := route.NewRoom()
	for i, only := range [][]string{{"a", "b", "c"}, {"a", "d"}} {
		in := ticket(uint64(i+1), "acme", 5)
		in.Only = only
		r.Put(in)
	}
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want that of two hosts", got)
	}
	f.RemoveHost("b")
	f.RemoveHost("c")
	if got := next(r, f, noon); got != 1 {
		t.Errorf("ticket %d is next, want that of one host", got)
	}
	if _, ok := r.Next(f, "d", noon); !ok {
		t.Error("host d takes nothing")
	}
	r.Remove(2)
	f.PutHost(online("new"))
	if got, ok := r.Next(f, "new", noon); ok {
		t.Errorf("a host that no job is for takes %d", got.Sequence)
	}
	if _, ok := r.Next(f, "unknown", noon); ok || f.May(want(1), "unknown", noon) {
		t.Error("a host that nobody knows takes a job")
	}
}

func TestARoomMayChangeItsFleet(t *testing.T) {
	t.Parallel()
	first, second := fleet(online("a")), fleet(online("b"))
	first.PutRequirements(hashOf(1), needs(1))
	r := room(ticket(1, "acme", 5))
	for _, c := range []struct {
		fleet *route.Fleet
		host  route.HostID
	}{{first, "a"}, {second, "b"}, {first, "a"}} {
		if got, host, ok := r.Pick(c.fleet, noon); !ok || got.Sequence != 1 || host != c.host {
			t.Errorf("ticket %d on %s, want 1 on %s", got.Sequence, host, c.host)
		}
	}
	r.Pick(second, noon)
	first.RemoveHost("a")
	if diff := cmp.Diff(map[string]int{}, first.Left()); diff != "" {
		t.Errorf("the first fleet keeps %s", diff)
	}
}

func TestTheRoomAsksAgainWhenTheFirstOfItsHostsMayHoldAJob(t *testing.T) {
	t.Parallel()
	for _, ends := range [][]float64{{60, 30, 90}, {30, 60, 90}, {90, 60, 30}} {
		f := fleet()
		f.ObserveRun(hashOf(2), "gone", seconds(100))
		for i, end := range ends {
			s := online(fmt.Sprint("h", i))
			s.Prefetch = 1
			s.Running = []route.Run{{Tenant: "x", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(2), Since: noon.Add(seconds(end - 100))}}
			f.PutHost(s)
			if f.May(want(1), s.ID, noon) {
				t.Errorf("%s may hold a job %v s before it is free", s.ID, end)
			}
		}
		r := room(ticket(1, "acme", 5))
		if got := next(r, f, noon); got != 0 || !r.NextDue().Equal(noon.Add(28*time.Second)) {
			t.Errorf("ends %v: ticket %d is next, and it asks again at %s", ends, got, r.NextDue())
		}
		if _, ok := r.Next(f, "h0", noon); ok {
			t.Error("h0 takes it")
		}
	}
}

// While other jobs can have the idle host, a warm host that may hold a job already is given it only after them.
func TestAJobIsHeldByItsWarmHostOnceTheIdleOneHasOtherWork(t *testing.T) {
	t.Parallel()
	f := loads(seconds(20), 1, "warm")
	other := ticket(2, "acme", 5)
	other.Hash = hashOf(7)
	r, at := room(ticket(1, "acme", 5), other), noon.Add(seconds(98.5))
	if got, host, _ := r.Pick(f, at); got.Sequence != 2 || host != "idle" {
		t.Errorf("ticket %d goes to %s, want 2 to the idle host", got.Sequence, host)
	}
	r.Remove(2)
	if got, host, _ := r.Pick(f, at); got.Sequence != 1 || host != "warm" {
		t.Errorf("then ticket %d goes to %s, want 1 to the warm host", got.Sequence, host)
	}
}

func TestPrioritiesBeyondTheTenCountAsTheNearest(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 9
	f, r := fleet(s), room(ticket(1, "acme", 12), ticket(2, "acme", -3))
	f.Occupy("a", route.Run{Tenant: "acme", Job: "x", Priority: 99, Hash: hashOf(1)})
	f.Occupy("a", route.Run{Tenant: "acme", Job: "y", Priority: -1, Hash: hashOf(1)})
	r.Charge("acme", 9, 0.5, noon)
	lanes := r.Lanes(f, noon)
	want := []route.LaneStat{
		{Tenant: "acme", Priority: 9, Depth: 1, Oldest: noon, Running: 1, Share: 1}, {Tenant: "acme", Priority: 0, Depth: 1, Oldest: noon, Running: 1},
	}
	if diff := cmp.Diff(want, lanes); diff != "" {
		t.Error(diff)
	}
}

func TestAHostThatIsAskedTooEarlyIsAskedAgain(t *testing.T) {
	t.Parallel()
	f := loads(seconds(20), 1, "busy")
	r := room(ticket(1, "acme", 5))
	if got, ok := r.Next(f, "busy", noon); ok || !r.NextDue().Equal(noon.Add(seconds(98))) {
		t.Errorf("it takes %d, and is asked again at %s", got.Sequence, r.NextDue())
	}
}

func TestALaneAgesFromWhenItsJobIsDue(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	r.Age = time.Minute
	late, high := from(1, 3600), ticket(2, "high", 5)
	late.Priority, high.Received = 3, noon.Add(time.Hour)
	r.Put(late)
	r.Put(high)
	if got := next(r, f, noon.Add(seconds(3601))); got != 2 {
		t.Errorf("ticket %d is next, want that of the higher priority", got)
	}
}

func TestALaneTellsOfItsOldestJob(t *testing.T) {
	t.Parallel()
	older, newer, scheduled := ticket(2, "acme", 5), ticket(3, "acme", 5), from(1, 7200)
	older.Received, newer.Received, scheduled.Tenant = noon.Add(time.Minute), noon.Add(2*time.Minute), "acme"
	for _, order := range [][]route.Ticket{{newer, older, scheduled}, {scheduled, older, newer}} {
		r := room(order...)
		for i, want := range []time.Duration{0, time.Minute, 2 * time.Minute} {
			lanes := r.Lanes(fleet(), noon.Add(time.Hour))
			if len(lanes) != 1 || lanes[0].Depth != 3-i || !lanes[0].Oldest.Equal(noon.Add(want)) {
				t.Errorf("after %d were removed: %+v", i, lanes)
			}
			r.Remove(uint64(i + 1))
		}
		if lanes := r.Lanes(fleet(), noon.Add(time.Hour)); len(lanes) != 0 {
			t.Errorf("when all were removed: %+v", lanes)
		}
	}
}

// TestWhatIsDueAtOnceIsTakenInInSlices has ten thousand jobs become due at the same moment, and expire at another.
func TestWhatIsDueAtOnceIsTakenInInSlices(t *testing.T) {
	t.Parallel()
	const jobs, slice = 10_000, 16
	f, r := fleet(online("a")), route.NewRoom()
	r.Slice = slice
	for i := range uint64(jobs) {
		x := from(i+1, 60)
		x.Expires = noon.Add(time.Hour)
		r.Put(x)
	}
	waitingAt := func() int { all, notDue := r.Waiting("a"); return all - notDue }
	most, before := 0, 0
	for now := noon.Add(time.Minute); before < jobs; {
		r.CatchUp(f, now)
		due := waitingAt()
		if most = max(most, due-before); due == before {
			t.Fatalf("%d are due, and no more follow", due)
		}
		before = due
	}
	if most > 2*2*slice {
		t.Errorf("%d became due in a step", most)
	}
	expired, now := 0, noon.Add(time.Hour)
	for some := r.Expired(now); len(some) > 0; some = r.Expired(now) {
		if expired += len(some); len(some) > 2*slice {
			t.Fatalf("%d expired in a step", len(some))
		}
	}
	if expired != jobs {
		t.Errorf("%d have expired", expired)
	}
}

// The room looks at all its jobs again when more than 4096 workflows have changed since it last looked.
func TestAChangeIsSeenBehindThousandsOfOthers(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "acme", 5))
	f.PutBlock(block("a", 1))
	if got := next(r, f, noon); got != 0 {
		t.Errorf("ticket %d is next, whose workflow is blocked", got)
	}
	f.RemoveBlock("a", hashOf(1))
	for i := range 5000 {
		f.PutAffinity(hashOf(100+i), nil, nil)
	}
	if got := next(r, f, noon); got != 1 {
		t.Errorf("ticket %d is next, want 1", got)
	}
}

func TestAModelThatIsNeededTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	a, b := online("a"), online("b")
	a.Recent, b.Recent = append(a.Recent, hashOf(1)), append(b.Recent, hashOf(2))
	f := fleet(a, b)
	f.PutRequirements(hashOf(1), needs(1))
	f.PutRequirements(hashOf(2), needs(2))
	found := map[string]int{}
	for i := range 20 {
		f.PutRequirements(hashOf(10+i), needs(1, 2, 1))
		found[chosen(f, want(10+i))]++
	}
	if found["a"] == 0 || found["b"] == 0 {
		t.Errorf("with one model each, the hosts get %v", found)
	}
}

func TestOneOfTwoJobsOfAWorkflowMayEnd(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 3
	s.Running = []route.Run{{Tenant: "x", Job: "1", Hash: hashOf(1)}, {Tenant: "x", Job: "2", Hash: hashOf(1)}}
	f := fleet(s)
	f.PutStrikes("a", hashOf(1), route.Strikes{Level: 1, Tenants: map[route.Tenant]int{"x": 1}})
	for _, c := range []struct {
		running int
		chosen  string
	}{{2, "none"}, {1, "none"}, {0, "a"}} {
		s.Running = s.Running[:c.running]
		f.PutHost(s)
		if got := chosen(f, want(1)); got != c.chosen {
			t.Errorf("while %d run on probation: %s", c.running, got)
		}
	}
	f.RemoveHost("a")
	f.RemoveStrikes("a", hashOf(1))
	f.PutCapability("b", kindOf(1))
	f.RemoveCapability("b")
	f.RemoveCapability("unknown")
	if diff := cmp.Diff(map[string]int{}, f.Left()); diff != "" {
		t.Errorf("the fleet keeps %s", diff)
	}
}
