package dispatcher

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// A ticket is kept in memory by every dispatcher, so there are only so many: the waiting cap, of which each tenant has its
// part (route.Part). The jobs of a tenant that has as many tickets as it may rest in the stream without one. They do
// not hold up the jobs of other tenants: all are taken from the stream as they come, and the consumer of a priority,
// which all tenants share, has no limit of deliveries under way. A job that finds a host at once needs no ticket.
//
// A resting job costs its delivery, which NATS has to remember, and nothing else. It comes back
//   - when its tenant has room: the dispatcher that let it rest remembers it, and calls the oldest of each lane first;
//   - once a second while a slot is free that no ticket can use, so that a job that could run does not rest behind
//     others that cannot;
//   - when it becomes due, when its expires_in is over, or when its rest is over. NATS does that by itself: when the
//     dispatcher that let it rest dies, it comes back later, and nothing else is lost.
//
// When it comes back it is routed like any delivery whose chain says that it waits.

const (
	callPause = 100 * time.Millisecond // between two looks at who has room
	callMost  = 128                    // that are called back at a look
	callTime  = 10 * time.Second       // how long one that was called counts as on its way
	tryPause  = time.Second            // between two looks at slots that no ticket can use
	tryMost   = 32                     // of a tenant that are called for such slots
	wantsTime = 50 * time.Millisecond  // how long a count of what tenants want is used
)

// ticketing decides which jobs that have to wait get a ticket, and calls those back that got none when there is room.
type ticketing struct {
	resting
	room *route.Room
	hand *hand
	most int                      // tickets of all tenants
	call func(list []*restingJob) // has NATS deliver jobs again at once

	writing map[job.Tenant]int // tickets that are being written
	called  map[job.Tenant]map[uint64]time.Time
	wanted  map[route.Tenant]int // tickets that each tenant has or wants, as last counted
	wants   []int                // the same numbers, the smallest first
	counted time.Time
	tries   time.Time // when jobs are called for free slots again
}

func newTicketing(a ticketing) *ticketing {
	a.resting, a.writing, a.called = newResting(), map[job.Tenant]int{}, map[job.Tenant]map[uint64]time.Time{}
	return &a
}

// admit says whether a job that has to wait gets a ticket, whose writing counts until written; otherwise it is to rest.
func (a *ticketing) admit(o *owned, now time.Time) bool {
	lane, due := o.lane(), !now.Before(o.notBefore)
	if a.roomFor(lane, due, now) <= 0 || due && a.before(lane, o.job.Sequence) {
		return false
	}
	a.write(lane.Tenant)
	return true
}

// write takes in that a ticket is being written.
func (a *ticketing) write(tenant job.Tenant) { a.writing[tenant]++ }

// written takes in that a ticket that was to be written was, or will not be.
func (a *ticketing) written(tenant job.Tenant) {
	if a.writing[tenant]--; a.writing[tenant] <= 0 {
		delete(a.writing, tenant)
	}
}

// roomFor is how many more tickets jobs of a lane may have.
func (a *ticketing) roomFor(lane job.Lane, due bool, now time.Time) int {
	s := a.countsOf(lane.Tenant, now)
	return s.room(lane.Priority, due)
}

// ticketCounts is how many tickets a tenant has, also those that are being written, how many of them are not due, and how many it
// may have (part).
type ticketCounts struct{ all, notDue, part int }

func (a *ticketing) countsOf(tenant job.Tenant, now time.Time) ticketCounts {
	all, notDue := a.room.Waiting(route.Tenant(tenant))
	return ticketCounts{
		all: all - a.hand.tenants[tenant] + a.writing[tenant], notDue: notDue + a.writing[tenant], part: a.part(route.Tenant(tenant), now),
	}
}

// room is how many more tickets there may be for jobs of a priority. The limit rises with the priority, from the tenant's part to 1.9
// parts, so that a tenant whose part is used up can still get tickets for more urgent jobs. Those that are not due have half of
// the limit, since they cannot run yet.
func (s ticketCounts) room(p job.Priority, due bool) int {
	most := s.part * (10 + int(p)) / 10
	if !due {
		return min(most-s.all, max(most/2, 1)-s.notDue)
	}
	return most - s.all
}

