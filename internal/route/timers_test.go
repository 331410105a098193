package route_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func sequences(list []route.Ticket) []uint64 {
	var found []uint64
	for _, t := range list {
		found = append(found, t.Sequence)
	}
	return found
}

// until is a ticket that expires so many seconds after noon.
func until(sequence uint64, after float64) route.Ticket {
	t := ticket(sequence, "a", 5)
	t.Expires = noon.Add(seconds(after))
	return t
}

// from is a ticket that is due so many seconds after noon.
func from(sequence uint64, after float64) route.Ticket {
	t := ticket(sequence, "a", 5)
	t.NotBefore = noon.Add(seconds(after))
	return t
}

func TestWhatHasExpiredIsListedInOrderAndAgainAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	r := room(until(5, 60), until(1, 60), until(3, 30), until(4, 60), until(2, 3600))
	r.Remove(4)
	later := until(5, 7200)
	later.Revision = 2
	r.Put(later)
	over := noon.Add(time.Minute)
	r.Pick(fleet(online("a")), over)
	if due := r.NextDue(); !due.Equal(noon.Add(30 * time.Second)) {
		t.Errorf("the caller is to ask at %s for what has expired", due)
	}
	if got := sequences(r.Expired(over)); !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("expired are %v, want 1 and 3", got)
	}
	if due := r.NextDue(); !due.Equal(over.Add(5 * time.Second)) {
		t.Errorf("then it is to ask at %s", due)
	}
	r.Remove(3)
	if got := sequences(r.Expired(over.Add(5 * time.Second))); !slices.Equal(got, []uint64{1}) {
		t.Errorf("5 s later %v, want 1", got)
	}
	r.Remove(1)
	if got := sequences(r.Expired(noon.Add(2 * time.Hour))); !slices.Equal(got, []uint64{2, 5}) {
		t.Errorf("hours later %v, want 2 and 5", got)
	}
}

func TestATicketIsDueByItsNewestTime(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := room(from(1, 10))
	postponed := from(1, 20)
	postponed.Revision = 2
	r.Put(postponed)
	for _, c := range []struct {
		after float64
		next  uint64
	}{{9, 0}, {10, 0}, {19, 0}, {20, 1}} {
		if got := next(r, f, noon.Add(seconds(c.after))); got != c.next {
			t.Errorf("%v s after noon ticket %d is next, want %d", c.after, got, c.next)
		}
	}
	at := noon.Add(time.Minute)
	next(r, f, at)
	r.Put(from(2, 59)) // due since a second
	next(r, f, at)
	if all, notDue := r.Waiting("a"); all != 2 || notDue != 0 {
		t.Errorf("%d tickets, %d not due, want 2 and 0", all, notDue)
	}
	tooLate := from(3, 120)
	tooLate.Expires = noon.Add(90 * time.Second)
	r.Put(tooLate)
	r.Remove(1)
	r.Remove(2)
	if got := next(r, f, noon.Add(2*time.Minute)); got != 0 {
		t.Errorf("ticket %d is next, which expired before it was due", got)
	}
}

func TestHostsThatFailedAJobAreTriedAgainWhenItsTimeHasCome(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	avoiding := ticket(1, "a", 5)
	avoiding.Avoid, avoiding.AvoidUntil = []string{"a"}, noon.Add(time.Minute)
	r := room(avoiding)
	if got := next(r, f, noon); got != 0 || !r.NextDue().Equal(avoiding.AvoidUntil) {
		t.Errorf("ticket %d is next, and it asks again at %s", got, r.NextDue())
	}
	if got := next(r, f, avoiding.AvoidUntil); got != 1 {
		t.Errorf("then ticket %d is next", got)
	}
	if due := r.NextDue(); !due.IsZero() {
		t.Errorf("nothing more will change by itself, and it asks again at %s", due)
	}
}

func TestTheRoomAsksAgainAtTheFirstOfItsTimes(t *testing.T) {
	t.Parallel()
	for due, again := range map[float64]float64{30: 30, 90: 58} { // a host is free after 60 s, and may hold a job 2 s before
		busy := online("busy")
		busy.Prefetch = 1
		f := fleet()
		f.ObserveRun(hashOf(2), "gone", time.Minute)
		busy.Running = []route.Run{{Tenant: "x", Job: "y", Hash: hashOf(2), Since: noon}}
		f.PutHost(busy)
		r := room(ticket(1, "a", 5), from(2, due))
		if got := next(r, f, noon); got != 0 || !r.NextDue().Equal(noon.Add(seconds(again))) {
			t.Errorf("due after %v s: ticket %d is next, and it asks again at %s", due, got, r.NextDue())
		}
		r.Remove(2)
		if got := next(r, f, noon.Add(seconds(95))); got != 1 || !r.NextDue().IsZero() {
			t.Errorf("at last ticket %d is next, and it asks again at %s", got, r.NextDue())
		}
	}
}

