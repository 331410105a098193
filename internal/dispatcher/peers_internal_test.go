package dispatcher

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

func TestADispatcherThatKnowsNoOtherIsTheHomeOfEverything(t *testing.T) {
	t.Parallel()
	p := newPeers("me")
	same(t, "before its own presence is read", p.isHome("gpu-1"), true)
	p.put("me", noonUTC)
	same(t, "alone", []bool{p.isHome("gpu-1"), p.isTenantHome("acme"), p.isTicketHome(&route.Ticket{Job: "x"})}, []bool{true, true, true})
}

func TestEveryNameHasOneHomeAmongTheLiveDispatchers(t *testing.T) {
	t.Parallel()
	me, other := newPeers("me"), newPeers("other")
	for _, p := range []*peers{me, other} {
		same(t, "new", p.put("me", noonUTC), true)
		same(t, "known", p.put("me", noonUTC.Add(time.Second)), false)
		p.put("other", noonUTC)
	}
	mine := 0
	for n := range 1000 {
		name := fmt.Sprint("gpu-", n)
		if me.isHome(name) == other.isHome(name) {
			t.Fatalf("%s has two homes or none", name)
		}
		if me.isHome(name) {
			mine++
		}
	}
	if mine < 400 || mine > 600 {
		t.Errorf("one of two dispatchers is home to %d of 1000", mine)
	}
	me.remove("other")
	same(t, "after it is gone", []any{me.count(), me.isHome(nameAwayFromHome("gpu-%d"))}, []any{1, true})
}

func TestAPresenceCountsForASecondMoreThanItStands(t *testing.T) {
	t.Parallel()
	p := newPeers("me")
	p.put("old", noonUTC)
	p.put("new", noonUTC.Add(time.Minute))
	same(t, "just", len(p.expired(noonUTC.Add(time.Second))), 0)
	same(t, "then", p.expired(noonUTC.Add(time.Second+1)), []string{"old"})
}

func TestTheHeadStartIsAFewRoundTripsOfAnOffer(t *testing.T) {
	t.Parallel()
	p := newPeers("me")
	same(t, "at first", p.headStart(), 4*time.Millisecond)
	p.offerTook(2 * time.Millisecond)
	same(t, "after one offer", p.headStart(), 8*time.Millisecond)
	p.offerTook(18 * time.Millisecond) // an eighth of the difference counts
	same(t, "after another", p.headStart(), 16*time.Millisecond)
	for range 100 {
		p.offerTook(time.Minute)
	}
	same(t, "at most", p.headStart(), time.Second)
	same(t, "delays", []time.Duration{p.delay(0), p.delay(1), p.delay(3)}, []time.Duration{0, time.Second, 3 * time.Second})
	p.relays = true
	same(t, "delays among homes", []time.Duration{p.delay(0), p.delay(1), p.delay(3)}, []time.Duration{0, time.Second, 1200 * time.Millisecond})
}

func TestEachDispatcherHasATurnOfItsOwnAtATicket(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d"}
	seen := map[time.Duration]string{}
	for _, name := range names {
		p := newPeers(name)
		for _, live := range names {
			p.put(live, noonUTC)
		}
		seen[p.delay(p.rank("job"))] = name
		same(t, "home of "+name, p.isTicketHome(&route.Ticket{Job: "job"}), p.rank("job") == 0)
	}
	same(t, "delays", slices.Sorted(maps.Keys(seen)), []time.Duration{0, 40 * time.Millisecond, 80 * time.Millisecond, 120 * time.Millisecond})
	same(t, "alone", newPeers("me").rank("job"), 0)
}

func TestAnotherDispatcherOfTheSameNameIsReportedOnce(t *testing.T) {
	t.Parallel()
	log := &logged{}
	n := duplicateName{log: log.logger(), started: noonUTC}
	beat := func(started time.Time) {
		n.heartbeat(&queue.DispatcherState{Dispatcher: "me", Started: started})
	}
	beat(noonUTC.Add(-time.Hour)) // of the one before this
	same(t, "before its own", log.lines(), 0)
	beat(noonUTC)
	beat(noonUTC.Add(time.Hour))
	beat(noonUTC)
	beat(noonUTC.Add(time.Hour))
	same(t, "afterwards", log.lines(), 1)
	beat(noonUTC.Add(2 * time.Hour))
	same(t, "a third one", log.lines(), 2)
}
