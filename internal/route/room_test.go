package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func ticket(sequence uint64, t string, priority int) route.Ticket {
	return route.Ticket{
		Sequence: sequence, Revision: 1, Priority: priority, Tenant: route.Tenant(t), Job: route.JobID(fmt.Sprint("j", sequence)),
		Hash: hashOf(1), Received: noon,
	}
}

func room(tickets ...route.Ticket) *route.Room {
	r := route.NewRoom()
	for _, t := range tickets {
		r.Put(t)
	}
	return r
}

// next is the sequence that Pick names, 0 for none.
func next(r *route.Room, f *route.Fleet, now time.Time) uint64 {
	t, _, _ := r.Pick(f, now)
	return t.Sequence
}

func TestJobsOfOneNameAreFoundByTheirTenants(t *testing.T) {
	t.Parallel()
	names := map[uint64]route.Tenant{1: "a", 2: "b", 3: "c", 4: "a"} // by sequence; 4 is another job of that name
	for _, gone := range []struct {
		sequence uint64
		found    map[route.Tenant]uint64
	}{
		{1, map[route.Tenant]uint64{"a": 4, "b": 2, "c": 3}},
		{2, map[route.Tenant]uint64{"a": 4, "b": 0, "c": 3}},
		{3, map[route.Tenant]uint64{"a": 4, "b": 2, "c": 0}},
		{4, map[route.Tenant]uint64{"a": 1, "b": 2, "c": 3}},
	} {
		r := route.NewRoom()
		for sequence := uint64(1); sequence <= 4; sequence++ {
			same := ticket(sequence, string(names[sequence]), 5)
			same.Job = "same"
			r.Put(same)
		}
		r.Remove(gone.sequence)
		for tenant, want := range gone.found {
			if got, ok := r.ByJob(tenant, "same"); got.Sequence != want || ok != (want != 0) {
				t.Errorf("without %d the job of %s has sequence %d, %v, want %d", gone.sequence, tenant, got.Sequence, ok, want)
			}
		}
		for sequence := uint64(1); sequence <= 4; sequence++ {
			r.Remove(sequence)
		}
		if _, ok := r.ByJob("a", "same"); ok || r.Len() != 0 {
			t.Errorf("%d are left of an empty room", r.Len())
		}
	}
}

func TestOlderRevisionsDoNotReplaceNewer(t *testing.T) {
	t.Parallel()
	newer, older := ticket(1, "a", 5), ticket(1, "a", 7)
	newer.Revision = 2
	r := room(newer, older)
	if got, _ := r.Get(1); got.Priority != 5 || r.Len() != 1 {
		t.Errorf("%+v of %d", got, r.Len())
	}
}

func TestATicketComesBackAsItWasPut(t *testing.T) {
	t.Parallel()
	in := ticket(1, "a", 5)
	in.Size, in.Attempt, in.NotBefore, in.Expires = 7, 2, noon.Add(time.Second), noon.Add(time.Hour)
	in.Prefer, in.Only, in.Exclude, in.Avoid = []string{"p"}, []string{"gpu=1", "o"}, []string{"e"}, []string{"x"}
	in.AvoidUntil = noon.Add(time.Minute)
	r := room(in)
	out, _ := r.Get(1)
	if fmt.Sprint(out) != fmt.Sprint(in) {
		t.Errorf("got %+v\nput %+v", out, in)
	}
	seen := 0
	r.Each(func(t *route.Ticket) { seen += int(t.Sequence) })
	if byJob, ok := r.ByJob("a", "j1"); !ok || byJob.Sequence != 1 || seen != 1 {
		t.Errorf("by job %+v, seen %d", byJob, seen)
	}
	if _, ok := r.ByJob("b", "j1"); ok {
		t.Error("another tenant's job of that name was found")
	}
}

