package dispatcher

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// ticketAt is a change of a ticket at a revision.
func ticketAt(key string, revision uint64) queue.Change[queue.Ticket] {
	return queue.Change[queue.Ticket]{Phase: queue.Put, Key: key, Revision: revision}
}

// lookAt has the dispatcher look at a time, and gives how often it has asked for the state and read changes since the last time.
func (n *newsOfTickets) lookAt(after time.Duration) (asked, reads int) {
	n.asked, n.reads = nil, nil
	n.look(noonUTC.Add(after))
	return len(n.asked), len(n.reads)
}

func TestWhatTheWatchOfTicketsHasReportedIsKnown(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.closed = false
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Reset})
	c := ticketAt("a", 5)
	n.watched(&c)
	same(t, "while it reports what was there", n.known, uint64(0))
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Synced})
	same(t, "when it has", n.known, uint64(5))
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Invalid, Key: "b", Revision: 6})
	same(t, "with a ticket that is none", []uint64{n.known, n.top}, []uint64{6, 6})
}

func TestAWatchOfTicketsThatBeginsAgainKnowsNothing(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.found(ticketAt("a", 5), noonUTC)
	n.received(ticketAt("b", 9), noonUTC)
	n.look(noonUTC)
	n.logged(queue.TicketLog{Made: noonUTC, Last: 9}, 5)
	n.logged(queue.TicketLog{Made: noonUTC.Add(1), Last: 9}, 5)
	same(t, "before", []any{n.lost, n.known, n.top, n.goal}, []any{true, uint64(5), uint64(9), uint64(9)})
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Reset})
	same(t, "afterwards", []any{n.synced, n.lost, n.made.IsZero(), n.known, n.top, n.goal}, []any{false, false, true, uint64(0), uint64(0), uint64(0)})
	same(t, "kept of those beyond the gap", len(n.ahead)+len(n.newest), 0)
}

// While the watch is open it reports this dispatcher's own changes too.
func TestNewsOfTicketsAreTakenInOnceOnlyWhileTheWatchIsOpen(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.closed = false
	n.changed(ticketAt("a", 1), noonUTC)
	n.found(ticketAt("b", 2), noonUTC)
	same(t, "taken in", []any{len(n.stands), n.known}, []any{0, uint64(0)})
	n.logged(queue.TicketLog{Made: noonUTC, Last: 9}, 9)
	n.logged(queue.TicketLog{Made: noonUTC.Add(1), Last: 1}, 9)
	same(t, "known of the bucket", []any{n.top, n.lost, n.made.IsZero()}, []any{uint64(0), false, true})
	n.goal = 4
	n.readAll(nil, noonUTC.Add(time.Hour))
	same(t, "given up", n.known, uint64(0))
}

func TestNewsOfTicketsBeyondAGapAreKept(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.received(ticketAt("j", 10), noonUTC)
	n.found(ticketAt("e", 5), noonUTC)
	same(t, "known after a gap was read", n.known, uint64(5))
	for revision := uint64(6); revision < 10; revision++ {
		n.received(ticketAt("x", revision), noonUTC)
	}
	same(t, "known when all have come", n.known, uint64(10))
	n.received(ticketAt("k", 12), noonUTC)
	n.received(ticketAt("l", 13), noonUTC)
	n.found(ticketAt("i", 9), noonUTC)
	same(t, "known after an older one was read", n.known, uint64(10))
}

func TestTheStateOfTheBucketOfTicketsIsAskedForThreeTimesInAPresence(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	var asked []int
	for _, after := range []time.Duration{0, 5*time.Second - 1, 5 * time.Second, 10*time.Second - 1, 10 * time.Second} {
		times, _ := n.lookAt(after)
		asked = append(asked, times)
	}
	same(t, "asked", asked, []int{1, 0, 1, 0, 1})
}

func TestAMissedChangeOfATicketIsReadAfterTwoSecondsAndByOneReader(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.received(ticketAt("a", 2), noonUTC)
	var read []int
	for _, after := range []time.Duration{0, 2*time.Second - 1, 2 * time.Second, 4 * time.Second} {
		_, times := n.lookAt(after)
		read = append(read, times)
	}
	same(t, "read", read, []int{0, 0, 1, 0})
	n.readAll(errors.New("no answer"), noonUTC.Add(4*time.Second))
	_, again := n.lookAt(5 * time.Second)
	same(t, "read when the first reader has ended", again, 1)
}

func TestNewsOfTicketsAreNotLookedForWhileTheWatchIsToReport(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*newsOfTickets){
		"the watch is open":   func(n *newsOfTickets) { n.closed = false },
		"the bucket was lost": func(n *newsOfTickets) { n.lost = true },
	} {
		n := newNewsOfTickets()
		n.received(ticketAt("a", 2), noonUTC)
		set(n)
		asked, reads := 0, 0
		for second := range 10 {
			a, r := n.lookAt(time.Duration(second) * time.Second)
			asked, reads = asked+a, reads+r
		}
		same(t, name, []int{asked, reads}, []int{0, 0})
	}
}

