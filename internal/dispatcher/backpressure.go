package dispatcher

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	handLeast = pullBatch        // jobs that may always wait in hand: what one pull brings before the pace is known
	manyLeave = 160              // from about as many placements a second on, a hand is worked off quickly
	handMost  = 512              // deliveries under way at once
	handFlow  = 64               // deliveries under way at once while others stand in line
	lineTime  = 4 * time.Second  // how long a job may stand in line in the stream
	longLine  = 20 * time.Second // the same while jobs run for less than tinyRun: parking costs more than they do
	tinyRun   = 50 * time.Millisecond
	lineGrace = time.Second // before the pace of a new line is known
)

// line is what is known of the jobs in the stream: all dispatchers work off that of a priority together. What stays
// there costs nothing but cannot be passed; what is pulled and cannot run is parked, which costs some writes and lets
// everybody else pass. So jobs stand in line only while the line is worked off within lineTime, or has only just begun
// to form. The brain and the pull loops write it; pull loops read it.
type line struct {
	rate  atomic.Int64 // jobs that this dispatcher placed in the last second
	peers atomic.Int64 // live dispatchers, this one included
	slow  atomic.Bool  // jobs run for tinyRun or longer
	holds atomic.Int64 // deliveries that the hand can hold, a free slot can take, or a kept one has
	mixed atomic.Int64 // Unix nanoseconds when jobs of several tenants came last, of some far more than of others: nobody stands in line behind another then
	stuck atomic.Bool  // the hand is full, and slots are free that no job in it can take

	hand    [10]atomic.Int64 // jobs of each priority that wait in hand
	pending [10]atomic.Int64 // what the consumer of each priority still holds
	since   [10]atomic.Int64 // Unix nanoseconds since when a line is too long; 0 = it is not
}

// credit says how many jobs of a priority may be pulled now, waiting a moment when that is none.
func (b *brain) credit(stop context.Context, p int) int {
	n := b.line.most(p, time.Now()) - int(b.inHand.Load())
	if n > 0 && (n >= pullLeast || !b.line.fed()) {
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

// most is how many deliveries may be under way when more jobs of a priority are pulled. From a line of tiny jobs no
// more are taken than find a slot or a place in hand, unless slots stay free for which somebody further back may wait.
// What a higher priority finds in hand of lower ones does not keep it waiting.
func (l *line) most(p int, now time.Time) int {
	if !l.stands(p, now) || now.UnixNano()-l.mixed.Load() < int64(mixedTime) {
		return handMost
	}
	if l.stuck.Load() {
		return min(int(l.holds.Load())+handFlow, handMost) // what the full hand does not hold is parked
	}
	most := min(max(handFlow, int(l.rate.Load())/10), handMost)
	if l.slow.Load() {
		return most
	}
	return min(most, int(l.holds.Load()+l.inHandBelow(p)))
}

// inHandBelow is how many jobs of lower priorities than p wait in hand.
func (l *line) inHandBelow(p int) int64 {
	sum := int64(0)
	for lower := range p {
		sum += l.hand[lower].Load()
	}
	return sum
}

// fed reports whether slots that fall free find enough in hand until pullLeast jobs can be pulled at once.
func (l *line) fed() bool {
	return l.inHandBelow(len(l.hand)) >= 2*pullLeast && l.rate.Load() >= manyLeave && !l.stuck.Load()
}

// stands reports whether the jobs of a priority may stand in line. Each dispatcher is taken to do an equal share.
func (l *line) stands(p int, now time.Time) bool {
	pending, worked := l.pending[p].Load(), l.rate.Load()*max(l.peers.Load(), 1)
	within := longLine
	if l.slow.Load() {
		within = lineTime
	}
	if pending <= worked*int64(within/time.Second) {
		l.since[p].Store(0)
		return worked > 0
	}
	l.since[p].CompareAndSwap(0, now.UnixNano())
	return now.UnixNano()-l.since[p].Load() < int64(lineGrace)
}

// some reports whether jobs stand in line.
func (l *line) some() bool {
	for p := range l.pending {
		if l.pending[p].Load() > 0 {
			return true
		}
	}
	return false
}

// watchLine keeps what the pull loops need to know.
func (b *brain) watchLine(now time.Time) {
	vacant, kept := b.fleet.Slots()
	hand, peers := b.pace.hand(now), max(len(b.homes), 1)
	b.line.rate.Store(int64(b.pace.perSecond(now)))
	b.line.holds.Store(int64(hand + kept + (vacant+peers-1)/peers))
	b.line.stuck.Store(vacant > 0 && len(b.hand) >= hand)
}

// usual is how long jobs run, from the last few dozen.
type usual struct {
	mean time.Duration
	n    int
}

func (u *usual) observe(ran time.Duration) {
	u.n = min(u.n+1, 32)
	u.mean += (ran - u.mean) / time.Duration(u.n)
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