func TestMomentsInAFarFutureAreNotOver(t *testing.T) {
	t.Parallel()
	far := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	f := route.NewFleet()
	f.PutHost(online("a"))
	scheduled, patient := ticket(1, "a", 5), ticket(2, "a", 5)
	scheduled.NotBefore, patient.Expires = far, far
	r := room(scheduled, patient)
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want the one that expires in 9999", got)
	}
	r.Remove(2)
	if got, gone := next(r, f, noon), r.Expired(noon); got != 0 || len(gone) != 0 {
		t.Errorf("ticket %d is next although it is due in 9999, expired are %v", got, gone)
	}
	b := block("a", 1)
	b.Until = far
	f.PutBlock(b)
	if f.May(route.Want{Hash: hashOf(1), Tenant: "a"}, "a", noon) || f.BlockCount() != 1 {
		t.Error("a block until 9999 is over")
	}
}

func TestJobsBecomeDueAndExpire(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	scheduled, mortal := ticket(1, "a", 9), ticket(2, "a", 5)
	scheduled.NotBefore, mortal.Expires = noon.Add(time.Minute), noon.Add(2*time.Minute)
	r := room(scheduled, mortal)
	if got := next(r, f, noon); got != 2 {
		t.Errorf("before anything is due: %d", got)
	}
	if due := r.NextDue(); !due.Equal(scheduled.NotBefore) {
		t.Errorf("next due %s", due)
	}
	if got := next(r, f, noon.Add(time.Minute)); got != 1 {
		t.Errorf("when it is due: %d", got)
	}
	if due := r.NextDue(); !due.Equal(mortal.Expires) {
		t.Errorf("then due %s", due)
	}
	r.Remove(1)
	over := noon.Add(2 * time.Minute)
	if got := next(r, f, over); got != 0 {
		t.Errorf("an expired job is offered: %d", got)
	}
	if list := r.Expired(over); len(list) != 1 || list[0].Sequence != 2 {
		t.Errorf("expired: %+v", list)
	}
	if list := r.Expired(over); len(list) != 0 {
		t.Errorf("told twice: %+v", list)
	}
	if list := r.Expired(r.NextDue()); len(list) != 1 {
		t.Errorf("not told again: %+v", list)
	}
}

func TestALaneThatIsNotServedRisesInPriorityUntilItIs(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "low", 3), ticket(2, "low", 3))
	for i := range uint64(100) {
		r.Put(ticket(100+i, "high", 5))
	}
	var low []time.Duration
	for minute := range 40 {
		at := time.Duration(minute) * time.Minute
		got, _, _ := r.Pick(f, noon.Add(at))
		r.Remove(got.Sequence)
		r.Charge(got.Tenant, got.Priority, 60, noon.Add(at))
		if got.Tenant == "low" {
			low = append(low, at)
		}
	}
	// Two steps of 5 minutes take it from 3 to 5, where it has used less than the other; then it begins anew.
	if len(low) != 2 || low[0] != 10*time.Minute || low[1] != 20*time.Minute {
		t.Errorf("the low lane was served after %v", low)
	}
}

func TestLanesAreServedInTurnByWhatTheyUsed(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	f.PutTenant("heavy", 3, 0)
	for i := range uint64(300) {
		r.Put(ticket(1000+i, "heavy", 5))
		r.Put(ticket(2000+i, "light", 5))
	}
	served := map[route.Tenant]int{}
	for range 100 {
		got, _, ok := r.Pick(f, noon)
		if !ok {
			t.Fatal("nothing to do")
		}
		r.Remove(got.Sequence)
		r.Charge(got.Tenant, 5, 2, noon)
		served[got.Tenant]++
	}
	if served["heavy"] != 75 || served["light"] != 25 {
		t.Errorf("weights 3 and 1 were served %v", served)
	}
}

func TestANewcomerIsNeitherFavouredForThePastNorKeptWaiting(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	serve := func() route.Tenant {
		got, _, _ := r.Pick(f, noon)
		r.Remove(got.Sequence)
		r.Charge(got.Tenant, 5, 1, noon)
		return got.Tenant
	}
	for i := range uint64(300) {
		r.Put(ticket(1000+i, "old", 5))
	}
	for range 100 {
		serve()
	}
	for i := range uint64(100) {
		r.Put(ticket(2000+i, "new", 5))
	}
	served := map[route.Tenant]int{}
	for range 20 {
		served[serve()]++
	}
	if served["new"] < 9 || served["new"] > 11 {
		t.Errorf("after 100 jobs of another: %v", served)
	}
}

