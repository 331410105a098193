package dispatcher

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

type ticketingScene struct {
	*ticketing
	called []uint64
}

// newTicketingScene has room for so many tickets.
func newTicketingScene(most int) *ticketingScene {
	s, room := &ticketingScene{}, route.NewRoom()
	s.ticketing = newTicketing(ticketing{
		room: room, hand: newHand(room, newBackpressure()), most: most,
		call: func(list []*restingJob) {
			for _, x := range list {
				s.called = append(s.called, x.sequence)
			}
		},
	})
	return s
}

// rest lets a job of a lane rest.
func (s *ticketingScene) rest(tenant job.Tenant, p job.Priority, sequence uint64) {
	s.add(&restingJob{
		lane: job.Lane{Tenant: tenant, Priority: p}, id: job.ID(fmt.Sprint(tenant, "-", sequence)), sequence: sequence, due: true,
		until: noonUTC.Add(time.Hour),
	})
}

func TestATenantGetsTicketsUntilItsPartIsFull(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(2) // of which priority 5 has one and a half
	same(t, "room", s.roomFor(job.Lane{Tenant: "acme", Priority: 5}, true, noonUTC), 3)
	for n := range uint64(3) {
		same(t, "admitted", s.admit(ownedJob(t, "acme", n+1, 1), noonUTC), true)
	}
	same(t, "one more", s.admit(ownedJob(t, "acme", 4, 1), noonUTC), false)
	s.written("acme")
	same(t, "when one of them was not written", s.admit(ownedJob(t, "acme", 4, 1), noonUTC), true)
	for range 4 {
		s.written("acme")
	}
	same(t, "counts", len(s.writing), 0)
}

func TestAJobGetsNoTicketBeforeOneThatRests(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(100)
	s.rest("acme", job.Usual, 5)
	same(t, "a younger one", s.admit(ownedJob(t, "acme", 6, 1), noonUTC), false)
	same(t, "an older one", s.admit(ownedJob(t, "acme", 4, 1), noonUTC), true)
	same(t, "another tenant's", s.admit(ownedJob(t, "bolt", 6, 1), noonUTC), true)
	notDue := ownedJob(t, "acme", 7, 1)
	notDue.notBefore = noonUTC.Add(time.Minute)
	same(t, "one that is not due", s.admit(notDue, noonUTC), true)
}

func TestJobsInHandNeedNoTicket(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(2)
	lane := job.Lane{Tenant: "acme", Priority: 5}
	o := ownedJob(t, "acme", 1, 1)
	s.hand.add(o, noonUTC)
	same(t, "in hand", s.roomFor(lane, true, noonUTC.Add(time.Second)), 3)
	s.room.Put(ticketOf(ownedJob(t, "acme", 2, 1), 1))
	same(t, "with a ticket", s.roomFor(lane, true, noonUTC.Add(2*time.Second)), 2)
}

func TestRestingJobsAreCalledWhenTheirTenantHasRoom(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(2)
	s.rest("acme", 5, 7)
	s.rest("acme", 5, 6)
	s.rest("acme", 9, 8)
	s.rest("acme", 0, 5)
	s.callBack(0, noonUTC)
	same(t, "the highest priority first, then the oldest", s.called, []uint64{8, 6, 7}) // 3 for priority 9 and 5, 2 for 0
	s.callBack(0, noonUTC)
	same(t, "what was called is on its way", len(s.called), 3)
	s.arrived(ownedJob(t, "acme", 6, 1))
	s.arrived(ownedJob(t, "acme", 7, 1))
	s.callBack(0, noonUTC)
	same(t, "when two have come", s.called[3:], []uint64{5})
}

func TestACalledJobThatDoesNotComeIsAnothersAfterTenSeconds(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(1)
	for sequence := range uint64(3) {
		s.rest("acme", 0, sequence+1)
	}
	s.callBack(0, noonUTC)
	s.callBack(0, noonUTC.Add(9999*time.Millisecond))
	same(t, "before", s.called, []uint64{1})
	s.callBack(0, noonUTC.Add(10*time.Second))
	same(t, "after", s.called, []uint64{1, 2})
}

func TestAFreeSlotCallsJobsBeyondTheirTenantsPartOnceASecond(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(1)
	s.room.Put(ticketOf(ownedJob(t, "acme", 100, 1), 1))
	s.room.Put(ticketOf(ownedJob(t, "acme", 101, 1), 1))
	for n := range uint64(40) {
		s.rest("acme", 5, n+1)
	}
	s.callBack(0, noonUTC)
	same(t, "no slot is free", len(s.called), 0)
	s.callBack(1, noonUTC)
	same(t, "one is", len(s.called), 32)
	s.callBack(1, noonUTC.Add(999*time.Millisecond))
	same(t, "within the second", len(s.called), 32)
	s.callBack(1, noonUTC.Add(time.Second))
	same(t, "then those behind them", s.called[32:], []uint64{33, 34, 35, 36, 37, 38, 39, 40})
}

