package dispatcher

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// stateSources decides from whom this dispatcher receives the states of hosts. In a small fleet it receives what all agents
// send. In a large one it receives those of the hosts whose home it is, and for the others what their homes relay (relays.go).
// docs/architecture.md has the protocol and its failure cases.
//
// The home of a host receives its state first. No guarantee depends on that: agents decide about slots, and claims and leases
// about jobs.
type stateSources struct {
	stateSourcesParts
	all    *gate // open while everything is received
	news   *ticketNews
	ticket *gate                  // open while tickets are watched
	wants  atomic.Bool            // whether this dispatcher needs relays; the presence loop reads it
	others map[string]*otherRelay // live dispatchers without this one

	stage    stage
	since    time.Time            // when the stage began
	followed map[string]time.Time // hosts that this dispatcher relays, and until when; zero: as long as it is their home
	changed  bool                 // followed has changed since choose was called
	listed   time.Time            // when the names of all hosts were last read
}

// stage is how far the change between the two ways to receive has come.
type stage int

const (
	everything stage = iota // what all agents send is received
	asking                  // the others are to relay, and not all have begun
	choosing                // the agents of the hosts at home here are followed as well, so that nothing is missed
	sharing                 // only the agents of hosts at home here are followed; the states of the other hosts come by relays
	returning               // everything is received again, and the others may stop relaying
)

// otherRelay is what is known of another dispatcher and its relays.
type otherRelay struct {
	able          bool      // it can relay
	relaysTickets bool      // it also relays the tickets that it has written or claimed
	wants         bool      // it needs relays
	began         bool      // it has relayed since this dispatcher has needed relays
	heard         time.Time // when it relayed last, or could have begun to
}

const (
	sourcesLook = time.Second // between two calls of look
	readMost    = 16          // presences that are read at once
)

// stateSourcesParts is what a stateSources is made with.
type stateSourcesParts struct {
	above  int           // hosts × dispatchers from which on a fleet is large
	ttl    time.Duration // of a presence
	log    *slog.Logger
	fleet  *route.Fleet
	hosts  *hosts
	peers  *peers
	relays *relays
	read   func(hosts []string) // reads presences, and has the loop take them in
	list   func()               // reads the names of all hosts, and calls named
	choose func(hosts []string) // the hosts whose agents are followed
	beat   func()               // renews this dispatcher's presence now
}

func newStateSources(f stateSourcesParts) *stateSources {
	return &stateSources{stateSourcesParts: f, all: newGate(), ticket: newGate(), others: map[string]*otherRelay{}, followed: map[string]time.Time{}}
}

// peer takes in the presence of another dispatcher.
func (f *stateSources) peer(s *queue.DispatcherState, now time.Time) {
	o := f.others[s.Dispatcher]
	if o == nil {
		o = &otherRelay{heard: now}
		f.others[s.Dispatcher] = o
	}
	o.able, o.relaysTickets, o.wants = s.Relays, s.RelaysTickets, s.WantsRelays
	f.wantedByOthers(now)
}

func (f *stateSources) peerGone(name string, now time.Time) {
	delete(f.others, name)
	f.wantedByOthers(now)
}

// wantedByOthers has this dispatcher begin or end to relay. Its first relay has the whole states of all its hosts.
func (f *stateSources) wantedByOthers(now time.Time) {
	wanted := false
	for _, o := range f.others {
		wanted = wanted || o.wants
	}
	f.relays.want(wanted, f.followedHosts, now)
	f.news.relaying.Store(wanted || f.news.closed)
}

// relayed takes in that a dispatcher has relayed.
func (f *stateSources) relayed(name string, now time.Time) {
	if o := f.others[name]; o != nil {
		o.heard, o.began = now, true
	}
}

// large reports whether the fleet is large enough for relays, and all other dispatchers take part.
func (f *stateSources) large(now time.Time) bool {
	limit := f.above
	if f.stage != everything {
		limit /= 2
	}
	if len(f.others) == 0 || len(f.hosts.known)*f.peers.count() <= limit {
		return false
	}
	for _, o := range f.others {
		if !o.able || f.wants.Load() && now.Sub(o.heard) > f.ttl*4/3 {
			return false
		}
	}
	return true
}

// look goes on to the next stage when its conditions are met.
func (f *stateSources) look(now time.Time) {
	large := f.large(now)
	switch f.stage {
	case everything:
		if large {
			f.ask(now)
		}
	case asking:
		switch {
		case !large:
			f.stopRelays(now)
		case f.allBegan():
			f.changed = true
			f.enter(choosing, now)
		}
	case choosing:
		if !large {
			f.stopRelays(now)
			break
		}
		f.share(now)
	case sharing:
		if !large {
			f.log.Info("the states of all hosts are received from their agents again")
			f.all.open()
			f.enter(returning, now)
			f.leaveToHomes()
		}
	case returning:
		if now.Sub(f.since) >= f.ttl/3 {
			f.stopRelays(now)
		}
	}
	f.follow(now)
	f.followTickets()
}

// followTickets closes the watch of tickets while all their changes are relayed, once the watch has reported all that was there before.
func (f *stateSources) followTickets() {
	relayed := f.stage == sharing && f.news.synced && !f.news.lost
	for _, o := range f.others {
		relayed = relayed && o.relaysTickets
	}
	if relayed {
		f.ticket.close()
	} else {
		f.ticket.open()
	}
	f.news.closed = relayed
	f.news.relaying.Store(relayed || f.relays.wanted)
}

