package route_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/route"
)

// ran teaches a fleet that hash 1 runs for so long.
func ran(f *route.Fleet, took time.Duration) { f.ObserveRun(hashOf(1), "a", took) }

func busy(id string, since time.Duration) route.HostState {
	s := online(id)
	s.Running = []route.Run{{Tenant: "a", Job: route.JobID(id), Priority: 5, Hash: hashOf(1), Since: noon.Add(-since)}}
	return s
}

func waiting(n int) *route.Room {
	r := route.NewRoom()
	for i := range n {
		r.Put(ticket(uint64(i+1), "a", 5))
	}
	return r
}

// The target is a minute.
func TestHostsAreWantedSoThatNoDueJobWaitsLongerThanTheTarget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fleet *route.Fleet
		room  *route.Room
		took  time.Duration
		want  int
	}{
		"NothingToDo":            {fleet(online("a"), online("b")), waiting(0), 10 * time.Second, 0},
		"OnlyWhatRuns":           {fleet(busy("a", 0), online("b")), waiting(0), 10 * time.Second, 1},
		"TheBusyOneIsSoonFree":   {fleet(busy("a", 8*time.Second)), waiting(3), 10 * time.Second, 1},
		"ABusyOneForLong":        {fleet(busy("a", 0)), waiting(1), 600 * time.Second, 2},
		"TwoFreeInTime":          {fleet(busy("a", 590*time.Second), busy("b", 590*time.Second)), waiting(2), 600 * time.Second, 2},
		"OneTooMany":             {fleet(busy("a", 590*time.Second), busy("b", 590*time.Second)), waiting(3), 600 * time.Second, 3},
		"ManyShortOnes":          {fleet(online("a")), waiting(70), 10 * time.Second, 10}, // 7 each begin in a minute
		"ManyLongOnes":           {fleet(online("a")), waiting(5), 600 * time.Second, 5},
		"NoHostAtAll":            {route.NewFleet(), waiting(2), 0, 1}, // 7 of 10 s begin on one
		"UnknownRunsTakeTenTens": {fleet(online("a")), waiting(8), 0, 2},
	} {
		if c.took > 0 {
			ran(c.fleet, c.took)
		}
		if got := survey(c.room, c.fleet).Wanted; got[""] != c.want || len(got) != 1 {
			t.Errorf("%s: %v wanted, want %d", name, got, c.want)
		}
	}
}

func TestNoHostsAreWantedForJobsThatTheyWouldNotHelp(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]func(f *route.Fleet, r *route.Room){
		"Blocked": func(f *route.Fleet, _ *route.Room) { f.PutBlock(block("a", 1)) },
		"OverCap": func(f *route.Fleet, _ *route.Room) {
			f.PutTenant("a", 1, 1)
			f.Occupy("a", route.Run{Tenant: "a", Job: "x", Hash: hashOf(1), Since: noon})
		},
		"Scheduled": func(_ *route.Fleet, r *route.Room) {
			for i := range 20 {
				r.Remove(uint64(i + 1))
				r.Put(from(uint64(i+1), 3600))
			}
		},
	} {
		f, r := fleet(online("a")), waiting(20)
		setting(f, r)
		if got := survey(r, f).Wanted[""]; got > 1 { // the one that is busy
			t.Errorf("%s: %d hosts are wanted", name, got)
		}
	}
	f := fleet(online("a"))
	f.PutTenant("a", 1, 3)
	ran(f, time.Hour)
	if got := survey(waiting(20), f).Wanted[""]; got != 3 {
		t.Errorf("%d hosts are wanted for a tenant that may run 3 jobs", got)
	}
}

func TestEachPoolWantsHostsForTheJobsThatItCanTake(t *testing.T) {
	t.Parallel()
	pool := func(id, gpu string) route.HostState {
		s := online(id)
		s.Labels = []string{"rack=7", "gpu=" + gpu}
		return s
	}
	f := fleet(pool("a", "4090"), pool("b", "4090"), pool("c", "a100"), online("d"))
	ran(f, time.Hour)
	r := waiting(3)
	for i := range 5 {
		big := ticket(uint64(i+10), "a", 5)
		big.Only = []string{"gpu=a100"}
		r.Put(big)
	}
	got := r.Survey(f, route.SurveyOptions{PoolLabel: "gpu"}, noon, always).Wanted
	if diff := cmp.Diff(map[string]int{"4090": 1, "a100": 6, "": 1}, got); diff != "" {
		t.Error(diff)
	}
}
