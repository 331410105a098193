package dispatcher

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// sourcesScene is two hosts, of which one is at home here beside another dispatcher.
type sourcesScene struct {
	*hostScene
	f          *stateSources
	home, away string
	reads      [][]string
	chosen     [][]string
	lists      int
	beats      int
}

func newSourcesScene() *sourcesScene {
	s := &sourcesScene{hostScene: newHostScene(peersOf("other")), home: nameAtHome("gpu-%d"), away: nameAwayFromHome("gpu-%d")}
	log := &logged{}
	s.f = newStateSources(stateSourcesParts{
		above: 3, ttl: 9 * time.Second, log: log.logger(), fleet: s.fleet, hosts: s.hosts, peers: s.peers, relays: s.relays,
		read: func(hosts []string) {
			if len(hosts) > 0 {
				s.reads = append(s.reads, hosts)
			}
		},
		list: func() { s.lists++ }, beat: func() { s.beats++ },
		choose: func(hosts []string) {
			slices.Sort(hosts)
			s.chosen = append(s.chosen, hosts)
		},
	})
	s.sources = s.f
	s.f.news = newTicketNews(ticketNewsParts{})
	for _, name := range []string{s.home, s.away} {
		state := onlineHost(name, 1, 1)
		s.report(&state, time.Now())
	}
	return s
}

// hear takes in the presence of the other dispatcher.
func (s *sourcesScene) hear(able, wants bool) {
	s.f.peer(&queue.DispatcherState{Dispatcher: "other", Relays: able, RelaysTickets: able, WantsRelays: wants}, time.Now())
}

// grow has the fleet become a large one.
func (s *sourcesScene) grow(t *testing.T, to stage) {
	t.Helper()
	s.hear(true, false)
	for s.f.stage != to {
		was := s.f.stage
		s.f.relayed("other", time.Now())
		if s.f.look(time.Now()); s.f.stage == was {
			t.Fatalf("it stays at stage %d", was)
		}
	}
}

func TestHowALargeFleetChangesToRelaysAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		now := time.Now()
		s.f.look(now)
		same(t, "alone", s.f.stage, everything)
		s.hear(true, false)
		s.f.look(now)
		same(t, "it asks for relays", []any{s.f.stage == asking, s.f.wants.Load(), s.beats}, []any{true, true, 1})
		s.f.look(now)
		same(t, "until the other one relays", s.f.stage, asking)
		s.f.relayed("other", now)
		s.f.relayed("unknown", now)
		s.f.look(now)
		same(t, "it chooses", []any{s.f.stage == choosing, s.chosen, s.f.takesTickets()}, []any{true, [][]string{{s.home}}, true})
		s.f.look(now)
		open, _ := s.f.all.state()
		same(t, "it shares", []any{s.f.stage == sharing, open, s.peers.relays}, []any{true, false, true})
		same(t, "how long the others count as present", []time.Duration{time.Until(s.known[s.home].until), time.Until(s.known[s.away].until)}, []time.Duration{9 * time.Second, 27 * time.Second})
		s.hear(false, false)
		s.f.look(now)
		open, _ = s.f.all.state()
		same(t, "when the other one cannot relay", []any{s.f.stage == returning, open, s.peers.relays, s.f.takesTickets()}, []any{true, true, false, false})
		s.f.look(now.Add(3*time.Second - 1))
		same(t, "for a third of the presence TTL", s.f.stage, returning)
		s.f.look(now.Add(3 * time.Second))
		same(t, "in the end", []any{s.f.stage == everything, s.f.wants.Load(), s.beats, len(s.chosen), s.chosen[1] == nil}, []any{true, false, 2, 2, true})
	})
}

func TestAFleetThatIsNoLongerLargeGivesTheChangeUp(t *testing.T) {
	t.Parallel()
	for _, at := range []stage{asking, choosing} {
		synctest.Test(t, func(t *testing.T) {
			s := newSourcesScene()
			s.grow(t, at)
			s.f.peerGone("other", time.Now())
			s.f.look(time.Now())
			open, _ := s.f.all.state()
			same(t, "stage", []any{s.f.stage == everything, s.f.wants.Load(), s.beats, open}, []any{true, false, 2, true})
			same(t, "chosen at last", s.chosen[len(s.chosen)-1], []string(nil))
		})
	}
}

func TestADispatcherThatHasNotRelayedForLongMakesTheFleetSmall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		now := time.Now()
		same(t, "after four thirds of the presence TTL", s.f.large(now.Add(12*time.Second)), true)
		same(t, "afterwards", s.f.large(now.Add(12*time.Second+1)), false)
		s.f.relayed("other", now.Add(5*time.Second))
		same(t, "when it has relayed", s.f.large(now.Add(17*time.Second)), true)
		s.f.wants.Store(false)
		same(t, "when no relays are wanted", s.f.large(now.Add(time.Hour)), true)
	})
}

