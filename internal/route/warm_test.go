package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// learned is a fleet in which hash 1 runs 10 s on a warm host and 18 s on a cold one, host "warm" runs it since
// noon, or has been offered it then and has not answered yet, and host "cold" is idle.
func learned(prefetch int, offered bool) *route.Fleet {
	warm := online("warm")
	warm.Prefetch, warm.Recent = prefetch, []workflow.Hash{hashOf(1)}
	f := fleet(warm, online("cold"))
	for i, took := range []time.Duration{18 * time.Second, 10 * time.Second} {
		host := route.HostID([]string{"cold", "warm"}[i])
		f.Occupy(host, route.Run{Tenant: "acme", Job: "x", Hash: hashOf(1)})
		f.ObserveRun(hashOf(1), host, took)
		f.Release(host, "acme", "x")
	}
	run := route.Run{Tenant: "acme", Job: "y", Hash: hashOf(1), Since: noon}
	if offered {
		f.Occupy("warm", run)
		return f
	}
	warm.Running = []route.Run{run}
	f.PutHost(warm)
	return f
}

func TestAWarmHostIsAwaitedOnlyWhenThatIsFaster(t *testing.T) {
	t.Parallel()
	// The mean of both runs is 14 s, so the warm host is expected to be free at noon + 14 s; loading takes 8 s, of
	// which an idle GPU waits half.
	for _, c := range []struct {
		name     string
		prefetch int
		at       time.Duration
		since    time.Duration // when it was first passed over; 0 = never
		want     string
	}{
		{"too long to wait", 0, 9 * time.Second, 0, "cold"},
		{"soon enough", 0, 11 * time.Second, 0, "none"},
		{"soon enough, but too early to hold the job", 1, 11 * time.Second, 0, "none"},
		{"soon enough to hold the job", 1, 12 * time.Second, 0, "warm"},
		{"it should be free already", 0, 15 * time.Second, 0, "cold"},
		{"has waited since it was worth it", 0, 13 * time.Second, 11 * time.Second, "none"},
		{"has waited as long as is worth it", 0, 13 * time.Second, 10 * time.Second, "cold"},
	} {
		for _, offered := range []bool{false, true} {
			f, w := learned(c.prefetch, offered), want(1)
			if c.since > 0 {
				w.Since = noon.Add(c.since)
			}
			got, _ := f.Choose(w, noon.Add(c.at))
			if got == "" {
				got = "none"
			}
			if string(got) != c.want {
				t.Errorf("%s (offered: %v): %s, not %s", c.name, offered, got, c.want)
			}
		}
	}
}

func TestTheRoomAsksAgainWhenTheWaitForAWarmHostIsOver(t *testing.T) {
	t.Parallel()
	f, r := learned(0, false), route.NewRoom()
	r.Put(route.Ticket{Sequence: 1, Priority: 5, Tenant: "acme", Job: "j", Hash: hashOf(1), Received: noon})
	if _, ok := r.Next(f, "cold", noon.Add(11*time.Second)); ok {
		t.Fatal("the cold host took the job")
	}
	if due := r.NextDue(); !due.Equal(noon.Add(14 * time.Second)) {
		t.Errorf("asks again at %s", due)
	}
	if _, host, ok := r.Pick(f, noon.Add(14*time.Second)); !ok || host != "cold" {
		t.Errorf("when the warm host is late: %q", host)
	}
}

func TestAnIdleHostComesBeforeOneThatCouldHoldTheJob(t *testing.T) {
	t.Parallel()
	busy := online("busy")
	busy.Prefetch = 1
	busy.Running = []route.Run{{Tenant: "x", Job: "y", Hash: hashOf(1), Since: noon}}
	f := fleet(busy, online("idle"))
	if got := chosen(f, want(1)); got != "idle" {
		t.Errorf("with an idle host: %s", got)
	}
	f.RemoveHost("idle")
	if got := chosen(f, want(1)); got != "busy" {
		t.Errorf("without: %s", got)
	}
	f.Occupy("busy", route.Run{Tenant: "x", Job: "z", Hash: hashOf(1)})
	if got := chosen(f, want(1)); got != "none" {
		t.Errorf("when it holds one already: %s", got)
	}
}

func TestAJobIsHeldOnlyShortlyBeforeItsHostIsFree(t *testing.T) {
	t.Parallel()
	busy := online("busy")
	busy.Prefetch = 1
	f := fleet(busy)
	f.ObserveRun(hashOf(2), "busy", time.Minute)
	busy.Running = []route.Run{{Tenant: "x", Job: "y", Hash: hashOf(2), Since: noon}}
	f.PutHost(busy)
	r := route.NewRoom()
	r.Put(route.Ticket{Sequence: 1, Priority: 5, Tenant: "acme", Job: "j", Hash: hashOf(1), Received: noon})
	if _, _, ok := r.Pick(f, noon); ok {
		t.Error("held a minute before")
	}
	ripe := noon.Add(time.Minute - route.PrefetchAhead)
	if !r.NextDue().Equal(ripe) {
		t.Errorf("asks again at %s", r.NextDue())
	}
	if _, ok := r.Next(f, "busy", ripe); !ok {
		t.Error("not held shortly before")
	}
}

func TestAHostOfWhichNobodyKnowsWhenItIsFreeMayHoldAJob(t *testing.T) {
	t.Parallel()
	busy := online("busy")
	busy.Slots, busy.Prefetch = 2, 1
	f := fleet(busy)
	f.ObserveRun(hashOf(2), "busy", time.Minute)
	busy.Running = []route.Run{{Tenant: "x", Job: "y", Hash: hashOf(2), Since: noon}}
	f.PutHost(busy)
	f.Occupy("busy", route.Run{Tenant: "x", Job: "z", Hash: hashOf(3), Since: noon})
	if got := chosen(f, want(1)); got != "busy" {
		t.Errorf("with one that may end at any time: %s", got)
	}
	f.Release("busy", "x", "z")
	f.Occupy("busy", route.Run{Tenant: "x", Job: "z", Hash: hashOf(2), Since: noon})
	if got := chosen(f, want(1)); got != "none" {
		t.Errorf("a minute before either ends: %s", got)
	}
}