// TestTimesOfTicketsThatAreGoneAreThrownAway has few tickets with times stay, and then many of which few go.
func TestTimesOfTicketsThatAreGoneAreThrownAway(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	for i := range uint64(1000) {
		r.Put(from(i+1, float64(i+1)))
	}
	for i := range uint64(900) {
		r.Remove(i + 1)
	}
	if kept := r.TimersKept(); kept < 100 || kept > 250 {
		t.Errorf("of 100 tickets that are left %d times are kept", kept)
	}
	next(r, f, noon.Add(seconds(950)))
	if all, notDue := r.Waiting("a"); all != 100 || notDue != 50 {
		t.Errorf("at 950 s %d wait, and %d are not due, want 100 and 50", all, notDue)
	}
	if due := r.NextDue(); !due.Equal(noon.Add(seconds(951))) {
		t.Errorf("the next one is due at %s", due)
	}
	for i := range uint64(1000) {
		r.Remove(i + 1)
	}
	next(r, f, noon.Add(seconds(1000)))
	if kept := r.TimersKept(); kept != 0 {
		t.Errorf("at last %d times are kept", kept)
	}
}

func TestSharesKeepTheirProportionsForDays(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "c", 5), ticket(2, "a", 5), ticket(3, "b", 5))
	next(r, f, noon)
	r.Charge("a", 5, 100, noon)
	r.Charge("b", 5, 50, noon)
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		r.Charge("b", 5, bad, noon)
	}
	late := noon.Add(7 * time.Hour) // 42 half-lives
	r.Charge("c", 5, 10, late)
	var order []uint64
	r.Charge("d", 5, 1, late)
	r.Put(ticket(6, "d", 5))
	for range 4 {
		got := next(r, f, late)
		r.Remove(got)
		order = append(order, got)
	}
	if !slices.Equal(order, []uint64{3, 2, 6, 1}) { // what was used last counts most
		t.Errorf("served %v, want b, a, d and c", order)
	}
	for _, t2 := range []route.Ticket{ticket(4, "c", 5), ticket(5, "e", 5)} {
		r.Put(t2)
	}
	if got := next(r, f, late); got != 5 {
		t.Errorf("ticket %d is next, want that of the newcomer", got)
	}
	for _, l := range r.Lanes(f, late) {
		if l.Tenant == "c" && math.Abs(l.Share-10.0/11) > 1e-6 { // d has used 1
			t.Errorf("the share of c is %v", l.Share)
		}
	}
}

// Above 1024 lanes those are forgotten that have no tickets and have used next to nothing.
func TestALaneThatHasTicketsOrHasUsedSomethingIsNotForgotten(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(9, "waits", 5))
	next(r, f, noon)
	r.Charge("heavy", 5, 1000, noon)
	for i := range 3000 {
		r.Charge(route.Tenant(fmt.Sprint("passes-", i)), 5, 0.5, noon)
	}
	if kept := r.LanesKept(); kept > 1024 {
		t.Errorf("%d lanes are kept", kept)
	}
	if all, _ := r.Waiting("waits"); all != 1 {
		t.Errorf("%d tickets wait, want 1", all)
	}
	r.Remove(9)
	r.Put(ticket(1, "heavy", 5))
	r.Put(ticket(2, "new", 5))
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want that of the tenant that has used nothing", got)
	}
}

func TestATicketThatWasRemovedOrPostponedAfterItsTimeHasNotExpired(t *testing.T) {
	t.Parallel()
	f, over := fleet(online("a")), noon.Add(time.Minute)
	r := room(until(1, 60), until(2, 60), until(3, 60), until(4, 60))
	withoutEnd := from(4, 10)
	withoutEnd.Revision = 2
	r.Put(withoutEnd)
	if got := next(r, f, over); got != 4 {
		t.Errorf("ticket %d is next, want the one that expires no more", got)
	}
	r.Remove(1)
	later := until(2, 3600)
	later.Revision = 2
	r.Put(later)
	if got := sequences(r.Expired(over)); !slices.Equal(got, []uint64{3}) {
		t.Errorf("expired are %v, want 3", got)
	}
}

// A lane that was empty begins where the one stands that was served last, even when another has used less and has no jobs.
func TestALaneWithoutJobsDoesNotFavourANewcomer(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), room(ticket(1, "a", 5), ticket(2, "a", 5))
	r.Charge("a", 5, 100, noon)
	r.Charge("idle", 5, 0.1, noon)
	r.Remove(next(r, f, noon))
	r.Put(ticket(3, "new", 5))
	if got := next(r, f, noon); got != 2 {
		t.Errorf("ticket %d is next, want that of the older job, since both lanes are level", got)
	}
}

// A job that waits for long gets a new lease, and its ticket a new revision, again and again.
func TestATicketThatIsReplacedKeepsItsTimers(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("a")), route.NewRoom()
	x := from(1, 60)
	x.Expires, x.Avoid, x.AvoidUntil = noon.Add(seconds(120)), []string{"b"}, noon.Add(seconds(90))
	for i := range uint64(100) {
		x.Revision = i + 1
		r.Put(x)
	}
	if kept := r.TimersKept(); kept != 3 {
		t.Errorf("%d timers of one ticket are kept, want 3", kept)
	}
	if got := next(r, f, noon.Add(seconds(60))); got != 1 {
		t.Errorf("ticket %d is next when it is due, want 1", got)
	}
	x.Revision++
	r.Put(x)
	x.Revision, x.Expires = x.Revision+1, noon.Add(seconds(100))
	r.Put(x)
	if got := r.Expired(noon.Add(seconds(100))); len(got) != 1 {
		t.Errorf("%d tickets have expired, want 1", len(got))
	}
	x.Revision++
	r.Put(x)
	if got := r.Expired(noon.Add(seconds(106))); len(got) != 1 {
		t.Errorf("%d tickets have expired some seconds later, want 1", len(got))
	}
}