// After a long run the jobs that follow it seem expensive while they run, until some have ended. A newcomer that comes
// later is not charged for that.
func TestANewcomerDoesNotWaitForAnEstimateThatHasFallen(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 2
	f, r := fleet(s), route.NewRoom()
	r.Charge("flood", 5, 8, noon)
	for i := range uint64(300) {
		r.Put(ticket(1000+i, "flood", 5))
	}
	var run []route.Ticket
	serve := func() route.Tenant {
		got, host, ok := r.Pick(f, noon)
		if !ok {
			t.Fatal("nothing to do")
		}
		r.Remove(got.Sequence)
		f.Occupy(host, route.Run{Tenant: got.Tenant, Job: got.Job, Priority: 5, Hash: got.Hash, Since: noon})
		run = append(run, got)
		return got.Tenant
	}
	end := func() {
		f.Release("a", run[0].Tenant, run[0].Job)
		r.Charge(run[0].Tenant, 5, 0.01, noon)
		run = run[1:]
	}
	serve()
	serve()
	for range 120 {
		end()
		serve()
	}
	r.Put(ticket(2000, "new", 5))
	for range 3 {
		end()
		if serve() == "new" {
			return
		}
	}
	t.Error("the newcomer waits although the other uses next to nothing")
}

func TestRunningJobsCountBeforeTheyHaveEnded(t *testing.T) {
	t.Parallel()
	s := online("a")
	s.Slots = 10
	f, r := fleet(s), route.NewRoom()
	for i := range uint64(20) {
		r.Put(ticket(1000+i, "a", 5))
		r.Put(ticket(2000+i, "b", 5))
	}
	served := map[route.Tenant]int{}
	for range 10 {
		got, host, _ := r.Pick(f, noon)
		r.Remove(got.Sequence)
		f.Occupy(host, route.Run{Tenant: got.Tenant, Job: got.Job, Priority: 5, Hash: got.Hash, Since: noon})
		served[got.Tenant]++
	}
	if served["a"] != 5 || served["b"] != 5 {
		t.Errorf("ten slots at once went to %v", served)
	}
}

func TestPlacesAndLanesAreWhatPeopleWouldCount(t *testing.T) {
	t.Parallel()
	f := fleet()
	late := ticket(9, "a", 9)
	late.NotBefore = noon.Add(time.Hour)
	r := room(ticket(1, "a", 5), ticket(2, "a", 5), ticket(3, "a", 5), ticket(4, "b", 5), ticket(5, "c", 7), late)
	r.Charge("a", 5, 30, noon)
	r.Charge("b", 5, 10, noon)
	// Before the first of a: c by priority, and b, which has used less. Before the third: two of a as well.
	for sequence, want := range map[uint64]int{5: 1, 4: 2, 1: 3, 3: 5, 9: 6, 77: 0} {
		if place, of := r.Position(f, sequence, noon); place != want || of != 6 {
			t.Errorf("ticket %d: place %d of %d, not %d", sequence, place, of, want)
		}
	}
	lanes := r.Lanes(f, noon)
	if len(lanes) != 4 || lanes[2].Tenant != "b" || lanes[3].Tenant != "a" || lanes[3].Depth != 3 || lanes[3].Share != 0.75 {
		t.Errorf("lanes %+v", lanes)
	}
	f.PutHost(online("h"))
	f.ObserveRun(hashOf(1), "h", 10*time.Second)
	if eta := r.ETA(f, 3, noon); !eta.Equal(noon.Add(50 * time.Second)) {
		t.Errorf("expected at %s", eta)
	}
}

