package dispatcher

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// relayScene is the relays of hosts whose states are given, and what was sent.
type relayScene struct {
	*relays
	known map[string]*queue.HostState
	names []string // of the hosts that are relayed
	sent  []string
	full  bool // nothing more can be sent
}

func newRelayScene(hosts ...string) *relayScene {
	s := &relayScene{known: map[string]*queue.HostState{}, names: hosts}
	for _, host := range hosts {
		state := onlineHost(host, 1, 1)
		s.known[host] = &state
	}
	s.relays = newRelays(relays{
		name: "me", ttl: 15 * time.Second, alarms: &alarms{}, peers: peersOf("other"), newest: func(host string) *queue.HostState { return s.known[host] },
		send: func(r queue.Relay) bool {
			if s.full {
				return false
			}
			text := r.From + ":"
			for i := range r.States {
				x := &r.States[i]
				text += " " + x.Host
				if x.Ended != nil {
					text += "(" + string(x.Ended.Job) + ")"
				}
				if !x.Brief {
					text += "*"
				}
			}
			s.sent = append(s.sent, fmt.Sprint(text, r.Gone, len(r.Tickets)))
			return true
		},
	})
	return s
}

// sends gives what is sent until a time.
func (s *relayScene) sends(until time.Time) []string {
	s.alarms.ring(until)
	sent := s.sent
	s.sent = nil
	return sent
}

func TestARelayHasWhatHasChangedSinceTheLast(t *testing.T) {
	t.Parallel()
	s := newRelayScene("a", "b", "c")
	now := noonUTC
	for _, host := range s.names {
		s.state(host)
		s.whole(host)
		s.gone(host)
	}
	s.jobEnded(s.known["a"])
	s.ticket(queue.Change[queue.Ticket]{})
	s.look(now)
	s.step(now)
	same(t, "while nobody wants it", s.sends(now.Add(time.Hour)), []string(nil))
	s.want(true, func() []string { return s.names }, now)
	same(t, "before the pause is over", s.sends(now.Add(49*time.Millisecond)), []string(nil))
	same(t, "the first, with all in full", s.sends(now.Add(50*time.Millisecond)), []string{"me: a* b* c*[] 0"})

	now = now.Add(time.Second)
	s.step(now)
	same(t, "when nothing has changed", s.sends(now.Add(time.Second)), []string(nil))
	s.state("a")
	s.step(now)
	s.step(now.Add(40 * time.Millisecond))
	same(t, "a host that has changed", s.sends(now.Add(50*time.Millisecond)), []string{"me: a[] 0"})

	ended := *s.known["b"]
	ended.Ended = &queue.EndedJob{Tenant: "acme", Job: "x"}
	s.jobEnded(&ended)
	s.step(now)
	same(t, "an end, which tells the state as well", s.sends(now.Add(time.Second)), []string{"me: b(x)[] 0"})
	s.jobEnded(&ended)
	s.known["b"].Serial++
	s.step(now)
	same(t, "an end, and a newer state", s.sends(now.Add(time.Second)), []string{"me: b(x) b[] 0"})

	s.state("a")
	s.gone("a")
	s.ticket(queue.Change[queue.Ticket]{})
	s.full = true
	s.step(now)
	same(t, "when too many wait to be sent", s.sends(now.Add(time.Second)), []string(nil))
	s.full = false
	s.whole("c")
	s.state("c") // it stays one that is sent in full
	s.step(now)
	same(t, "then", s.sends(now.Add(time.Second)), []string{"me: c*[a] 1"})
	s.step(now)
	same(t, "once", s.sends(now.Add(time.Second)), []string(nil))

	s.state("b")
	s.want(false, nil, now)
	s.step(now)
	same(t, "when nobody wants it any more", s.sends(now.Add(time.Second)), []string(nil))
}

func TestEachHostIsRelayedInFullOnceInAPresenceTTL(t *testing.T) {
	t.Parallel()
	s := newRelayScene()
	for n := range 30 {
		host := fmt.Sprint("host-", n)
		state := onlineHost(host, 1, 1)
		s.known[host], s.names = &state, append(s.names, host)
	}
	now := noonUTC
	s.want(true, func() []string { return s.names }, now)
	s.sends(now.Add(time.Second))
	times := map[string]int{}
	s.send = func(r queue.Relay) bool {
		for i := range r.States {
			if !r.States[i].Brief {
				times[r.States[i].Host]++
			}
		}
		if len(r.States) > 3 {
			t.Errorf("a relay has %d hosts in full", len(r.States))
		}
		return true
	}
	for range 14 {
		now = now.Add(sourcesLook)
		s.look(now)
		s.alarms.ring(now.Add(relayPauseLeast))
	}
	for _, host := range s.names {
		if n := times[host]; n < 1 || n > 2 {
			t.Errorf("%s is relayed %d times in full", host, n)
		}
	}
}

func TestThePauseBetweenRelaysGrowsWithTheFleet(t *testing.T) {
	t.Parallel()
	for dispatchers, want := range map[int]time.Duration{1: 50 * time.Millisecond, 10: 50 * time.Millisecond, 50: 250 * time.Millisecond, 500: time.Second} {
		p := newPeers("me")
		for n := range dispatchers {
			p.put(fmt.Sprint("d", n), noonUTC)
		}
		same(t, fmt.Sprint("of ", dispatchers), newRelays(relays{peers: p}).pause(), want)
	}
}

