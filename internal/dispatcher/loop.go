package dispatcher

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// loop decides. It is one goroutine that calls the parts one after the other, so that none of them needs a lock, and
// that never waits for the wire: what has to be read or written is done by walks on goroutines of their own, which tell
// the result through the inbox.
//
// This happens to a job, in this order:
//
//	place     it gets a host and a slot there, or the reason why none may take it
//	keep      it waits in hand when hosts are merely busy
//	admit     otherwise it gets a ticket in the waiting room, or rests in the stream when its tenant has no room there
//	match     whether in hand or in the waiting room, it gets the slot that has become free for it
//	answered  the answer of the host's agent frees the slot again, or becomes a promise to begin the job
//	evidence  when it has failed: what is known of the fleet beside the job's own attempts
//
// This happens to a change, which is whatever else is reported to the loop, in this order:
//
//	watches.go  the part that it concerns takes it in, and notes in changes what may follow from it
//	step        jobs whose time is over end; free slots get the best jobs that wait for them; the reasons of the others
//	            are reviewed; the pull loops get to know how many more jobs are wanted
type loop struct {
	d     *Dispatcher // whose walks carry out what is decided
	inbox chan func(now time.Time)
	over  chan struct{}               // closed when run has ended
	walk  func(func(context.Context)) // runs a walk; set by run

	last      time.Time                // the time that now gave last
	began     time.Time                // when the turn did, by the local clock
	unsynced  int                      // buckets of which not all is known yet
	synced    chan struct{}            // closed when there is none
	closing   bool                     // nothing is begun any more
	turnBegan func()                   // called before each turn
	turnEnded func(took time.Duration) // and after it
	depth     atomic.Int64             // tickets that wait here; read by other goroutines
	outgoing  chan queue.Relay         // to be sent
	chosen    chan []string            // hosts whose agents are followed; the newest list

	pressure   *backpressure
	changes    *changes
	alarms     *alarms
	background background
	parts
}

// parts are what the loop decides with. Only its goroutine touches them.
type parts struct {
	// What is known of the fleet.
	fleet     *route.Fleet
	peers     *peers
	name      duplicateName
	grants    *grants
	rests     *hostRests
	hosts     *hosts
	sources   *stateSources
	relays    *relays
	presences *mirror[queue.HostState]
	capable   *capabilities
	blocks    *blocks
	guilt     *guilt
	successes *successes
	affinity  *affinities
	tenants   *tenants
	slots     *tenantSlots

	// What is known of jobs.
	room      *route.Room
	hand      *hand
	tickets   *tickets
	waiting   *mirror[queue.Ticket]
	news      *ticketNews
	needs     *requirements
	promises  *promises
	reasons   *reasons
	ticketing *ticketing
	removed   *removedJobs
}