func TestALaneWithoutAWaitingJobIsListedWhileItsJobsRun(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("h")), room()
	if lanes := r.Lanes(f, noon); len(lanes) != 0 {
		t.Errorf("nothing waits or runs: %+v", lanes)
	}
	f.Occupy("h", route.Run{Tenant: "a", Job: "x", Priority: 7, Hash: hashOf(1), Since: noon})
	lanes := r.Lanes(f, noon)
	if len(lanes) != 1 || lanes[0] != (route.LaneStat{Tenant: "a", Priority: 7, Running: 1}) {
		t.Errorf("lanes %+v", lanes)
	}
	f.Release("h", "a", "x")
	if lanes := r.Lanes(f, noon); len(lanes) != 0 {
		t.Errorf("after its end: %+v", lanes)
	}
}

func TestWorkThatWasBlockedIsFoundWhenTheBlockEnds(t *testing.T) {
	t.Parallel()
	for name, free := range map[string]func(f *route.Fleet){
		"block removed":   func(f *route.Fleet) { f.RemoveBlock("a", hashOf(1)) },
		"host joins":      func(f *route.Fleet) { f.PutHost(online("b")) },
		"model installed": func(f *route.Fleet) { f.RemoveBlock("a", hashOf(1)); f.PutCapability("a", kindOf(9)) },
	} {
		f := fleet(online("a"))
		f.PutRequirements(hashOf(1), needs(1))
		f.PutCapability("a", kindOf(1))
		if name != "model installed" {
			f.PutCapability("a", kindOf(9))
		}
		f.PutBlock(block("a", 1))
		r := room(ticket(1, "a", 5))
		if got := next(r, f, noon); got != 0 {
			t.Errorf("%s: %d ran on a blocked pair", name, got)
		}
		free(f)
		if got := next(r, f, noon); got != 1 {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestEveryTicketIsVisitedOnceHoweverManyComeAndGoMeanwhile(t *testing.T) {
	t.Parallel()
	r := route.NewRoom()
	put := func(n int) {
		r.Put(route.Ticket{Sequence: uint64(n), Priority: 5, Tenant: "acme", Job: route.JobID(fmt.Sprint(n)), Hash: hashOf(n % 3), Received: noon})
	}
	for n := range 1000 {
		put(n)
	}
	seen, kinds := map[uint64]int{}, map[route.Alike]string{}
	at := 0
	for round := 0; at >= 0; round++ {
		at = r.Some(at, 7, func(ticket *route.Ticket, like route.Alike) {
			seen[ticket.Sequence]++
			if hash, known := kinds[like]; known && hash != string(ticket.Hash) {
				t.Errorf("ticket %d is like those of another workflow", ticket.Sequence)
			}
			kinds[like] = string(ticket.Hash)
		})
		put(1000 + round)
		r.Remove(uint64(3*round + 500)) // every third of the upper half goes
	}
	for n := range uint64(1000) {
		stays := n < 500 || (n-500)%3 != 0
		if seen[n] > 1 || stays && seen[n] == 0 {
			t.Errorf("ticket %d was visited %d times", n, seen[n])
		}
	}
	if len(kinds) != 3 {
		t.Errorf("%d kinds of tickets, want one for each workflow", len(kinds))
	}
	if r.Some(0, 7, func(*route.Ticket, route.Alike) {}) < 0 || route.NewRoom().Some(0, 7, func(*route.Ticket, route.Alike) {}) >= 0 {
		t.Error("the end is not where it is")
	}
}

// The memory of a long queue is freed when its last ticket leaves, and not while that is replaced.
func TestTheLastTicketOfALongQueueMayBeReplaced(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	const many = 70 * 256
	for i := range many {
		r.Put(ticket(uint64(i+1), "acme", 5))
	}
	for i := range many - 1 {
		r.Remove(uint64(i + 1))
	}
	last := ticket(many, "acme", 5)
	last.Revision = 2
	r.Put(last)
	r.Put(ticket(many+1, "acme", 5))
	if got := next(r, f, noon); got != many {
		t.Errorf("ticket %d is next, want %d", got, many)
	}
	if !r.Remove(many) || !r.Remove(many+1) || r.Len() != 0 {
		t.Errorf("%d tickets are left", r.Len())
	}
}