func TestAHostThatComesHomeIsReadAndOneThatGoesIsRelayedForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		s.chosen = nil
		now := time.Now()
		rehome := func() {
			s.rehome(now, always)
			s.f.rehome(now, always)
		}
		rehome()
		same(t, "when nothing has changed", []any{len(s.reads), len(s.chosen)}, []any{0, 0})
		s.peers.remove("other")
		rehome()
		both := []string{s.home, s.away}
		slices.Sort(both)
		same(t, "read", s.reads, [][]string{{s.away}})
		same(t, "followed", s.chosen, [][]string{both})
		same(t, "present until it is read", time.Until(s.known[s.away].until), 9*time.Second)
		s.peers.put("other", now)
		rehome()
		same(t, "relayed from here", []any{s.f.isRelayedHere(s.away), len(s.chosen)}, []any{true, 1})
		same(t, "present until its home has relayed it", time.Until(s.known[s.away].until), 27*time.Second)
		s.f.follow(now.Add(9 * time.Second))
		same(t, "for one presence TTL", s.f.isRelayedHere(s.away), true)
		s.f.follow(now.Add(9*time.Second + 1))
		same(t, "and no longer", []any{s.f.isRelayedHere(s.away), s.chosen[len(s.chosen)-1]}, []any{false, []string{s.home}})
	})
}

func TestWhatADispatcherOfALargeFleetReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.f.named([]string{nameAtHome("new-%d")})
		same(t, "in a small fleet", len(s.reads), 0)
		s.grow(t, sharing)
		now := time.Now()
		s.f.named([]string{s.home, s.away, nameAtHome("new-%d"), nameAwayFromHome("new-%d")})
		same(t, "new hosts at home here", s.reads, [][]string{{nameAtHome("new-%d")}})
		s.reads = nil
		s.f.follow(now)
		s.known[s.home].until = now.Add(3 * time.Second)
		s.f.follow(now)
		same(t, "a presence of which a third is left", len(s.reads), 0)
		s.known[s.home].until = now.Add(3*time.Second - 1)
		s.known[s.away].until = now
		s.f.follow(now)
		same(t, "one of which less is left", s.reads, [][]string{{s.home}})
		s.f.follow(now.Add(9*time.Second - 1))
		same(t, "lists before the presence TTL", s.lists, 0)
		s.f.follow(now.Add(9 * time.Second))
		same(t, "lists", s.lists, 1)
		s.f.follow(now.Add(10 * time.Second))
		same(t, "lists a second later", s.lists, 1)
		s.chosen = nil
		s.drop(s.home)
		s.drop(s.away)
		s.f.follow(now)
		same(t, "followed when both are gone", s.chosen, [][]string{{}})
	})
}

// Whoever needs relays gets them from the first presence that says so until its last.
func TestRelaysAreSentAsLongAsAnotherDispatcherNeedsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.relays.peers, s.relays.alarms = s.peers, &alarms{}
		s.hear(true, false)
		same(t, "nobody", s.relays.wanted, false)
		s.hear(true, true)
		same(t, "one", []any{s.relays.wanted, s.relays.dirty[s.home], s.f.news.relaying.Load()}, []any{true, true, true})
		s.f.peerGone("other", time.Now())
		same(t, "none any more", []any{s.relays.wanted, s.f.news.relaying.Load()}, []any{false, false})
	})
}

// A dispatcher that has relayed once may have stopped: what counts is what it relays after it was asked again.
func TestRelaysAreWaitedForEachTimeTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.grow(t, sharing)
		s.hear(false, false)
		now := time.Now()
		s.f.look(now)
		now = now.Add(3 * time.Second)
		s.f.look(now)
		same(t, "the fleet is small", []any{s.f.stage == everything, s.f.wants.Load()}, []any{true, false})
		now = now.Add(time.Hour)
		s.hear(true, false)
		for range 3 {
			s.f.look(now)
			same(t, "asked again", []any{s.f.stage == asking, s.f.wants.Load()}, []any{true, true})
		}
		s.f.look(now.Add(12 * time.Second))
		same(t, "for as long as a relay may take", s.f.stage, asking)
		s.f.relayed("other", now.Add(12*time.Second))
		s.chosen = nil
		s.f.look(now.Add(12 * time.Second))
		same(t, "when it relays", s.f.stage, choosing)
		same(t, "whose agents are followed", s.chosen, [][]string{{s.home}})
	})
}

// All must relay before what agents send is not received any more.
func TestOneDispatcherThatDoesNotRelayYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.hear(true, false)
		s.f.peer(&queue.DispatcherState{Dispatcher: "third", Relays: true}, time.Now())
		s.f.look(time.Now())
		for _, name := range []string{"other", "third"} {
			same(t, "before "+name, s.f.stage, asking)
			s.f.relayed(name, time.Now())
			s.f.look(time.Now())
		}
		same(t, "when both relay", s.f.stage, choosing)
	})
}

func TestWhenAHostsHomeAloneGivesItWaitingJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSourcesScene()
		s.drop(s.home)
		room := route.NewRoom()
		room.Put(ticketOf(ownedJob(t, "acme", 1, 1), 1))
		given := func() bool {
			s.f.leaveToHomes()
			_, ok := room.Next(s.fleet, route.HostID(s.away), noonUTC)
			return ok
		}
		same(t, "of two dispatchers", given(), true)
		s.peers.put("third", noonUTC)
		s.peers.put("fourth", noonUTC)
		same(t, "of four", given(), true)
		s.peers.put("fifth", noonUTC)
		same(t, "of five", given(), false)
		s.peers.remove("fifth")
		same(t, "of four again", given(), true)
		s.f.enter(sharing, time.Now())
		same(t, "in a large fleet", []bool{given(), s.peers.relays}, []bool{false, true})
		s.f.enter(returning, time.Now())
		same(t, "in one that is large no more", []bool{given(), s.peers.relays}, []bool{true, false})
	})
}
