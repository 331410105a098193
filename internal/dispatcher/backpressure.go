package dispatcher

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	handLeast    = pullBatch        // jobs that may always wait in hand: what one pull brings before the pace is known
	manyPlaced   = 160              // placements a second from which on jobs leave the hand quickly
	underWayMost = 512              // deliveries under way at once
	underWayFew  = 64               // deliveries under way at once while others wait in line
	lineTime     = 4 * time.Second  // how long a job may wait in line in the stream
	longLine     = 20 * time.Second // the same while jobs run for less than tinyRun: to park such a job costs more than to run it
	tinyRun      = 50 * time.Millisecond
	lineGrace    = time.Second // how long a line may last before its pace is known
)

// backpressure decides how many jobs are pulled from the stream. The loop and the walks report what becomes of jobs that
// were pulled; the pull loops ask how many more there may be.
type backpressure struct {
	line     line
	underWay atomic.Int64  // deliveries that were pulled, until an agent or the waiting room has them or their jobs have ended
	freed    chan struct{} // holds one when underWay has fallen

	// Only the loop's goroutine touches these.
	pace pace
	runs runTimes
}

func newBackpressure() *backpressure { return &backpressure{freed: make(chan struct{}, 1)} }

// enter counts a delivery in, or a walk; exit ends it.
func (p *backpressure) enter() { p.underWay.Add(1) }

func (p *backpressure) exit() {
	p.underWay.Add(-1)
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// credit gives how many jobs of a priority may be pulled now. When none may, it waits a moment before it returns 0.
func (p *backpressure) credit(stop context.Context, priority job.Priority) int {
	n := p.line.most(int(priority), time.Now()) - int(p.underWay.Load())
	if n > 0 && (n >= pullLeast || !p.line.enoughInHand()) {
		return min(n, pullBatch)
	}
	timer := time.NewTimer(handTime / 4)
	defer timer.Stop()
	select {
	case <-stop.Done():
	case <-timer.C:
	case <-p.freed:
	}
	return 0
}

// pending takes in how many jobs of a priority are still in the stream.
func (p *backpressure) pending(priority job.Priority, jobs int64) {
	p.line.pending[priority].Store(jobs)
}

// someInLine reports whether jobs wait in line in the stream.
func (p *backpressure) someInLine() bool { return p.line.some() }

// mixed takes in whether several tenants publish, some of them far more than others.
func (p *backpressure) mixed(is bool, now time.Time) {
	if is {
		p.line.mixed.Store(now.UnixNano())
	} else {
		p.line.mixed.Store(0)
	}
}

// inHand takes in that so many jobs of a priority have come into the hand, or have left it.
func (p *backpressure) inHand(priority job.Priority, by int) { p.line.hand[priority].Add(int64(by)) }

// placed takes in that a job was given to a host.
func (p *backpressure) placed(now time.Time) { p.pace.count(now) }

// placedLately is how many jobs were given to hosts in the last second.
func (p *backpressure) placedLately(now time.Time) int { return p.pace.perSecond(now) }

// placedByAll is about how many jobs all dispatchers together gave to hosts in the last second.
func (p *backpressure) placedByAll(now time.Time) int {
	return p.pace.perSecond(now) * max(int(p.line.peers.Load()), 1)
}

// jobRan takes in how long a job has run.
func (p *backpressure) jobRan(d time.Duration) {
	p.runs.observe(d)
	p.line.slow.Store(p.runs.mean >= tinyRun)
}

// peers takes in how many dispatchers there are.
func (p *backpressure) peers(n int) { p.line.peers.Store(int64(n)) }

// handMost is how many jobs may wait in hand.
func (p *backpressure) handMost(now time.Time) int { return p.pace.hand(now) }

// update takes in how many slots of the fleet are vacant and how many are kept for jobs on their way there, and how
// many jobs wait in hand.
func (p *backpressure) update(vacant, kept, inHand int, now time.Time) {
	hand, peers := p.pace.hand(now), max(int(p.line.peers.Load()), 1)
	p.line.rate.Store(int64(p.pace.perSecond(now)))
	p.line.holds.Store(int64(hand + kept + (vacant+peers-1)/peers))
	p.line.stuck.Store(vacant > 0 && inHand >= hand)
}

// line is what is known of the jobs that wait in line in the stream, one line for each priority; all dispatchers work
// them off together. A job in line costs nothing, but those behind it have to wait for it. A job that is pulled and
// cannot run is parked: that costs some writes, and those behind it can go on. So jobs are left in line only while the
// line is worked off within lineTime, or has only just formed. The loop and the pull loops write it; pull loops read it.
type line struct {
	rate  atomic.Int64 // jobs that this dispatcher placed in the last second
	peers atomic.Int64 // live dispatchers, this one included
	slow  atomic.Bool  // jobs run for tinyRun or longer
	holds atomic.Int64 // deliveries that the hand can hold, a free slot can take, or a kept one has
	mixed atomic.Int64 // Unix nanoseconds when several tenants last published, some of them far more than others: then no tenant's jobs wait in line behind another's
	stuck atomic.Bool  // the hand is full, and slots are free that no job in it can take

	hand    [10]atomic.Int64 // jobs of each priority that wait in hand
	pending [10]atomic.Int64 // what the consumer of each priority still holds
	since   [10]atomic.Int64 // Unix nanoseconds since when a line is too long; 0 = it is not
}

// most is how many deliveries may be under way when more jobs of a priority are pulled. From a line of tiny jobs no
// more are taken than find a slot or a place in hand, unless slots stay free that a job further back might take.
// Jobs of lower priorities that are in hand do not count against a higher one.
func (l *line) most(p int, now time.Time) int {
	if !l.mayWaitInLine(p, now) || now.UnixNano()-l.mixed.Load() < int64(mixedTime) {
		return underWayMost
	}
	if l.stuck.Load() {
		return min(int(l.holds.Load())+underWayFew, underWayMost) // what the full hand does not hold is parked
	}
	most := min(max(underWayFew, int(l.rate.Load())/10), underWayMost)
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

// enoughInHand reports whether enough jobs are in hand for the slots that become free until pullLeast jobs can be pulled at once.
func (l *line) enoughInHand() bool {
	return l.inHandBelow(len(l.hand)) >= 2*pullLeast && l.rate.Load() >= manyPlaced && !l.stuck.Load()
}

// mayWaitInLine reports whether the jobs of a priority may wait in line. Each dispatcher is taken to do an equal share.
func (l *line) mayWaitInLine(p int, now time.Time) bool {
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

// some reports whether jobs wait in line.
func (l *line) some() bool {
	for p := range l.pending {
		if l.pending[p].Load() > 0 {
			return true
		}
	}
	return false
}
