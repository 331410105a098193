package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestJobsEnoughWaitWhenASecondsWorkIsThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		vacant, waiting, perSecond int
		want                       time.Duration
	}{
		"nothing waits":                       {0, 0, 0, 0},
		"few wait":                            {0, 255, 10, 0},
		"enough wait":                         {0, 256, 256, 5 * time.Millisecond},
		"a quick fleet needs a second's work": {0, 999, 1000, 0},
		"and has it":                          {0, 1000, 1000, 5 * time.Millisecond},
		"none that waits can use a slot":      {1, 5000, 10, 2 * time.Millisecond},
	} {
		if got := dispatcher.IntakePause(c.vacant, c.waiting, c.perSecond); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// flood has deliveries of bolt come that are worked on at once, beside one of acme, and counts those that pass.
func flood(g *dispatcher.TenantLimit, deliveries int, now time.Time) (passed int, last time.Duration) {
	pass := func(tenant job.Tenant) {
		putOff := g.Enter(tenant, 0, now)
		if putOff > 0 {
			last = putOff
			return
		}
		g.Done(tenant)
		if tenant == "bolt" {
			passed++
		}
	}
	pass("acme")
	for range deliveries {
		pass("bolt")
	}
	return passed, last
}

func TestWhileJobsEnoughWaitAFloodIsTakenInSlowly(t *testing.T) {
	t.Parallel()
	g, now := dispatcher.NewTenantLimit(), noon
	if passed, _ := flood(g, 1000, now); passed != 1000 {
		t.Errorf("%d of 1000 pass while few wait", passed)
	}
	g.SetIntakePause(5 * time.Millisecond)
	if passed, last := flood(g, 1064, now); passed != 64 || last != 100*time.Millisecond+1000*5*time.Millisecond {
		t.Errorf("%d of 1064 pass, and the last is put off for %v; want 64, and the others 5 ms apart", passed, last)
	}
	if passed, _ := flood(g, 1000, now.Add(100*time.Millisecond)); passed != 20 {
		t.Errorf("%d pass a tenth of a second later, want one for each 5 ms", passed)
	}
	if putOff := g.Enter("acme", 100, now.Add(100*time.Millisecond)); putOff != 0 {
		t.Errorf("acme's is put off for %v", putOff)
	}
	g.SetIntakePause(0)
	if passed, _ := flood(g, 1000, now.Add(time.Second)); passed != 1000 {
		t.Errorf("%d of 1000 pass when few wait again", passed)
	}
}
