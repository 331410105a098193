package dispatcher

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// One that has just come cannot have relayed yet.
func TestADispatcherThatComesDoesNotMakeALargeFleetSmall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		s.f.peer(&queue.DispatcherState{Dispatcher: "third", Relays: true}, time.Now())
		same(t, "at first", s.f.large(time.Now().Add(12*time.Second)), true)
		same(t, "when it should have relayed", s.f.large(time.Now().Add(12*time.Second+1)), false)
	})
}

// So that a host more or less does not change the way each time.
func TestALargeFleetIsOneUntilItHasShrunkToHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for above, want := range map[int][2]bool{3: {true, true}, 4: {false, true}, 7: {false, true}, 8: {false, false}} { // two hosts and two dispatchers make four
			s := newSourcesScene()
			s.hear(true, false)
			s.f.above = above
			small := s.f.large(time.Now())
			s.f.enter(sharing, time.Now())
			same(t, fmt.Sprint("above ", above), [2]bool{small, s.f.large(time.Now())}, want)
		}
	})
}

func TestRelaysAreSentWhenOneOfManyNeedsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.relays.peers, s.relays.alarms = s.peers, &alarms{}
		for n := range 32 {
			s.f.peer(&queue.DispatcherState{Dispatcher: fmt.Sprint("d", n), Relays: true, WantsRelays: n == 0}, time.Now())
			same(t, "sent", s.relays.wanted, true)
		}
		s.drop(s.away)
		same(t, "what another's home tells is not relayed", len(s.relays.left), 0)
		s.drop(s.home)
		same(t, "a host that is gone is", s.relays.left, []string{s.home})
	})
}

// While it is closed this dispatcher relays its own changes of tickets in any case, since no other way leads to the others.
func TestTheWatchOfTicketsIsClosedOnlyWhileAllTheirChangesAreRelayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		look := func() []bool {
			s.f.look(time.Now())
			open, _ := s.f.ticket.state()
			return []bool{open, s.f.news.closed, s.f.news.relaying.Load()}
		}
		same(t, "before the watch has reported all", look(), []bool{true, false, false})
		s.f.news.synced = true
		same(t, "then", look(), []bool{false, true, true})
		s.hear(true, false)
		same(t, "when nobody else needs relays", look(), []bool{false, true, true})
		s.f.news.lost = true
		same(t, "when revisions have begun anew", look(), []bool{true, false, false})
		s.f.news.lost = false
		s.f.others["other"].relaysTickets = false
		same(t, "when another relays no tickets", look(), []bool{true, false, false})
	})
}

func TestAHostThatIsRelayedOnlyForAWhileIsNotReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		now := time.Now()
		rehome := func() {
			s.rehome(now, always)
			s.f.rehome(now, always)
		}
		s.peers.remove("other")
		rehome()
		s.peers.put("other", now)
		rehome()
		s.reads = nil
		s.known[s.away].until = now
		s.f.follow(now)
		same(t, "read", len(s.reads), 0)
		until := s.f.followed[s.away]
		s.f.rehome(now.Add(time.Second), always)
		same(t, "its while is not made longer", s.f.followed[s.away], until)
		s.peers.remove("other")
		s.known[s.away].until = now.Add(9 * time.Second)
		rehome()
		same(t, "when it has come home again", s.reads, [][]string{{s.away}})
	})
}

func TestInASmallFleetAHostThatComesHomeIsNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.peers.remove("other")
		s.rehome(time.Now(), always)
		s.f.rehome(time.Now(), always)
		same(t, "read, and chosen", []int{len(s.reads), len(s.chosen)}, []int{0, 0})
	})
}
