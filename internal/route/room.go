package route

import (
	"math"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// AgeStep is the step of ageing: a lane counts as one priority higher, up to 9, for every AgeStep that it has had
// jobs of which none was chosen; when one is, it counts as its own priority again. So a low priority is slow, but
// never starved: whatever comes before it, a lane is served at the latest when it stands among the highest, where
// lanes take turns. Lanes age, and not jobs, since the jobs of a flood, which all grow old, must not come before
// the fresh jobs of others.
const AgeStep = 5 * time.Minute

// Ticket stands for a parked job.
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
}

// Want is the ticket as far as choosing a host is concerned.
func (t *Ticket) Want() Want {
	return Want{
		Hash: t.Hash, Tenant: t.Tenant, Priority: t.Priority, Size: t.Size,
		Wishes: t.Wishes, AvoidUntil: t.AvoidUntil, NotBefore: t.NotBefore,
	}
}

// Room is the waiting room: tickets, in an order.
//
// The order of docs/routing.md: priority, with age (see AgeStep); then lanes by the GPU-seconds they have used and are
// using, per weight, least first; then jobs that fewest hosts are capable of; then first come. It is deficit round
// robin seen from the other side: the lane that lags furthest behind its share is served. Use decays with
// ShareHalfLife, and a lane that was empty starts level with the others.
//
// It is not safe for concurrent use, and belongs to one Fleet. Make it with NewRoom.
type Room struct {
	// Age replaces AgeStep when it is more than 0. Set it before the first Put.
	Age time.Duration

	records  records
	classes  map[classKey]*class
	groups   map[workflow.Hash]*group
	wishes   map[string]*wishes
	unplaced []*group // made since the last decision

	pools   map[uint64]*pool
	wide    []*pool
	narrow  [][]*pool // by host
	timers  timers
	overdue []timer // expired, and not told by Expired yet

	lanes     map[laneKey]*lane
	ceilings  map[Tenant]int // of tenants that have one of their own
	usual     int            // ceiling of the others
	newcomers []*lane        // were empty, and have tickets since the last decision
	sweepAt   int
	virtual   [priorities]float64 // rank of the lane that was served last
	epoch     int64               // of the unit of shares
	now       int64               // of the last decision
	again     int64               // when a wait for a warm host ends; 0 = none

	fleet    *Fleet
	version  uint64
	frontier []int
	roomy    set // hosts with room for a job
}

// NewRoom returns an empty room.
func NewRoom() *Room {
	return &Room{
		records: newRecords(),
		classes: map[classKey]*class{}, groups: map[workflow.Hash]*group{}, wishes: map[string]*wishes{},
		pools: map[uint64]*pool{}, lanes: map[laneKey]*lane{}, ceilings: map[Tenant]int{}, usual: priorities - 1, sweepAt: 1024,
	}
}

func (r *Room) ageStep() time.Duration {
	if r.Age > 0 {
		return r.Age
	}
	return AgeStep
}

// Put takes a ticket in, in place of a former one of its sequence, unless that has a higher revision. Call Pick
// after it.
func (r *Room) Put(t Ticket) {
	if i := r.records.find(t.Sequence); i >= 0 {
		if r.records.at(i).revision > t.Revision {
			return
		}
		r.take(i)
	}
	c := r.classOf(&t)
	c.members++
	c.lane.members++
	i := r.records.add(t.Sequence, c, t.Job)
	x := r.records.at(i)
	x.revision, x.received, x.attempt = t.Revision, nanos(t.Received), int32(min(t.Attempt, math.MaxInt32))
	if !t.NotBefore.IsZero() || !t.Expires.IsZero() {
		x.times = &times{nanos(t.NotBefore), nanos(t.Expires)}
		r.timers.add(x.times.notBefore, t.Sequence, timeDue)
		r.timers.add(x.times.expires, t.Sequence, timeExpires)
	}
	r.timers.add(c.avoidUntil, t.Sequence, timeAvoid)
	if r.waits(x) {
		r.enter(i)
	}
}

// waits reports whether a record is due and not expired.
func (r *Room) waits(x *record) bool {
	return x.times == nil || x.times.notBefore <= r.now && (x.times.expires == 0 || x.times.expires > r.now)
}

// Remove takes a ticket out and reports whether it was there.
func (r *Room) Remove(sequence uint64) bool {
	i := r.records.find(sequence)
	if i < 0 {
		return false
	}
	r.take(i)
	return true
}

func (r *Room) take(i int32) {
	r.leave(i)
	x := r.records.at(i)
	c := x.class
	if x.times != nil || c.avoidUntil != 0 {
		r.timers.stale(&r.records)
	}
	r.records.remove(i)
	c.lane.members--
	if c.members--; c.members == 0 {
		r.discard(c)
	}
	if r.records.n == 0 {
		r.release()
	}
}

// chunksKept is how many chunks of records an empty room keeps: filling a short line again costs nothing.
const chunksKept = 64

// release gives back what a long line took: chunks and maps do not shrink by themselves.
func (r *Room) release() {
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

// Alike is the same of tickets that differ in nothing by which Hold judges, but for NotBefore.
type Alike struct{ class *class }

// Some is Each in small portions, so that others have their turn in between: it looks at the next places, visits the
// tickets there and returns where to go on; -1 at the end. A ticket that was there throughout is visited once from 0
// to the end, whatever came and went meanwhile. visit must not keep the ticket: the next one takes its place.
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
		Attempt: int(x.attempt), Received: moment(x.received),
	}
	if x.times != nil {
		t.NotBefore, t.Expires = moment(x.times.notBefore), moment(x.times.expires)
	}
	return t
}