// run takes in what happens and decides, until ctx ends.
func (l *loop) run(ctx context.Context) error {
	defer close(l.over)
	l.walk = l.walksUnder(ctx)
	l.setAlarms()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer l.background.stop()
	for {
		timer.Reset(l.untilWork(l.now()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case happened := <-l.inbox:
			l.beginTurn()
			now := l.now()
			happened(now)
			l.endTurn(l.takeMore(now))
		case <-timer.C:
			l.beginTurn()
			now := l.now()
			l.ring(now)
			l.endTurn(now)
		}
	}
}

// A turn is to end within 2 ms, since nothing else is decided meanwhile: it begins nothing more that may be left to the
// next turn once it has taken turnMost.
const turnMost = time.Millisecond

// spent reports whether the turn has taken so long that the rest is left to the next one.
func (l *loop) spent() bool { return time.Since(l.began) >= turnMost }

func (l *loop) beginTurn() {
	l.turnBegan()
	l.began = time.Now()
}

// endTurn does what follows from all that was taken in, and a part of what is done in slices.
func (l *loop) endTurn(now time.Time) {
	l.step(now)
	l.background.advance()
	l.turnEnded(time.Since(l.began))
}

// ring calls the alarms that are due, as many as the turn has time for.
func (l *loop) ring(now time.Time) {
	for l.alarms.ringOne(now) && !l.spent() {
	}
}

// takeMore takes in what has happened meanwhile, so that a burst is matched once. It gives the time at which it took in the last:
// the turn must go on with a time that is not before that at which a job has become due.
func (l *loop) takeMore(now time.Time) time.Time {
	for range 64 {
		if time.Since(l.began) >= turnMost/2 {
			return now
		}
		select {
		case happened := <-l.inbox:
			now = l.now()
			happened(now)
		default:
			return now
		}
	}
	return now
}

// step does what follows from all that was taken in.
func (l *loop) step(now time.Time) {
	if !l.isSynced() {
		l.room.PlaceNew(l.fleet, now)
		return
	}
	if l.closing {
		return
	}
	if due := l.room.NextDue(); !due.IsZero() && !due.After(now) {
		l.changes.jobs = true
	}
	l.relays.step(now)
	l.endExpired(now)
	l.match(now)
	l.reasons.look(now)
	l.depth.Store(int64(l.tickets.len()))
	vacant, kept := l.fleet.Slots()
	l.pressure.update(vacant, kept, l.hand.len(), now)
	l.d.limit.intake.Store(int64(intakePause(vacant, l.room.Len(), l.pressure.placedByAll(now))))
	l.wake(now)
}

// wake has the loop look again when a job becomes due.
func (l *loop) wake(now time.Time) {
	due := l.room.NextDue()
	at := later(due, now.Add(time.Millisecond))
	if next, some := l.alarms.next(); due.IsZero() || some && !at.Before(next) {
		return
	}
	l.alarms.at(at, func(time.Time) {})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// setAlarms has the parts look regularly for what no change reports.
func (l *loop) setAlarms() {
	now := l.now()
	l.alarms.every(now, time.Second, func(now time.Time) { l.expirePresences(time.Now(), now) })
	l.alarms.every(now, sourcesLook, func(now time.Time) {
		if l.isSynced() {
			l.sources.look(now)
			l.relays.look(now)
			l.news.look(now)
		}
	})
	l.alarms.every(now, handTime/4, func(now time.Time) { l.parkLate(now) })
	l.alarms.every(now, slotLook, func(now time.Time) {
		l.background.begin("slots", func(pause func() bool) {
			l.slots.readOld(now, pause)
			l.slots.lookAround(now, pause)
		})
	})
	l.alarms.every(now, outdatedLook, l.liftAllOutdated)
	l.alarms.every(now, removedLook, func(time.Time) {
		if l.isSynced() {
			l.removed.begin()
		}
	})
	l.alarms.every(now, promiseLook, l.promises.lookAtDue)
	l.alarms.every(now, callPause, func(now time.Time) {
		if vacant, _ := l.fleet.Slots(); !l.closing && l.isSynced() {
			l.ticketing.callBack(vacant, now)
		}
	})
	l.alarms.every(now, restingPause, l.ticketing.forgetOver)
}

// untilWork is how long the loop may wait for a message: until an alarm is due, and not at all when something is left to do.
func (l *loop) untilWork(now time.Time) time.Duration {
	if l.background.left() || l.isSynced() && !l.closing && (l.changes.unmatched() || l.room.Unfinished()) {
		return 0
	}
	next := now.Add(time.Minute)
	if at, some := l.alarms.next(); some && at.Before(next) {
		next = at
	}
	return max(next.Sub(now), 0)
}

// now is NATS' time, in which all that happens and is decided is measured. It never goes back, even when a new
// measurement finds an earlier time.
func (l *loop) now() time.Time {
	l.last = later(l.last, l.d.clock())
	return l.last
}

// tell hands f to the loop, and drops it when the loop has ended.
func (l *loop) tell(f func(now time.Time)) {
	select {
	case l.inbox <- f:
	case <-l.over:
	}
}

// ask runs f in the loop and waits for it; false when the loop has ended.
func (l *loop) ask(f func(now time.Time)) bool {
	done := make(chan struct{})
	l.tell(func(now time.Time) {
		f(now)
		close(done)
	})
	select {
	case <-done:
		return true
	case <-l.over:
		return false
	}
}

// walksUnder gives what runs a walk on a goroutine of its own.
func (l *loop) walksUnder(ctx context.Context) func(func(context.Context)) {
	return func(walk func(context.Context)) {
		l.pressure.enter()
		l.d.walks.Go(func() {
			defer l.pressure.exit()
			walk(ctx)
		})
	}
}

// isSynced reports whether all that is stored in NATS has been taken in.
func (l *loop) isSynced() bool {
	select {
	case <-l.synced:
		return true
	default:
		return false
	}
}

// ready waits until all that is stored in NATS has been taken in.
func (l *loop) ready(ctx context.Context) error {
	select {
	case <-l.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
