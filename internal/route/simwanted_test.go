package route_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// scaled has each minute as many hosts of each size as are wanted; the others finish what they run and get nothing.
type scaled struct {
	*ours
	active map[string]int // by size
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
		p.active = p.room.Survey(p.fleet, route.SurveyOptions{PoolLabel: "size"}, s.now, always).Wanted
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

// The first hours of a day have its most traffic.
func TestAFleetThatHasTheHostsThatItWantsKeepsTheTarget(t *testing.T) {
	t.Parallel()
	const most, long = 60, 8 * time.Hour
	p := &scaled{ours: newOursOf(most), active: map[string]int{"big": 1, "small": 1}}
	jobs := dayOf(1, 1, long)
	s := simulateOn(most, p, jobs, noon.Add(long))
	waits := s.waits(anyJob)
	p50, p95, mean := quantile(waits, 0.5), quantile(waits, 0.95), p.hours/long.Hours()
	t.Logf("%d of %d jobs, wait p50 %s p95 %s, %.1f hosts on average, %.1f busy", len(s.finished), len(jobs), p50, p95, mean, s.busyShare()*most)
	if p95 > 150*time.Second { // the target, a minute until the next look, and what loading models takes
		t.Errorf("p95 of waits is %s", p95)
	}
	if busyHosts := s.busyShare() * most; mean > 1.35*busyHosts {
		t.Errorf("%.1f hosts are active on average and %.1f are busy", mean, busyHosts)
	}
}
