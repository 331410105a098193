package dispatcher

import (
	"container/heap"
	"context"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// brain is the one goroutine that owns everything a decision rests on. All that happens is told to it through
// inbox, in order; between two messages it matches what waits with what is free. It never waits for the wire.
//
// What a dispatcher knows of the others' intentions is a moment old, so two may offer to one slot, or claim one
// ticket: the agent and the ticket's revision decide, and the loser goes on. To make that rare, a slot is matched
// at once by its host's home dispatcher and by the others handOver later.
type brain struct {
	d     *Dispatcher
	inbox chan func(now time.Time)
	over  chan struct{} // closed when loop has ended: nobody hears any more

	// Owned by loop.
	walk         func(func(context.Context)) // runs the wire side of a decision on its own goroutine
	fleet        *route.Fleet
	waiting      *route.Room
	hosts        map[string]*hostView
	running      []route.Run // room for one host's
	capabilities map[string]workflow.Capability
	blocked      map[pair]bool
	incapable    map[pair]time.Time // blocks of kind incapable, and since when
	struck       map[pair]bool
	suspects     map[pair]bool // pairs that failed a moment ago
	memory       memory
	affinities   map[string]bool
	tenants      map[string]bool
	grants       grantTable
	promises     promises
	slots        slotTable
	odd          oddValues
	dispatchers  map[string]time.Time // live ones, and until when their presence stands by the local clock
	twin         twin
	homes        []string          // their names, sorted
	hand         map[uint64]*owned // jobs that wait here with their delivery, by sequence
	claiming     map[uint64]route.Ticket
	unlearnt     map[workflow.Hash]map[uint64]route.Ticket // tickets of hashes whose requirements are not known yet
	toLearn      []workflow.Hash                           // whose jobs are still to be read
	learning     int                                       // jobs being read
	holds        map[uint64]holdView
	due          map[uint64]time.Time // of tickets that become due later
	toExplain    []explanation        // reasons that are not told yet
	explaining   int                  // that are being told
	hopeless     []explanation        // found by the review under way
	nextReview   time.Time
	last         time.Time // what now has given
	sweep        sweep
	removed      removedSweep
	admission    admission
	syncing      map[source]map[string]bool // keys seen since Reset, until Synced
	synced       map[source]bool
	alarms       alarms
	pace         pace
	roundTrip    time.Duration // of an offer, lately
	runs         usual         // how long jobs run
	dirtyHosts   map[route.HostID]bool
	dirty        bool // something changed that may let any waiting job run
	closing      bool // nothing is begun any more
	review       bool // something changed that may change why a job waits

	inHand    atomic.Int64 // deliveries from their pull until an agent, the waiting room or the end has them
	depth     atomic.Int64 // tickets in the waiting room
	isSynced  atomic.Bool
	allSynced chan struct{}
	line      line
	freed     chan struct{} // told when inHand falls
}

// pair is a host and a hash.
type pair struct {
	host string
	hash workflow.Hash
}

const (
	handOver = 4 * time.Millisecond   // least head start of a host's home dispatcher
	handTime = 100 * time.Millisecond // how long a job waits in hand before it is parked
)

func newBrain(d *Dispatcher) *brain {
	b := &brain{
		d: d, inbox: make(chan func(time.Time), 1024), over: make(chan struct{}),
		fleet: route.NewFleet(), waiting: route.NewRoom(), hosts: map[string]*hostView{},
		capabilities: map[string]workflow.Capability{}, blocked: map[pair]bool{}, incapable: map[pair]time.Time{},
		struck: map[pair]bool{}, suspects: map[pair]bool{}, memory: newMemory(), affinities: map[string]bool{}, tenants: map[string]bool{}, grants: grantTable{}, promises: newPromises(),
		slots: newSlotTable(), admission: newAdmission(),
		dispatchers: map[string]time.Time{}, hand: map[uint64]*owned{}, claiming: map[uint64]route.Ticket{},
		unlearnt: map[workflow.Hash]map[uint64]route.Ticket{}, holds: map[uint64]holdView{}, due: map[uint64]time.Time{},
		syncing: map[source]map[string]bool{}, synced: map[source]bool{}, dirtyHosts: map[route.HostID]bool{},
		allSynced: make(chan struct{}), freed: make(chan struct{}, 1),
	}
	b.fleet.PutUsualCap(d.cfg.MaxRunning)
	if most := d.cfg.MaxPriority; most != nil {
		b.waiting.PutUsualCeiling(int(*most))
	}
	return b
}

// alarm is something to do at a time.
type alarm struct {
	at time.Time
	do func(now time.Time)
}

type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*a = old[:len(old)-1]
	return last
}