func TestATicketOfWhichNothingIsLeftIsGivenUpAfterTenSeconds(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.received(ticketAt("a", 2), noonUTC)
	n.look(noonUTC)
	n.readAll(nil, noonUTC.Add(10*time.Second-1))
	same(t, "before", n.known, uint64(0))
	n.readAll(errors.New("no answer"), noonUTC.Add(time.Minute))
	same(t, "without an answer", n.known, uint64(0))
	n.readAll(nil, noonUTC.Add(10*time.Second))
	same(t, "then", n.known, uint64(2))
}

// ticketWire answers what a dispatcher writes and reads of tickets.
type ticketWire struct {
	stillWire
	revision uint64
	err      error
}

func (w *ticketWire) PutTicket(context.Context, *queue.Ticket) (uint64, error) {
	return w.revision, w.err
}

func (w *ticketWire) Claim(context.Context, string, uint64) (uint64, error) { return w.revision, w.err }

func (w *ticketWire) TicketLog(context.Context) (queue.TicketLog, error) {
	return queue.TicketLog{Last: w.revision}, w.err
}

// newTicketWrites is a dispatcher of a large fleet that knows all changes up to a revision, and what it relays.
func newTicketWrites(t *testing.T, known uint64) (*loopScene, *ticketWire, *[]queue.Change[queue.Ticket]) {
	t.Helper()
	s, w, told := newLoopScene(t, Config{}), &ticketWire{}, []queue.Change[queue.Ticket]{}
	s.d.q = w
	s.news.relaying.Store(true)
	s.news.closed, s.news.known, s.news.top = true, known, known
	s.news.relay = func(c queue.Change[queue.Ticket]) { told = append(told, c) }
	return s, w, &told
}

func TestATicketIsRelayedWithItsRevisionWhenItIsWritten(t *testing.T) {
	t.Parallel()
	s, w, told := newTicketWrites(t, 6)
	o := ownedJob(t, "acme", 3, 1)
	s.needs.learn(o.job)
	w.revision = 7
	same(t, "error", s.d.putTicket(t.Context(), wireTicket(o)), nil)
	s.told(noonUTC)
	want := wireTicket(o)
	want.Revision = 7
	same(t, "relayed", *told, []queue.Change[queue.Ticket]{{Phase: queue.Put, Key: want.Key(), Value: *want, Revision: 7, Time: noonUTC}})
	waits, _ := s.room.Get(3)
	same(t, "taken in", []any{waits.Revision, s.news.known}, []any{uint64(7), uint64(7)})
	w.err = errors.New("no answer")
	same(t, "it fails", s.d.putTicket(t.Context(), wireTicket(o)) != nil, true)
	same(t, "is told", len(s.inbox), 0)
}

func TestInASmallFleetNoTicketIsRelayed(t *testing.T) {
	t.Parallel()
	s, w, _ := newTicketWrites(t, 6)
	s.news.relaying.Store(false)
	w.revision = 7
	same(t, "error", s.d.putTicket(t.Context(), wireTicket(ownedJob(t, "acme", 3, 1))), nil)
	same(t, "told", len(s.inbox), 0)
}

func TestAClaimCountsOnlyWhenTheTicketStoodAsItWasKnown(t *testing.T) {
	t.Parallel()
	s, w, told := newTicketWrites(t, 6)
	o := ownedJob(t, "acme", 3, 1)
	claim := func() []any {
		won, err := s.d.claimTicket(t.Context(), wireTicket(o).Key(), 6)
		return []any{won, err != nil, len(s.inbox)}
	}
	same(t, "another was first", claim(), []any{false, false, 0})
	w.revision, w.err = 7, errors.New("no answer")
	same(t, "no answer", claim(), []any{false, true, 0})
	w.err = nil
	same(t, "it stood", claim(), []any{true, false, 1})
	s.told(noonUTC)
	same(t, "relayed", *told, []queue.Change[queue.Ticket]{{Phase: queue.Gone, Key: wireTicket(o).Key(), Revision: 7, Time: noonUTC}})
}

func TestAStateOfTheBucketOfTicketsThatCannotBeReadIsNoLoss(t *testing.T) {
	t.Parallel()
	s, w, _ := newTicketWrites(t, 6)
	w.err = errors.New("no answer")
	s.d.readTicketLog(t.Context(), 6)
	s.told(noonUTC)
	same(t, "without an answer", s.news.lost, false)
	w.err = nil
	s.d.readTicketLog(t.Context(), 6)
	s.told(noonUTC)
	same(t, "when it has lost changes", s.news.lost, true)
}