// takesTickets reports whether what others relay of tickets is taken in: also for a moment before the watch is closed.
func (f *stateSources) takesTickets() bool { return f.stage == choosing || f.stage == sharing }

// fewDispatchers is how many dispatchers may all give waiting jobs to every host: so few seldom choose the same one.
const fewDispatchers = 4

// leaveToHomes has waiting jobs given to each host by its home alone when that is needed. In a large fleet it must be so, since a host
// is known late elsewhere. With more than a few dispatchers it saves claims that are lost and offers that are refused.
func (f *stateSources) leaveToHomes() {
	f.peers.relays = f.isShared()
	f.fleet.LeaveToHomes(f.isShared() || f.peers.count() > fewDispatchers)
}

func (f *stateSources) enter(s stage, now time.Time) { f.stage, f.since = s, now }

func (f *stateSources) ask(now time.Time) {
	for _, o := range f.others {
		o.began, o.heard = false, now
	}
	f.wants.Store(true)
	f.beat()
	f.enter(asking, now)
}

// stopRelays ends this dispatcher's request for relays, once everything is received.
func (f *stateSources) stopRelays(now time.Time) {
	f.wants.Store(false)
	f.beat()
	f.choose(nil)
	f.enter(everything, now)
}

func (f *stateSources) allBegan() bool {
	for _, o := range f.others {
		if !o.began {
			return false
		}
	}
	return true
}

func (f *stateSources) share(now time.Time) {
	f.log.Info("the fleet is large: only the states of this dispatcher's own hosts are received from their agents, and the others from their homes",
		"hosts", len(f.hosts.known), "own", len(f.followed), "dispatchers", f.peers.count())
	f.all.close()
	f.listed = now
	f.enter(sharing, now)
	f.leaveToHomes()
	for _, x := range f.hosts.known {
		if !x.home {
			x.until = f.untilRelayed()
		}
	}
}

// untilRelayed is how long a host counts as present that another dispatcher relays: until its home could have been
// replaced, and the new one has relayed it.
func (f *stateSources) untilRelayed() time.Time { return time.Now().Add(3 * f.ttl) }

// isShared reports whether presences of hosts at home elsewhere are not received.
func (f *stateSources) isShared() bool { return f.stage == sharing }

// isRelayedHere reports whether this dispatcher relays a host: it is at home here, or was until a moment ago.
func (f *stateSources) isRelayedHere(host string) bool {
	_, yes := f.followed[host]
	return yes
}

func (f *stateSources) followedHosts() []string {
	list := make([]string, 0, len(f.followed))
	for host := range f.followed {
		list = append(list, host)
	}
	return list
}

// met takes in that a host has become known.
func (f *stateSources) met(host string, home bool) {
	if home {
		f.followed[host], f.changed = time.Time{}, true
		f.relays.whole(host)
	}
}

// dropped takes in that a host is gone.
func (f *stateSources) dropped(host string) {
	if f.isRelayedHere(host) {
		delete(f.followed, host)
		f.changed = true
		f.relays.gone(host)
	}
}

// rehome takes in that the homes have changed. A host that has come home here is read at once; one that has gone home
// elsewhere is relayed from here for one presence TTL more, since the other one may have to read first.
func (f *stateSources) rehome(now time.Time, pause func() bool) {
	var come []string
	for name, x := range f.hosts.known {
		if !pause() {
			break // another rehome goes on with the rest; the hosts that came home here so far are read
		}
		until, was := f.followed[name]
		switch {
		case x.home && (!was || !until.IsZero()):
			f.met(name, true)
			come = append(come, name)
			x.until = earlier(x.until, time.Now().Add(f.ttl))
		case !x.home && was && until.IsZero():
			f.followed[name] = now.Add(f.ttl)
			x.until = f.untilRelayed()
		}
	}
	if f.stage == sharing {
		f.follow(now)
		f.read(come)
	}
}

// follow keeps up with the hosts that are followed, and with their presences.
func (f *stateSources) follow(now time.Time) {
	for host, until := range f.followed {
		if !until.IsZero() && now.After(until) {
			delete(f.followed, host)
			f.changed = true
		}
	}
	if f.stage != choosing && f.stage != sharing {
		return
	}
	if f.changed {
		f.changed = false
		f.choose(f.followedHosts())
	}
	if f.stage != sharing {
		return
	}
	var old []string
	for host, until := range f.followed {
		if x := f.hosts.known[host]; x != nil && until.IsZero() && time.Until(x.until) < f.ttl/3 {
			old = append(old, host)
		}
	}
	f.read(old)
	if now.Sub(f.listed) >= f.ttl {
		f.listed = now
		f.list()
	}
}

// named takes in the names of hosts that are there. Those that are new and at home here are read; their home relays the others.
func (f *stateSources) named(hosts []string) {
	if f.stage != sharing {
		return
	}
	var unknown []string
	for _, host := range hosts {
		if f.hosts.known[host] == nil && f.peers.isHome(host) {
			unknown = append(unknown, host)
		}
	}
	f.read(unknown)
}
