package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A ticket is kept in memory by every dispatcher, so there are only so many: the waiting cap, of which each tenant has its
// part (route.Part). The jobs of a tenant that has as many tickets as it may rest in the stream without one. That keeps
// nobody else's jobs: all are taken from the stream as they come, and the consumer of a priority, which all tenants
// share, has no limit of deliveries under way. A job that finds a host at once needs no ticket, whoever's it is.
//
// A resting job costs its delivery, which NATS has to remember, and nothing else. It comes back
//   - when its tenant has room: the dispatcher that let it rest remembers it, and calls the oldest of each lane first;
//   - now and then when a slot is free that no ticket can use, so that a job that could run does not rest behind such
//     that cannot;
//   - when it becomes due, when its time is over, or when its rest is: this needs nobody to remember it, so that a
//     dispatcher that dies leaves nothing behind but later returns.
//
// When it comes back it is routed like any delivery whose chain says that it waits.

const (
	callPause = 100 * time.Millisecond // between two looks at who has room
	callMost  = 128                    // that are called back at a look
	callTime  = 10 * time.Second       // how long one that was called counts as on its way
	tryPause  = time.Second            // between two looks at slots that no ticket can use
	tryMost   = 32                     // of a tenant that are called for such slots
	partTime  = 50 * time.Millisecond  // how long what the tenants want is taken to be the same
)

// admission decides who gets a ticket; the brain's loop owns it.
type admission struct {
	resting
	writing map[job.Tenant]int // tickets that are being written
	called  map[job.Tenant]map[uint64]time.Time
	inHand  map[job.Tenant]int   // jobs in hand, which count among those that wait and have no ticket
	wanted  map[route.Tenant]int // tickets that each tenant has or wants, a moment ago
	wants   []int                // the same numbers, the smallest first
	counted time.Time
	tries   time.Time // when jobs are called for free slots again
}

func newAdmission() admission {
	return admission{resting: newResting(), writing: map[job.Tenant]int{}, inHand: map[job.Tenant]int{}, called: map[job.Tenant]map[uint64]time.Time{}}
}

// admit says whether a job that has to wait gets a ticket, whose writing the caller tells with admitted; otherwise it is
// to rest. A dispatcher that stops says yes, since it can remember nothing any more.
func (b *brain) admit(o *owned) bool {
	yes := true
	b.ask(func(now time.Time) {
		a, lane := &b.admission, job.Lane{Tenant: o.job.Tenant, Priority: o.job.Priority}
		due := !now.Before(o.notBefore)
		yes = b.closing || b.roomFor(lane, due, now) > 0 && (!due || !a.before(lane, o.job.Sequence))
		if yes {
			a.writing[lane.Tenant]++
		}
	})
	return yes
}

// admitted is told when the ticket of an admitted job stands, or will not.
func (b *brain) admitted(tenant job.Tenant) {
	b.tell(func(time.Time) {
		if b.admission.writing[tenant]--; b.admission.writing[tenant] <= 0 {
			delete(b.admission.writing, tenant)
		}
	})
}

// roomFor is how many more tickets jobs of a lane may have.
func (b *brain) roomFor(lane job.Lane, due bool, now time.Time) int {
	s := b.shareOf(lane.Tenant, now)
	return s.room(lane.Priority, due)
}

// share is what a tenant has of the waiting room, and may have.
type share struct{ all, notDue, part int }

func (b *brain) shareOf(tenant job.Tenant, now time.Time) share {
	a := &b.admission
	all, notDue := b.waiting.Waiting(route.Tenant(tenant))
	return share{
		all: all - a.inHand[tenant] + a.writing[tenant], notDue: notDue + a.writing[tenant], part: b.part(route.Tenant(tenant), now),
	}
}

// room is how many more tickets there may be. Those of a priority stop at (10+priority)/10 of the tenant's part, so that its
// more important ones are kept last; those that are not due have half of it, since they need nobody's attention yet.
func (s share) room(p job.Priority, due bool) int {
	most := s.part * (10 + int(p)) / 10
	if !due {
		return min(most-s.all, max(most/2, 1)-s.notDue)
	}
	return most - s.all
}

// part is how many tickets a tenant may have.
func (b *brain) part(tenant route.Tenant, now time.Time) int {
	a := &b.admission
	if a.wanted == nil || now.Sub(a.counted) >= partTime || now.Before(a.counted) {
		a.counted, a.wanted = now, b.waiting.Tenants()
		for t, n := range a.tenants {
			a.wanted[route.Tenant(t)] += n
		}
		a.wants = slices.Sorted(maps.Values(a.wanted))
	}
	own, wants := a.wanted[tenant]
	if !wants {
		own = -1
	}
	return route.Part(b.d.cfg.WaitingCap, a.wants, own)
}

// arrived takes in that a job was delivered: it does not rest any more.
func (a *admission) arrived(o *owned) {
	a.remove(o.job.Sequence)
	a.back(o.job.Tenant, o.job.Sequence)
}

