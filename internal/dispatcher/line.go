package dispatcher

import (
	"context"
	"time"
)

// credit says how many jobs of a priority may be pulled now, waiting a moment when that is none. Beyond the cap
// of the waiting room the lower priorities stop first: p is pulled up to (10+p)/10 of it.
func (b *brain) credit(stop context.Context, p int) int {
	full := b.depth.Load() >= int64(b.d.cfg.WaitingCap)*int64(10+p)/10
	most := handMost
	if b.inLine(p) {
		most = min(max(handFlow, int(b.rate.Load())/10), handMost)
	}
	n := most - int(b.inHand.Load())
	if !full && n > 0 {
		return min(n, pullBatch)
	}
	timer := time.NewTimer(handTime / 4)
	defer timer.Stop()
	select {
	case <-stop.Done():
	case <-timer.C:
	case <-b.freed:
	}
	return 0
}

// inLine reports whether the jobs of a priority may stand in line in the stream. What stays there costs nothing but
// cannot be passed; what is pulled and cannot run is parked, which costs some writes and lets everybody else pass. So
// jobs stand in line only while the line is worked off within lineTime, or has only just begun to form.
func (b *brain) inLine(p int) bool {
	pending, rate := b.pending[p].Load(), b.rate.Load()
	line := lineTime
	if b.tiny.Load() {
		line = longLine
	}
	if rate == 0 || pending <= rate*int64(line/time.Second) {
		b.lineSince[p].Store(0)
		return rate > 0
	}
	now := time.Now().UnixNano()
	b.lineSince[p].CompareAndSwap(0, now)
	return now-b.lineSince[p].Load() < int64(lineGrace)
}

// pace counts placements in windows of handTime, so that the hand may hold what leaves it soon.
type pace struct {
	windows [paceWindows]int
	current int64 // number of the window that is counted now
}

const paceWindows = 10

func (p *pace) count(now time.Time) {
	p.roll(now)
	p.windows[p.current%paceWindows]++
}

func (p *pace) roll(now time.Time) {
	window := now.UnixNano() / int64(handTime)
	for k := max(p.current+1, window-paceWindows+1); k <= window; k++ {
		p.windows[k%paceWindows] = 0
	}
	p.current = max(p.current, window)
}

// perSecond is how many were placed in the last second.
func (p *pace) perSecond(now time.Time) int {
	p.roll(now)
	sum := 0
	for _, n := range p.windows {
		sum += n
	}
	return sum
}

// hand is how many jobs may wait in hand.
func (p *pace) hand(now time.Time) int {
	return min(max(handLeast, p.perSecond(now)/5), handMost/2)
}