func TestWhichJobsRest(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(1)
	o := ownedJob(t, "acme", 3, 1)
	same(t, "one that may have a ticket", s.rests(o, noonUTC), false)
	s.rest("acme", 5, 3)
	same(t, "one that is known to rest", s.rests(o, noonUTC), true)
	s.remove(3)
	s.room.Put(ticketOf(ownedJob(t, "acme", 1, 1), 1))
	s.room.Put(ticketOf(ownedJob(t, "acme", 2, 1), 1))
	same(t, "one that may have none", s.rests(o, noonUTC.Add(time.Second)), true)
	same(t, "one with a ticket", s.rests(ownedJob(t, "acme", 2, 1), noonUTC.Add(time.Second)), false)
	same(t, "text", s.restText(o), "it rests in the stream: tenant acme has 2 jobs in the waiting room, as many as it may now, and this one follows when there is room")
}

func TestJobsThatAreStoredNoMoreAreForgotten(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(1)
	s.rest("acme", 5, 1)
	s.rest("acme", 6, 2)
	s.rest("bolt", 5, 3)
	s.forgetGone(map[job.Lane]uint64{{Tenant: "acme", Priority: 6}: 1})
	same(t, "left", []any{len(s.bySequence), len(s.byJob), s.tenants}, []any{1, 1, map[job.Tenant]int{"acme": 1}})
	s.forgetOver(noonUTC.Add(time.Hour - 1))
	same(t, "while it rests", len(s.bySequence), 1)
	s.forgetOver(noonUTC.Add(time.Hour))
	same(t, "when its rest is over", []any{len(s.bySequence), len(s.lanes), len(s.tenants)}, []any{0, 0, 0})
}

// No more are called at a look than NATS can deliver soon, and each tenant has its part of these.
func TestAtALookSoManyJobsAreCalledOfAllTenantsTogether(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(10_000)
	for n := range uint64(600) {
		s.rest(job.Tenant(fmt.Sprint("tenant-", n%3)), 5, n+1)
	}
	called := map[job.Tenant]int{}
	s.call = func(list []*restingJob) { called[list[0].lane.Tenant] += len(list) }
	s.callBack(0, noonUTC)
	counts := slices.Sorted(maps.Values(called))
	same(t, "called", counts, []int{42, 43, 43}) // 128
}

// Jobs that rest want tickets as well: another tenant gets no more because of that.
func TestJobsThatRestCountInTheParts(t *testing.T) {
	t.Parallel()
	s := newTicketingScene(40)
	lane := job.Lane{Tenant: "acme", Priority: 0}
	for n := range uint64(4) {
		s.room.Put(ticketOf(ownedJob(t, "acme", n+1, 1), 1))
	}
	same(t, "alone", s.roomFor(lane, true, noonUTC), 36)
	for n := range uint64(40) {
		s.rest("bolt", 5, 100+n)
	}
	same(t, "within the time for which a count is used", s.roomFor(lane, true, noonUTC.Add(wantsTime-1)), 36)
	same(t, "beside many that rest", s.roomFor(lane, true, noonUTC.Add(wantsTime)), 16)
	s.forgetOver(noonUTC.Add(time.Hour))
	same(t, "alone again, by a clock that was set back", s.roomFor(lane, true, noonUTC), 36)
}

// Half of a part is for jobs that are not due, and one ticket at least.
func TestJobsThatAreNotDueHaveHalfOfAPart(t *testing.T) {
	t.Parallel()
	lane := job.Lane{Tenant: "acme", Priority: 0}
	s := newTicketingScene(40)
	for n := range uint64(5) {
		o := ownedJob(t, "acme", n+1, 1)
		if n < 3 {
			o.notBefore = noonUTC.Add(time.Hour)
		}
		s.room.Put(ticketOf(o, 1))
	}
	same(t, "not due, and due", []int{s.roomFor(lane, false, noonUTC), s.roomFor(lane, true, noonUTC)}, []int{17, 35})
	s.write("acme")
	same(t, "while one more is written", []int{s.roomFor(lane, false, noonUTC), s.roomFor(lane, true, noonUTC)}, []int{16, 34})
	small := newTicketingScene(1)
	same(t, "of one", small.roomFor(lane, false, noonUTC), 1)
	later := ownedJob(t, "acme", 9, 1)
	later.notBefore = noonUTC.Add(time.Hour)
	for range 26 { // of priority 5, 30 may be not due
		s.write("acme")
	}
	same(t, "rests", []bool{s.rests(later, noonUTC), s.rests(ownedJob(t, "acme", 8, 1), noonUTC)}, []bool{true, false})
	later.job.Sequence = 0
	same(t, "a workflow that was not published does not", s.rests(later, noonUTC), false)
}
