package dispatcher

import "time"

// runTimes is how long jobs run, from the last few dozen.
type runTimes struct {
	mean time.Duration
	n    int
}

func (r *runTimes) observe(ran time.Duration) {
	r.n = min(r.n+1, 32)
	r.mean += (ran - r.mean) / time.Duration(r.n)
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
	return min(max(handLeast, p.perSecond(now)/5), underWayMost/2)
}