// back takes in that a job that was called is on its way no more.
func (a *admission) back(tenant job.Tenant, sequence uint64) {
	if delete(a.called[tenant], sequence); len(a.called[tenant]) == 0 {
		delete(a.called, tenant)
	}
}

// callBack calls resting jobs whose tenants have room, and some for slots that nobody uses.
func (b *brain) callBack(now time.Time) {
	a := &b.admission
	if len(a.bySequence) == 0 || b.closing || !b.isSynced.Load() {
		return
	}
	a.expectNoMore(now)
	left, tenants := callMost, a.tenantsInTurn()
	for i, tenant := range tenants {
		most, has := (left+len(tenants)-i-1)/(len(tenants)-i), b.shareOf(tenant, now)
		list := a.due(tenant, func(p job.Priority, given int) int {
			return min(has.room(p, true)-len(a.called[tenant]), most) - given
		})
		b.call(tenant, list, now)
		left -= len(list)
	}
	if vacant, _ := b.fleet.Slots(); vacant > 0 && !now.Before(a.tries) {
		a.tries = now.Add(tryPause)
		for _, tenant := range tenants {
			b.call(tenant, a.next(tenant, tryMost), now)
		}
	}
}

// tenantsInTurn gives the tenants whose jobs rest, each time in another order.
func (a *admission) tenantsInTurn() []job.Tenant {
	list := make([]job.Tenant, 0, len(a.tenants))
	for tenant := range a.tenants {
		list = append(list, tenant)
	}
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	return list
}

// count takes in that a job was taken into the hand, or out of it.
func (a *admission) count(tenant job.Tenant, by int) {
	if a.inHand[tenant] += by; a.inHand[tenant] == 0 {
		delete(a.inHand, tenant)
	}
}

// expectNoMore forgets called jobs that have not come: another dispatcher has them, or nobody.
func (a *admission) expectNoMore(now time.Time) {
	for tenant, called := range a.called {
		for sequence, at := range called {
			if now.Sub(at) >= callTime {
				a.back(tenant, sequence)
			}
		}
	}
}

// call has NATS deliver jobs again at once.
func (b *brain) call(tenant job.Tenant, list []*rested, now time.Time) {
	if len(list) == 0 {
		return
	}
	called := b.admission.called[tenant]
	if called == nil {
		called = map[uint64]time.Time{}
		b.admission.called[tenant] = called
	}
	for _, x := range list {
		b.admission.remove(x.sequence)
		called[x.sequence] = now
	}
	b.walk(func(context.Context) {
		for _, x := range list {
			b.d.giveBack(x.lease)
		}
	})
}

// letRest has a job that got no ticket rest in the stream: until it is due, until its time is over, or for the long
// delay, which is spread so that a crowd does not come back at one moment.
func (d *Dispatcher) letRest(ctx context.Context, o *owned) {
	now := d.clock()
	rest, due := d.cfg.Park+rand.N(d.cfg.Park), !now.Before(o.notBefore)
	if !due {
		rest = min(rest, o.notBefore.Sub(now))
	}
	if expires := o.job.Expires(); !expires.IsZero() {
		rest = min(rest, max(expires.Sub(now), time.Second))
	}
	if err := d.q.Park(o.lease, rest); err != nil {
		d.leaveToLease(ctx, o, err)
		return
	}
	d.metrics.rested.Inc()
	x := &rested{
		lane: job.Lane{Tenant: o.job.Tenant, Priority: o.job.Priority}, id: o.job.ID, sequence: o.job.Sequence,
		lease: o.lease, due: due, until: now.Add(rest),
	}
	d.brain.tell(func(time.Time) { d.brain.admission.add(x) })
}

// shelve gives a job that has to wait a ticket, or lets it rest.
func (d *Dispatcher) shelve(ctx context.Context, o *owned) {
	if !d.brain.admit(o) {
		d.letRest(ctx, o)
		return
	}
	defer d.brain.admitted(o.job.Tenant)
	ticket := d.ticket(o)
	d.park(ctx, o, &ticket)
}

// rests reports whether a job that waits has no ticket, since its tenant has as many as it may.
func (b *brain) rests(o *owned, now time.Time) bool {
	if b.admission.bySequence[o.job.Sequence] != nil {
		return true
	}
	_, waits := b.waiting.ByJob(route.Tenant(o.job.Tenant), route.JobID(o.job.ID))
	lane := job.Lane{Tenant: o.job.Tenant, Priority: o.job.Priority}
	return o.job.Sequence != 0 && !waits && b.roomFor(lane, !now.Before(o.notBefore), now) <= 0
}

func (b *brain) restText(o *owned) string {
	all, _ := b.waiting.Waiting(route.Tenant(o.job.Tenant))
	return fmt.Sprintf("it rests in the stream: tenant %s has %d jobs in the waiting room, as many as it may now, and this one follows when there is room",
		o.job.Tenant, all)
}
