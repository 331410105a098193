package route

import (
	"math"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// AgeStep is the step of ageing: a lane counts as one priority higher, up to 9, for every AgeStep in which it had jobs
// and none of them was chosen. When one is chosen, the lane counts as its own priority again. So a lane of low priority
// waits longer, but not for ever: at the latest it is served once it counts as 9, where lanes take turns. Lanes age and
// jobs do not: all the jobs of a flood get old, and must not come before new jobs of other tenants.
const AgeStep = 5 * time.Minute

// Ticket stands for a waiting job: what its turn and its host depend on. It differs from queue.Ticket, which is stored, by having no
// lease, so a job in hand has one too. The room keeps it as a record.
type Ticket struct {
	Sequence uint64 // in COMFY_JOBS; names the ticket
	Revision uint64 // of its key
	Priority int
	Tenant   Tenant
	Job      JobID
	Hash     workflow.Hash
	Size     int64
	Wishes
	AvoidUntil time.Time
	Attempt    int
	NotBefore  time.Time // zero = at once
	Expires    time.Time // zero = never
	Received   time.Time
	Rank       int // how many other dispatchers are to claim it before this one (Rank)
}

// Want is the ticket as far as choosing a host is concerned.
func (t *Ticket) Want() Want {
	return Want{
		Hash: t.Hash, Tenant: t.Tenant, Priority: t.Priority, Size: t.Size,
		Wishes: t.Wishes, AvoidUntil: t.AvoidUntil, NotBefore: t.NotBefore,
	}
}

// RankStep is by how much a ticket counts as newer for each dispatcher that is to claim it first. Dispatchers that share a
// waiting room so go through a lane in different orders, and seldom claim one ticket at the same time; and a ticket that one of
// them leaves for long is claimed by another.
const RankStep = 100 * time.Millisecond

// Room is the waiting room: tickets, and the order in which they run.
//
// The order of docs/routing.md: priority, with age (see AgeStep); then lanes by the GPU-seconds they have used and are
// using, per weight, least first; then jobs that fewest hosts are capable of; then first come, apart from RankStep. It is deficit round
// robin: the lane that is furthest behind its share is served first. What was used counts half after ShareHalfLife, and
// a lane that was empty starts level with the others.
//
// It is not safe for concurrent use, and belongs to one Fleet. Make it with NewRoom.
type Room struct {
	// Age replaces AgeStep when it is more than 0. Set it before the first Put.
	Age time.Duration
	// Slice is how much Next, Pick and the like do at most before they decide, counted in workflows that are put in order again;
	// 0 = all that is to be done. What is left is done when they are called again, see Unfinished.
	Slice int

	records  records
	classes  map[classKey]*class
	groups   map[workflow.Hash]*group
	wishes   map[string]*wishes
	unplaced []*group // made since the last decision

	list    []*group // all
	placeAt int      // place in list: the groups from there on were placed since the hosts that can run some workflow have changed

	pools   map[poolKey]*pool
	all     []*pool
	wide    []*pool
	narrow  [][]*pool // by host
	version uint64    // Fleet.version that all of them follow from; less when some do not yet
	around  int       // place in all of the pool that is refreshed next
	timers  timers
	overdue []timer // expired, and not yet returned by Expired

	lanes     map[laneKey]*lane
	ceilings  map[Tenant]int // of tenants that have one of their own
	usual     int            // ceiling of the others
	newcomers []*lane        // were empty, and have got tickets since the last decision
	toRelane  int            // places where tickets may be in another lane than they count as
	relaneAt  int            // the first of them
	forgetAt  int
	virtual   [priorities]float64 // rank of the lane that was served last
	epoch     int64               // of the unit of shares
	now       int64               // of the last decision
	again     int64               // when a wait for a warm host ends; 0 = none

	fleet      *Fleet
	renewed    uint64 // Fleet.renewed when all groups were last to be placed again
	unfinished bool   // see Unfinished
	frontier   []int
	passed     []*class // of the search under way: hosts are blocked for them
	roomy      set      // hosts with room for a job
	assignable set      // of roomy the hosts at home here, when the others are left to their homes
}

// NewRoom returns an empty room.
func NewRoom() *Room {
	return &Room{
		records: newRecords(),
		classes: map[classKey]*class{}, groups: map[workflow.Hash]*group{}, wishes: map[string]*wishes{},
		pools: map[poolKey]*pool{}, lanes: map[laneKey]*lane{}, ceilings: map[Tenant]int{}, usual: priorities - 1, forgetAt: 1024,
	}
}

func (r *Room) ageStep() time.Duration {
	if r.Age > 0 {
		return r.Age
	}
	return AgeStep
}

// Put adds a ticket. It replaces the one with the same sequence, unless that has a higher revision. Call Pick after it.
func (r *Room) Put(t Ticket) {
	old := r.records.find(t.Sequence)
	if old >= 0 && r.records.at(old).revision > t.Revision {
		return
	}
	c := r.classOf(&t)
	c.members++
	c.lane.members++
	before := r.moments(old)
	if old >= 0 {
		r.removeRecord(old) // now, so that a class or group which both are of is kept
	}
	i := r.records.add(t.Sequence, c, t.Job)
	x := r.records.at(i)
	x.revision, x.received, x.attempt, x.rank = t.Revision, nanos(t.Received), int32(min(t.Attempt, math.MaxInt32)), int32(t.Rank)
	if !t.NotBefore.IsZero() || !t.Expires.IsZero() {
		x.times = &times{nanos(t.NotBefore), nanos(t.Expires)}
	}
	for kind, at := range r.moments(i) {
		if at != before[kind] { // otherwise the timer of the ticket that it replaces is kept
			r.timers.add(at, t.Sequence, timerKind(kind))
		}
	}
	c.lane.publishedWith(c.published).n++
	if r.due(x) {
		r.enqueue(i)
	} else {
		r.later(i).add(t.Sequence)
	}
}

// due reports whether a record is due and not expired.
func (r *Room) due(x *record) bool {
	return x.times == nil || x.times.notBefore <= r.now && (x.times.expires == 0 || x.times.expires > r.now)
}

// Remove removes a ticket and reports whether it was there.
func (r *Room) Remove(sequence uint64) bool {
	i := r.records.find(sequence)
	if i < 0 {
		return false
	}
	if r.removeRecord(i); r.records.n == 0 {
		r.shrink()
	}
	return true
}

func (r *Room) removeRecord(i int32) {
	x := r.records.at(i)
	c := x.class
	if x.at >= 0 {
		r.dequeue(i)
	} else {
		r.later(i).remove(x.sequence)
	}
	c.lane.publishedWith(c.published).n--
	if x.times != nil || c.avoidUntil != 0 {
		r.timers.stale(&r.records)
	}
	r.records.remove(i)
	c.lane.members--
	if c.members--; c.members == 0 {
		r.discard(c)
	}
}

// chunksKept is how many chunks of records an empty room keeps, so that a short queue is filled again without allocating.
const chunksKept = 64

// shrink frees the memory of a long queue: chunks and maps do not shrink by themselves. No class may be left.
func (r *Room) shrink() {
	if len(r.records.chunks) <= chunksKept {
		return
	}
	r.records = newRecords()
	r.classes, r.groups, r.wishes = map[classKey]*class{}, map[workflow.Hash]*group{}, map[string]*wishes{}
}

// Get returns a ticket. Its lists belong to the room.
func (r *Room) Get(sequence uint64) (Ticket, bool) {
	if i := r.records.find(sequence); i >= 0 {
		return r.ticket(i), true
	}
	return Ticket{}, false
}

// ByJob returns a job's ticket.
func (r *Room) ByJob(tenant Tenant, job JobID) (Ticket, bool) {
	if i := r.records.findJob(tenant, job); i >= 0 {
		return r.ticket(i), true
	}
	return Ticket{}, false
}

// Each calls visit for every ticket, in no order; visit must not change the room, nor keep the ticket.
func (r *Room) Each(visit func(t *Ticket)) {
	for at := 0; at >= 0; {
		at = r.Some(at, chunk, func(t *Ticket, _ Alike) { visit(t) })
	}
}

// Alike is equal for tickets that Hold judges alike, except for their NotBefore.
type Alike struct{ class *class }

// Some is Each in small steps, so that the caller can do other work in between. It visits the tickets in the given number
// of places from at on, and returns where to go on, or -1 at the end. A ticket that was there from the first step to the
// last is visited exactly once, whatever was added or removed meanwhile. visit must not keep the ticket, which is
// overwritten by the next one.
func (r *Room) Some(at, places int, visit func(t *Ticket, like Alike)) (next int) {
	all := len(r.records.chunks) * chunk
	var t Ticket // one for all, since visit has it on the heap
	for end := min(at+places, all); at < end; at++ {
		if x := r.records.at(int32(at)); x.class != nil {
			t = x.ticket()
			visit(&t, Alike{x.class})
		}
	}
	if at >= all {
		return -1
	}
	return at
}

// Rerank gives the tickets in a number of places from at on the ranks that rank says, and returns where to go on, or -1 at the
// end.
func (r *Room) Rerank(at, places int, rank func(job JobID) int) (next int) {
	all := r.Places()
	for end := min(at+places, all); at < end; at++ {
		if x := r.records.at(int32(at)); x.class != nil {
			r.setRank(int32(at), int32(rank(x.job)))
		}
	}
	if at >= all {
		return -1
	}
	return at
}

func (r *Room) setRank(i, rank int32) {
	x := r.records.at(i)
	if x.rank == rank {
		return
	}
	x.rank = rank
	if x.at < 0 {
		return
	}
	c := x.class
	head := c.waiting[0]
	heapFix(c.waiting, int(x.at), byArrival{&r.records})
	r.headChanged(c, head == i || c.waiting[0] != head)
}

// Places is how many places Some goes through.
func (r *Room) Places() int { return len(r.records.chunks) * chunk }

// Len is how many tickets wait.
func (r *Room) Len() int { return r.records.n }

func (r *Room) ticket(i int32) Ticket { return r.records.at(i).ticket() }

func (x *record) ticket() Ticket {
	c := x.class
	t := Ticket{
		Sequence: x.sequence, Revision: x.revision, Priority: c.published, Tenant: c.lane.tenant, Job: x.job,
		Hash: c.group.hash, Size: c.size, Wishes: c.group.wishes.Wishes, AvoidUntil: moment(c.avoidUntil),
		Attempt: int(x.attempt), Received: moment(x.received), Rank: int(x.rank),
	}
	if x.times != nil {
		t.NotBefore, t.Expires = moment(x.times.notBefore), moment(x.times.expires)
	}
	return t
}