func TestWhatMakesTwoStatesOfAHostDiffer(t *testing.T) {
	t.Parallel()
	base := running(onlineHost("a", 1, 2), "x")
	for what, change := range map[string]func(*queue.HostState){
		"": func(s *queue.HostState) {
			s.Serial, s.Time, s.Memory, s.Running[0].Since = 9, noonUTC, 7, noonUTC.Add(1)
		},
		"the agent": func(s *queue.HostState) { s.Instance = "j" }, "the state": func(s *queue.HostState) { s.State = queue.Draining },
		"the reason": func(s *queue.HostState) { s.Reason = "r" }, "trial": func(s *queue.HostState) { s.Trial = true },
		"slots": func(s *queue.HostState) { s.Slots++ }, "prefetch": func(s *queue.HostState) { s.Prefetch++ },
		"foreign": func(s *queue.HostState) { s.Foreign++ }, "jobs": func(s *queue.HostState) { s.Running = nil },
		"a job": func(s *queue.HostState) { s.Running[0].Job = "y" }, "a tenant": func(s *queue.HostState) { s.Running[0].Tenant = "bolt" },
		"an attempt": func(s *queue.HostState) { s.Running[0].Attempt++ },
	} {
		other := base
		other.Running = append([]queue.RunningJob(nil), base.Running...)
		change(&other)
		if alike(&base, &other) != (what == "") {
			t.Errorf("%q makes no difference, or a wrong one", what)
		}
	}
}

// Only what is at home elsewhere, in a fleet whose homes relay, is kept or forgotten by what another dispatcher says.
func TestWhatAnotherDispatcherSaysOfAHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newHostScene(peersOf("other"))
		s.sources.ttl = 9 * time.Second
		home, away := nameAtHome("gpu-%d"), nameAwayFromHome("gpu-%d")
		say := func(name string, serial uint64) time.Duration {
			state := onlineHost(name, serial, 1)
			s.relayed(&state, noonUTC)
			return time.Until(s.known[name].until)
		}
		same(t, "a new one in a small fleet", []time.Duration{say(home, 1), say(away, 1)}, []time.Duration{9 * time.Second, 9 * time.Second})
		s.relayedGone(away)
		same(t, "in a small fleet", s.state(away) != nil, true)
		s.sources.stage = sharing
		same(t, "in a large fleet", []time.Duration{say(home, 2), say(away, 2)}, []time.Duration{9 * time.Second, 27 * time.Second})
		brief := onlineHost("unknown", 1, 1)
		brief.Brief = true
		s.relayed(&brief, noonUTC)
		s.relayedGone("unknown")
		s.relayedGone(home)
		s.relayedGone(away)
		same(t, "known", s.keys(), []string{home})
		same(t, "announced", len(s.lost), 0)
		same(t, "free slots", s.free(), 1)
	})
}

// Agents tell the homes of their hosts alone, and the other dispatchers know what these relay.
func TestWhatAHomeHearsOfItsHostsIsRelayed(t *testing.T) {
	t.Parallel()
	s := newHostScene(peersOf("other"))
	s.relays.peers, s.relays.alarms = s.peers, &alarms{}
	s.relays.want(true, func() []string { return nil }, noonUTC)
	home, away := nameAtHome("gpu-%d"), nameAwayFromHome("gpu-%d")
	hear := func(edit func(name string) queue.HostState) (dirty map[string]bool, ended []string) {
		clear(s.relays.dirty)
		s.relays.ended = nil
		for _, name := range []string{home, away} {
			state := edit(name)
			s.report(&state, noonUTC)
		}
		for i := range s.relays.ended {
			ended = append(ended, fmt.Sprint(s.relays.ended[i].Host, " ", s.relays.ended[i].Serial, " ", s.relays.ended[i].Ended.Job))
		}
		return s.relays.dirty, ended
	}
	end := func(s queue.HostState, id job.ID) queue.HostState {
		s.Ended = &queue.EndedJob{Tenant: "acme", Job: id}
		return s
	}
	for _, c := range []struct {
		what  string
		state func(name string) queue.HostState
		dirty map[string]bool
		ended []string
	}{
		{"a new host, in full", func(name string) queue.HostState { return onlineHost(name, 1, 2) }, map[string]bool{home: true}, nil},
		{"the same again", func(name string) queue.HostState { return onlineHost(name, 2, 2) }, map[string]bool{}, nil},
		{"a job", func(name string) queue.HostState { return running(onlineHost(name, 5, 2), "x") }, map[string]bool{home: false}, nil},
		{"an older state", func(name string) queue.HostState { return onlineHost(name, 3, 2) }, map[string]bool{}, nil},
		{"an end that was overtaken", func(name string) queue.HostState { return end(onlineHost(name, 4, 2), "w") }, map[string]bool{home: false}, []string{home + " 4 w"}},
		{"that end once more", func(name string) queue.HostState { return end(onlineHost(name, 4, 2), "w") }, map[string]bool{}, nil},
		{"a further end", func(name string) queue.HostState { return end(onlineHost(name, 6, 2), "x") }, map[string]bool{home: false}, []string{home + " 6 x"}},
	} {
		dirty, ended := hear(c.state)
		same(t, c.what+": hosts to relay", dirty, c.dirty)
		same(t, c.what+": ends to relay", ended, c.ended)
	}
	same(t, "ends that were taken in here", s.ended, []string{"w on " + home, "w on " + away, "x on " + home, "x on " + away})
}
