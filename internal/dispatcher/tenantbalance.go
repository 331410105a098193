package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// balance finds out whether the deliveries of the last window came about equally from all tenants that had one in
// mixedTime. Large ones weigh more. A tenant with a third of an equal share or more counts as equal.
type balance struct {
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
func (b *balance) count(p *tenantWork, size int, tenants map[job.Tenant]*tenantWork, now time.Time) (even bool) {
	if b.begun.IsZero() {
		b.begun = now
	}
	p.seen = now
	p.work += 1 + size/evenSize
	b.work += 1 + size/evenSize
	if b.came++; b.came < evenMost && now.Sub(b.begun) < evenTime {
		return b.even
	}
	b.even = b.came >= evenLeast && b.equal(tenants, now)
	b.came, b.work, b.begun = 0, 0, now
	for _, other := range tenants {
		other.work = 0
	}
	return b.even
}

func (b *balance) equal(tenants map[job.Tenant]*tenantWork, now time.Time) bool {
	present, least := 0, b.work
	for _, p := range tenants {
		if now.Sub(p.seen) < mixedTime {
			present++
			least = min(least, p.work)
		}
	}
	return least*present*3 >= b.work
}
