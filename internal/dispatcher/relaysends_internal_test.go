package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// Whoever wants relays later gets all hosts in full, and nothing of before.
func TestNothingIsKeptForRelaysThatNobodyWants(t *testing.T) {
	t.Parallel()
	s := newRelayScene("a", "b")
	gather := func() {
		s.jobEnded(s.known["a"])
		s.ticket(queue.Change[queue.Ticket]{})
		s.state("a")
		s.whole("b")
		s.gone("c")
		s.step(noonUTC)
	}
	kept := func() []any { return []any{len(s.ended), len(s.dirty), len(s.left), len(s.tickets), s.due} }
	gather()
	s.look(noonUTC)
	same(t, "before", kept(), []any{0, 0, 0, 0, false})
	s.want(true, func() []string { return []string{"a", "b"} }, noonUTC)
	gather()
	s.want(false, nil, noonUTC)
	gather()
	same(t, "when nobody wants them any more", kept(), []any{0, 0, 0, 0, true})
	same(t, "sent", s.sends(noonUTC.Add(time.Second)), []string(nil))
	s.want(true, func() []string { return []string{"b"} }, noonUTC)
	same(t, "when somebody does again", s.sends(noonUTC.Add(time.Second)), []string{"me: b*[] 0"})
}

func TestAHostThatIsGoneMeanwhileIsNotRelayed(t *testing.T) {
	t.Parallel()
	s := newRelayScene("a", "b")
	s.want(true, func() []string { return nil }, noonUTC)
	s.sends(noonUTC.Add(time.Second))
	s.known["a"].Ended = &queue.EndedJob{Tenant: "acme", Job: "before"}
	s.whole("a")
	s.state("b")
	delete(s.known, "b")
	s.step(noonUTC)
	same(t, "sent, and no end for a second time", s.sends(noonUTC.Add(time.Second)), []string{"me: a*[] 0"})
}

func TestWhatIsRelayedIsTakenInUnlessItIsItsOwn(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.peers.put("other", noonUTC)
	away := nameAwayFromHome("gpu-%d")
	s.sources.peer(&queue.DispatcherState{Dispatcher: "other", Relays: true}, noonUTC)
	s.sources.stage = sharing
	tickets := make([]queue.Change[queue.Ticket], 33)
	for n := range tickets {
		o := ownedJob(t, "acme", uint64(n+1), 1)
		s.needs.learn(o.job)
		ticket := wireTicket(o)
		tickets[n] = queue.Change[queue.Ticket]{Phase: queue.Put, Key: ticket.Key(), Value: *ticket, Revision: uint64(n + 1)}
	}
	s.relayReceived(queue.Relay{From: "me", States: []queue.HostState{onlineHost(away, 1, 1)}, Tickets: tickets})
	same(t, "its own", len(s.inbox), 0)
	s.relayReceived(queue.Relay{From: "other", States: []queue.HostState{onlineHost(away, 1, 1)}, Tickets: tickets})
	same(t, "another's, in turns that are short", len(s.inbox), 3)
	s.told(noonUTC)
	same(t, "taken in", []any{s.hosts.state(away) != nil, s.room.Len(), s.sources.others["other"].began}, []any{true, 33, true})
	s.relayReceived(queue.Relay{From: "other", Gone: []string{away}})
	s.told(noonUTC)
	same(t, "a host that is gone", s.hosts.state(away) == nil, true)

	s.sources.stage = everything
	gone := tickets[0]
	gone.Phase, gone.Revision = queue.Gone, 34
	s.relayReceived(queue.Relay{From: "other", Tickets: []queue.Change[queue.Ticket]{gone}})
	s.told(noonUTC)
	same(t, "in a small fleet the watch tells of tickets", s.room.Len(), 33)
}

func TestWhatCannotBeSentYetIsKept(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for range relaysWaiting {
		same(t, "sent", s.relaySoon(queue.Relay{}), true)
	}
	same(t, "one more", s.relaySoon(queue.Relay{}), false)
	s.readPresences(nil)
	same(t, "walks for no presence", s.walks, 0)
	s.followChosen([]string{"a"})
	s.followChosen([]string{"b"})
	same(t, "the newest list of hosts to follow", <-s.chosen, []string{"b"})
}