// part is how many tickets a tenant may have.
func (a *ticketing) part(tenant route.Tenant, now time.Time) int {
	if a.wanted == nil || now.Sub(a.counted) >= wantsTime || now.Before(a.counted) {
		a.counted, a.wanted = now, a.room.Tenants()
		for t, n := range a.tenants {
			a.wanted[route.Tenant(t)] += n
		}
		a.wants = slices.Sorted(maps.Values(a.wanted))
	}
	own, wants := a.wanted[tenant]
	if !wants {
		own = -1
	}
	return route.Part(a.most, a.wants, own)
}

// arrived takes in that a job was delivered: it does not rest any more.
func (a *ticketing) arrived(o *owned) {
	a.remove(o.job.Sequence)
	a.came(o.job.Tenant, o.job.Sequence)
}

// came takes in that a job that was called back has come.
func (a *ticketing) came(tenant job.Tenant, sequence uint64) {
	if delete(a.called[tenant], sequence); len(a.called[tenant]) == 0 {
		delete(a.called, tenant)
	}
}

// callBack calls resting jobs whose tenants have room, and some for slots that no ticket can use.
func (a *ticketing) callBack(vacant int, now time.Time) {
	if len(a.bySequence) == 0 {
		return
	}
	a.expectNoMore(now)
	left, tenants := callMost, a.shuffledTenants()
	for i, tenant := range tenants {
		most, has := (left+len(tenants)-i-1)/(len(tenants)-i), a.countsOf(tenant, now)
		list := a.due(tenant, func(p job.Priority, given int) int {
			return min(has.room(p, true)-len(a.called[tenant]), most) - given
		})
		a.callThese(tenant, list, now)
		left -= len(list)
	}
	if vacant > 0 && !now.Before(a.tries) {
		a.tries = now.Add(tryPause)
		for _, tenant := range tenants {
			a.callThese(tenant, a.next(tenant, tryMost), now)
		}
	}
}

// shuffledTenants gives the tenants whose jobs rest, each time in another order.
func (a *ticketing) shuffledTenants() []job.Tenant {
	list := slices.Collect(maps.Keys(a.tenants))
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	return list
}

// expectNoMore forgets called jobs that have not come: another dispatcher has got them, or their call was lost.
func (a *ticketing) expectNoMore(now time.Time) {
	for tenant, called := range a.called {
		for sequence, at := range called {
			if now.Sub(at) >= callTime {
				a.came(tenant, sequence)
			}
		}
	}
}

func (a *ticketing) callThese(tenant job.Tenant, list []*restingJob, now time.Time) {
	if len(list) == 0 {
		return
	}
	called := a.called[tenant]
	if called == nil {
		called = map[uint64]time.Time{}
		a.called[tenant] = called
	}
	for _, x := range list {
		a.remove(x.sequence)
		called[x.sequence] = now
	}
	a.call(list)
}

// rests reports whether a job that waits has no ticket, since its tenant has as many as it may.
func (a *ticketing) rests(o *owned, now time.Time) bool {
	if a.bySequence[o.job.Sequence] != nil {
		return true
	}
	_, waits := a.room.ByJob(route.Tenant(o.job.Tenant), route.JobID(o.job.ID))
	return o.job.Sequence != 0 && !waits && a.roomFor(o.lane(), !now.Before(o.notBefore), now) <= 0
}

func (a *ticketing) restText(o *owned) string {
	all, _ := a.room.Waiting(route.Tenant(o.job.Tenant))
	return fmt.Sprintf("it rests in the stream: tenant %s has %d jobs in the waiting room, as many as it may now, and this one follows when there is room",
		o.job.Tenant, all)
}

// callBack has NATS deliver resting jobs at once.
func (d *Dispatcher) callBack(list []*restingJob) {
	for _, x := range list {
		d.giveBack(x.lease)
	}
}
