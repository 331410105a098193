package route_test

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// scaled looks each minute at how many hosts of each size are wanted, and has as many as were wanted at most in the last minutes, as
// scalers do that take hosts away slowly; the others finish what they run and get nothing.
type scaled struct {
	*ours
	slow   int              // minutes
	wanted []map[string]int // by size, the newest last
	active map[string]int   // by size
	looked time.Time
	hours  float64 // of active hosts
}

func size(host int) string {
	if isBig(host) {
		return "big"
	}
	return "small"
}

func (p *scaled) changed(s *simulation, host int) {
	state := s.state(host)
	state.Labels = []string{"size=" + size(host)}
	ofSize := host / simBigEvery
	if !isBig(host) {
		ofSize = host - host/simBigEvery - 1
	}
	if ofSize >= p.active[size(host)] {
		state.State = route.Draining
	}
	p.fleet.PutHost(state)
}

func (p *scaled) next(s *simulation) (*simJob, int, time.Time) {
	if p.looked.IsZero() || s.now.Sub(p.looked) >= time.Minute {
		for name, n := range p.active {
			most := len(s.hosts) / simBigEvery
			if name == "small" {
				most = len(s.hosts) - most
			}
			p.hours += float64(min(n, most)) / 60
		}
		p.looked = s.now
		p.wanted = append(p.wanted, p.room.Survey(p.fleet, route.SurveyOptions{PoolLabel: "size"}, s.now, always).Wanted)
		p.wanted = p.wanted[max(0, len(p.wanted)-p.slow):]
		p.active = map[string]int{}
		for _, wanted := range p.wanted {
			for name, n := range wanted {
				p.active[name] = max(p.active[name], n)
			}
		}
		for host := range s.hosts {
			p.changed(s, host)
		}
	}
	j, host, again := p.ours.next(s)
	if look := p.looked.Add(time.Minute); j == nil && (again.IsZero() || look.Before(again)) {
		again = look
	}
	return j, host, again
}

// The first hours of a day have its most traffic. Each seed is another day: WANTED_SEEDS=20 tries so many.
func TestAFleetThatHasTheHostsThatItWantsKeepsTheTarget(t *testing.T) {
	t.Parallel()
	seeds, err := strconv.Atoi(cmp.Or(os.Getenv("WANTED_SEEDS"), "3"))
	if err != nil {
		t.Fatalf("WANTED_SEEDS is no number: %v", err)
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("Seed", seed+1), func(t *testing.T) {
			t.Parallel()
			keepsTheTarget(t, seed+1)
		})
	}
}

func keepsTheTarget(t *testing.T, seed uint64) {
	t.Helper()
	const most, long = 60, 8 * time.Hour
	p := &scaled{ours: newOursOf(most), slow: 5, active: map[string]int{"big": 1, "small": 1}}
	jobs := dayOf(seed, 1, long)
	s := simulateOn(most, p, jobs, noon.Add(long))
	waits := s.waits(anyJob)
	p50, p95, mean := quantile(waits, 0.5), quantile(waits, 0.95), p.hours/long.Hours()
	t.Logf("%d of %d jobs, wait p50 %s p95 %s, %.1f hosts on average, %.1f busy", len(s.finished), len(jobs), p50, p95, mean, s.busyShare()*most)
	if p95 > 75*time.Second { // the target, and a part of the minute until the next look
		t.Errorf("p95 of waits is %s", p95)
	}
	if busyHosts := s.busyShare() * most; mean > 1.2*busyHosts {
		t.Errorf("%.1f hosts are active on average and %.1f are busy", mean, busyHosts)
	}
}
