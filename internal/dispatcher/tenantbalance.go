package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// evenness knows whether the deliveries of the last window came about equally from all tenants who had one in mixedTime.
// Large ones weigh more. Who has a third of an equal share counts as equal.
type evenness struct {
	even  bool // in the window before
	came  int
	work  int // what they weigh
	begun time.Time
}

const (
	evenMost  = 128                    // deliveries of a window
	evenTime  = 250 * time.Millisecond // longest time of one
	evenLeast = 32                     // deliveries that a window needs to show anything
	evenSize  = 8 << 10                // bytes that weigh as much as a delivery
)

// count counts a delivery in.
func (e *evenness) count(p *passage, size int, tenants map[job.Tenant]*passage, now time.Time) (even bool) {
	if e.begun.IsZero() {
		e.begun = now
	}
	p.seen = now
	p.work += 1 + size/evenSize
	e.work += 1 + size/evenSize
	if e.came++; e.came < evenMost && now.Sub(e.begun) < evenTime {
		return e.even
	}
	e.even = e.came >= evenLeast && e.equal(tenants, now)
	e.came, e.work, e.begun = 0, 0, now
	for _, other := range tenants {
		other.work = 0
	}
	return e.even
}

func (e *evenness) equal(tenants map[job.Tenant]*passage, now time.Time) bool {
	present, least := 0, e.work
	for _, p := range tenants {
		if now.Sub(p.seen) < mixedTime {
			present++
			least = min(least, p.work)
		}
	}
	return least*present*3 >= e.work
}
