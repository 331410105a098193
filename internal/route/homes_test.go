package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// shared is a fleet of a host at home here and one elsewhere that is warm for hash 1, both idle.
func shared() *route.Fleet {
	here, there := online("here"), online("there")
	here.Home, there.Recent = true, []workflow.Hash{hashOf(1)}
	f := fleet(here, there)
	f.LeaveToHomes(true)
	return f
}

func TestAWaitingJobIsLeftToTheHomeOfItsBestHostForAWhile(t *testing.T) {
	t.Parallel()
	f := shared()
	r := room(ticket(1, "a", 5))
	for _, c := range []struct {
		at   time.Duration
		want route.HostID
		due  time.Duration // when to look again; 0 = never
	}{
		{0, "", time.Second},
		{999 * time.Millisecond, "", time.Second},
		{time.Second, "here", 0},
	} {
		_, host, _ := r.Pick(f, noon.Add(c.at))
		if host != c.want {
			t.Errorf("after %v the job goes to %q, want %q", c.at, host, c.want)
		}
		if due := r.NextDue(); c.due != 0 && !due.Equal(noon.Add(c.due)) {
			t.Errorf("after %v the room is looked at again at %v, want noon + %v", c.at, due, c.due)
		}
	}
	r.Put(ticket(2, "a", 5))
	r.Remove(1)
	if got := next(r, f, noon.Add(time.Second)); got != 0 {
		t.Errorf("job %d is not left to the other home, although it is a new one", got)
	}
}

func TestAHostAtHomeElsewhereGetsNoWaitingJobFromHere(t *testing.T) {
	t.Parallel()
	f := shared()
	busy := online("here")
	busy.Home, busy.Running = true, []route.Run{{Tenant: "b", Job: "x", Hash: hashOf(2), Since: noon}}
	f.PutHost(busy)
	r := room(ticket(1, "a", 5))
	if got := next(r, f, noon.Add(time.Minute)); got != 0 {
		t.Errorf("Pick gives job %d to a host elsewhere", got)
	}
	if got, ok := r.Next(f, "there", noon.Add(time.Minute)); ok {
		t.Errorf("Next gives job %d to a host elsewhere", got.Sequence)
	}
	if host, _ := f.Choose(want(1), noon.Add(time.Minute)); host != "there" {
		t.Errorf("a job that has just come goes to %q, want there", host)
	}
	f.LeaveToHomes(false)
	if got := next(r, f, noon.Add(time.Minute)); got != 1 {
		t.Errorf("in a small fleet Pick gives job %d, want 1", got)
	}
}

func TestAnOpenHostGetsWaitingJobsWhereverItIsAtHome(t *testing.T) {
	t.Parallel()
	there := online("there")
	f := fleet(there)
	f.LeaveToHomes(true)
	r := room(ticket(1, "a", 5))
	if got := next(r, f, noon); got != 0 {
		t.Errorf("Pick gives job %d to a host that is left to its home", got)
	}
	there.Open = true
	f.PutHost(there)
	if got := next(r, f, noon); got != 1 {
		t.Errorf("Pick gives job %d to an open host, want 1", got)
	}
	there.Open = false
	f.PutHost(there)
	if got, ok := r.Next(f, "there", noon); ok {
		t.Errorf("Next gives job %d to a host that is not open any more", got.Sequence)
	}
}

func TestASearchLeavesOnlySoManyJobsToOtherHomes(t *testing.T) {
	t.Parallel()
	here, there := online("here"), online("there")
	here.Home, there.Recent = true, []workflow.Hash{hashOf(1)}
	f := fleet(here, there)
	f.LeaveToHomes(true)
	r := route.NewRoom()
	for i := range uint64(40) { // 32 of them are left; the 33rd is looked at as if there were no other host
		x := ticket(i+1, "a", 5)
		x.Size = int64(i + 1) // a class of its own
		r.Put(x)
	}
	if got, host, _ := r.Pick(f, noon); got.Sequence != 33 || host != "here" {
		t.Errorf("job %d goes to %q, want 33 to here", got.Sequence, host)
	}
}

func TestAHostHasSlotsForAsManyJobsAsItSays(t *testing.T) {
	t.Parallel()
	two := online("a")
	two.Slots, two.Running = 2, []route.Run{{Tenant: "b", Job: "x", Hash: hashOf(2), Since: noon}}
	f := fleet(two)
	for i, want := range []bool{true, true, false} {
		if got := f.HasSlots("a"); got != want {
			t.Errorf("with %d jobs: %v, want %v", i+1, got, want)
		}
		f.Occupy("a", route.Run{Tenant: "b", Job: route.JobID("y" + string(rune('0'+i))), Hash: hashOf(1)})
	}
	if f.HasSlots("unknown") {
		t.Error("a host that is not known has slots")
	}
}

func TestTheJobsOfATenantWithACapGoToAnyHost(t *testing.T) {
	t.Parallel()
	f := shared()
	f.PutTenant("a", 1, 5)
	r := room(ticket(1, "a", 5))
	if _, host, _ := r.Pick(f, noon); host != "there" {
		t.Errorf("Pick gives the job to %q, want there", host)
	}
	if _, ok := r.Next(f, "there", noon); !ok {
		t.Error("Next gives the host elsewhere no job")
	}
}