func (b *brain) at(when time.Time, do func(now time.Time)) {
	heap.Push(&b.alarms, alarm{at: when, do: do})
}

func (b *brain) every(pause time.Duration, do func(now time.Time)) {
	var again func(now time.Time)
	again = func(now time.Time) {
		do(now)
		b.at(now.Add(pause), again)
	}
	b.at(b.now().Add(pause), again)
}

// now is NATS' time, which all that is heard and decided is measured in. It does not go back when it is found to be a
// little earlier than was thought.
func (b *brain) now() time.Time {
	b.last = later(b.last, b.d.clock())
	return b.last
}

// loop hears and decides until ctx ends.
func (b *brain) loop(ctx context.Context) error {
	defer close(b.over)
	b.walk = b.walking(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	b.every(time.Second, b.expirePresence)
	b.every(handTime/4, b.parkLate)
	b.every(slotLook, b.lookForSlots)
	b.every(removedLook, b.lookForRemoved)
	b.every(promiseLook, b.lookAtPromises)
	b.every(callPause, b.callBack)
	b.every(restingPause, b.admission.forgetOver)
	for {
		timer.Reset(b.untilAlarm(b.now()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case hear := <-b.inbox:
			now := b.now()
			hear(now)
			b.match(b.hearMore(now))
		case <-timer.C:
			now := b.now()
			b.ring(now)
			b.match(now)
		}
	}
}

// hearMore takes what has come in meanwhile before matching, so that a burst is matched once, and gives when it heard the
// last: a job that is due from now on must not meet a now that is older.
func (b *brain) hearMore(now time.Time) time.Time {
	for range 64 {
		select {
		case hear := <-b.inbox:
			now = b.now()
			hear(now)
		default:
			return now
		}
	}
	return now
}

func (b *brain) untilAlarm(now time.Time) time.Duration {
	next := now.Add(time.Minute)
	if len(b.alarms) > 0 && b.alarms[0].at.Before(next) {
		next = b.alarms[0].at
	}
	return max(next.Sub(now), 0)
}

func (b *brain) ring(now time.Time) {
	for len(b.alarms) > 0 && !b.alarms[0].at.After(now) {
		heap.Pop(&b.alarms).(alarm).do(now)
	}
}

// tell hands f to the loop, and drops it when the loop has ended.
func (b *brain) tell(f func(now time.Time)) {
	select {
	case b.inbox <- f:
	case <-b.over:
	}
}

// ask runs f in the loop and waits for it; false when the loop has ended.
func (b *brain) ask(f func(now time.Time)) bool {
	done := make(chan struct{})
	b.tell(func(now time.Time) {
		f(now)
		close(done)
	})
	select {
	case <-done:
		return true
	case <-b.over:
		return false
	}
}

// walking gives what runs the wire side of a decision on its own goroutine.
func (b *brain) walking(ctx context.Context) func(func(context.Context)) {
	return func(f func(context.Context)) {
		b.enter()
		b.d.walks.Go(func() {
			defer b.exit()
			f(ctx)
		})
	}
}

func (b *brain) enter() { b.inHand.Add(1) }

func (b *brain) exit() {
	b.inHand.Add(-1)
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// ready waits until all that stands in NATS has been heard.
func (b *brain) ready(ctx context.Context) error {
	select {
	case <-b.allSynced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// headStart is how long a slot must have been free before a dispatcher that is not its host's home may use it: a
// few round trips of an offer, so that on a busy machine, where news is late, the home's own offer comes first.
func (b *brain) headStart() time.Duration { return min(max(handOver, 4*b.roundTrip), handTime) }

// quiet is how long the agent of a host may keep a slot that this dispatcher took from the others: while they leave a
// freed one to its home, which is here, they need not know.
func (b *brain) quiet(host string) time.Duration {
	if h := b.hosts[host]; h == nil || !h.home {
		return 0
	}
	return b.headStart() / 2
}

// offerTook learns how long an offer takes, from the last dozen or so.
func (b *brain) offerTook(d time.Duration) { b.roundTrip += (d - b.roundTrip) / 8 }
