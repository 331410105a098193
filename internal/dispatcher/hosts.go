package dispatcher

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// hosts holds what agents report of their hosts, in presences and in broadcasts between them. The newest state of each
// goes to the fleet, from which hosts are chosen.
//
// If another dispatcher is a host's home, a slot that is freed there is used here only after the head start, or at once
// when no job waits.
type hosts struct {
	fleet    *route.Fleet
	grants   *grants
	rests    *hostRests
	peers    *peers
	changes  *changes
	alarms   *alarms
	log      *slog.Logger
	ttl      time.Duration                                        // of a presence
	jobsWait func() bool                                          // here or in the stream
	jobEnded func(host string, s *queue.HostState, now time.Time) // called for each state that names a job which has ended; apply is what frees the slot
	gone     func(host string)                                    // called when a presence has ended
	relays   *relays
	sources  *stateSources

	known map[string]*host
	names []string    // of those, sorted
	runs  []route.Run // room for those of one host
}

// host is what is known of a host.
type host struct {
	state     queue.HostState
	until     time.Time // its presence lasts until then by the local clock, unless a heartbeat comes
	home      bool
	held      *queue.HostState // a newer state that counts after the head start; nil when there is none
	heldSince time.Time
	freeSince time.Time // it has had room for jobs since then; zero while it has none
	open      bool      // other dispatchers than its home may give it waiting jobs
	ended     stateID   // of the newest state that named a job which had ended
}

// stateID identifies a state of a host, by its agent process and number.
type stateID struct {
	instance string
	serial   uint64
}

func newHosts(h hosts) *hosts {
	h.known = map[string]*host{}
	return &h
}

// presence takes in a presence that was stored at a time.
func (h *hosts) presence(s *queue.HostState, stored, now time.Time) {
	if x := h.known[s.Host]; x != nil && x.state.Instance != s.Instance {
		// A presence of another agent process replaces the state, whatever the time in it: the order in the bucket is right, and
		// clocks may not be.
		x.state.Time, x.held = time.Time{}, nil
	}
	h.report(s, now)
	h.known[s.Host].until = time.Now().Add(left(stored, now, h.ttl))
}

// left is how much longer a presence lasts: it may have been stored a while ago.
func left(stored, now time.Time, ttl time.Duration) time.Duration {
	if stored.IsZero() {
		return ttl
	}
	return min(max(ttl-now.Sub(stored), 0), ttl)
}

// report takes in what an agent reports of its host.
func (h *hosts) report(s *queue.HostState, now time.Time) {
	x := h.known[s.Host]
	if x == nil {
		h.meet(s, now)
		return
	}
	newest := x.newest()
	isNewer, relayed := newer(newest, s), h.sources.isRelayedHere(s.Host)
	if s.Ended != nil && (isNewer || x.endedBefore(s)) {
		x.ended = stateID{s.Instance, s.Serial}
		if relayed {
			h.relays.jobEnded(s)
		}
		if h.grants.serves(s.Host, s.Ended.Tenant) {
			h.jobEnded(s.Host, s, now)
		}
	}
	if !isNewer {
		return
	}
	whole := s.Completed(newest)
	if relayed && !alike(newest, &whole) {
		h.relays.state(s.Host)
	}
	if x.home || !h.jobsWait() || spare(&whole) <= spare(&x.state) {
		h.apply(x, &whole, now)
		return
	}
	x.heldSince = now
	if x.held == nil {
		x.held = &queue.HostState{}
		h.alarms.at(now.Add(h.peers.headStart()), func(now time.Time) { h.applyHeld(x, now) })
	}
	*x.held = whole
}

// meet takes in the first state of a host.
func (h *hosts) meet(s *queue.HostState, now time.Time) {
	if s.Brief {
		return // its presence follows
	}
	x := &host{home: h.peers.isHome(s.Host), until: time.Now().Add(h.ttl)}
	h.known[s.Host] = x
	at, _ := slices.BinarySearch(h.names, s.Host)
	h.names = slices.Insert(h.names, at, s.Host)
	h.log.Info("a host is present", "host", s.Host, "state", s.State, "slots", s.Slots, "comfyui", s.Version)
	h.sources.met(s.Host, x.home)
	h.apply(x, s, now)
}

// newest is the newest state, which may still be held back.
func (x *host) newest() *queue.HostState {
	if x.held != nil {
		return x.held
	}
	return &x.state
}

// endedBefore reports whether a state names a job whose end was not taken in, although a newer state was: the answer to an
// offer may come before a broadcast that was sent earlier.
func (x *host) endedBefore(s *queue.HostState) bool {
	return s.Instance == x.state.Instance && (x.ended.instance != s.Instance || x.ended.serial < s.Serial)
}

// newer reports whether s is a later state of the same host than old: an agent process numbers its states, and of two
// processes the one that began to report later is newer.
func newer(old, s *queue.HostState) bool {
	if old.Instance == s.Instance {
		return s.Serial > old.Serial
	}
	return s.Time.After(old.Time)
}

// spare is how many more jobs a host would take.
func spare(s *queue.HostState) int {
	if s.State != queue.Online {
		return 0
	}
	return max(0, s.Slots+s.Prefetch-s.Foreign-len(s.Running))
}

// applyHeld applies a state that was held back, once it has lasted for the head start.
func (h *hosts) applyHeld(x *host, now time.Time) {
	if x.held == nil || h.known[x.state.Host] != x {
		return
	}
	if left := h.peers.headStart() - now.Sub(x.heldSince); left > 0 {
		h.alarms.at(now.Add(left), func(now time.Time) { h.applyHeld(x, now) })
		return
	}
	h.apply(x, x.held, now)
}

func (h *hosts) apply(x *host, s *queue.HostState, now time.Time) {
	if s.State != x.state.State || !slices.Equal(s.Labels, x.state.Labels) {
		h.changes.all()
	}
	x.held = nil
	x.state = *s
	x.state.Ended = nil
	switch {
	case spare(&x.state) == 0:
		x.freeSince, x.open = time.Time{}, false
	case x.freeSince.IsZero():
		x.freeSince = now
	}
	h.put(x, now)
	h.changes.host(s.Host)
}

// put gives the fleet what is known of a host.
func (h *hosts) put(x *host, now time.Time) {
	s := &x.state
	h.runs = h.runs[:0]
	slots, prefetch := h.grants.capped(s)
	for i := range s.Running[:min(len(s.Running), 2*h.grants.most(s.Host))] {
		r := &s.Running[i]
		if !h.grants.serves(s.Host, r.Tenant) {
			continue
		}
		h.runs = append(h.runs, route.Run{
			Tenant: route.Tenant(r.Tenant), Job: route.JobID(r.Job), Priority: int(r.Priority), Hash: r.Hash, Since: r.Since,
		})
	}
	if s.Trial {
		slots, prefetch = min(slots, 1), 0
	}
	state := route.HostState{
		ID: route.HostID(s.Host), State: route.Availability(s.State), Slots: slots, Prefetch: prefetch, Running: h.runs,
		Foreign: s.Foreign, Labels: s.Labels, Memory: s.Memory, Recent: s.Recent, Home: x.home, Open: x.open, Blame: h.grants.blame(s),
	}
	h.rests.apply(&state, now)
	h.fleet.PutHost(state)
}

// again gives the fleet a host once more, since something beside its state has changed.
func (h *hosts) again(name string, now time.Time) (known bool) {
	x := h.known[name]
	if x != nil {
		h.put(x, now)
	}
	return x != nil
}

// restChanged takes in that a host rests, or does not any more.
func (h *hosts) restChanged(name string, now time.Time) {
	if h.again(name, now) {
		h.changes.host(name)
		h.changes.reasons = true
	}
}

// rehome finds out again of which hosts this dispatcher is the home, until pause returns false.
func (h *hosts) rehome(now time.Time, pause func() bool) {
	for name, x := range h.known {
		if home := h.peers.isHome(name); home != x.home {
			x.home = home
			h.put(x, now)
		}
		if !pause() {
			return
		}
	}
}

// suspend gives a host no jobs until it reports anew, since its agent does not answer, or refuses a job although it has room.
func (h *hosts) suspend(name string, now time.Time) {
	if x := h.known[name]; x != nil {
		x.state.State, x.state.Reason = queue.Unhealthy, "its agent does not take offers"
		h.put(x, now)
	}
}

// drop forgets a host whose presence has ended. An agent that stops in order announces that itself.
func (h *hosts) drop(name string) {
	if h.forget(name) {
		h.gone(name)
	}
}

// forget is drop without an announcement. It reports whether the host was known.
func (h *hosts) forget(name string) bool {
	x := h.known[name]
	if x == nil {
		return false
	}
	delete(h.known, name)
	at, _ := slices.BinarySearch(h.names, name)
	h.names = slices.Delete(h.names, at, at+1)
	h.sources.dropped(name)
	h.fleet.RemoveHost(route.HostID(name))
	h.changes.all() // a tenant with hostsDownMost unhealthy hosts gets none; if this was one of them, its jobs may run again
	h.log.Warn("a host is gone", "host", name, "running", len(x.state.Running))
	return true
}

// expire drops the hosts whose presence should have ended a second ago, in case the watch has not reported that it did. It
// goes by the local clock, which does not jump when NATS' time is measured anew after the machine has slept.
func (h *hosts) expire(local time.Time, pause func() bool) {
	for name, x := range h.known {
		if local.After(x.until.Add(time.Second)) {
			h.drop(name)
		}
		if !pause() {
			return
		}
	}
}

func (h *hosts) keys() []string { return slices.Collect(maps.Keys(h.known)) }

// isHome reports whether this dispatcher is the home of a host that is known.
func (h *hosts) isHome(name string) bool {
	x := h.known[name]
	return x != nil && x.home
}

// state is the newest of a host; nil when it is not known.
func (h *hosts) state(name string) *queue.HostState {
	if x := h.known[name]; x != nil {
		return &x.state
	}
	return nil
}

// isBack reports whether a host takes jobs as usual.
func (h *hosts) isBack(name string) bool {
	s := h.state(name)
	return s != nil && s.State == queue.Online && !s.Trial
}

// hostsAfter gives the names of the first hosts that come after one, sorted.
func (h *hosts) hostsAfter(after string, most int) []string {
	at, found := slices.BinarySearch(h.names, after)
	if found {
		at++
	}
	return slices.Clone(h.names[at:min(len(h.names), at+most)])
}

// runsFor reports whether the host of a tenant's slot says that it runs the slot's job.
func (h *hosts) runsFor(tenant job.Tenant, slot queue.Slot) bool {
	s := h.state(slot.Host)
	return s != nil && slices.ContainsFunc(s.Running, func(r queue.RunningJob) bool {
		return r.Job == slot.Job && r.Tenant == tenant
	})
}

// openIdle opens hosts that have had room for long, until pause returns false. Their homes may be dying, starting or stopping, and no job
// waits for that: the second dispatcher in a host's order may use it after route.LeaveTime, the third after twice that, and so on. In a
// large fleet a home that fails is noticed by its relays.
func (h *hosts) openIdle(now time.Time, pause func() bool) {
	for name, x := range h.known {
		wait := time.Duration(h.peers.hostRank(name)) * route.LeaveTime
		if !x.home && !x.open && !x.freeSince.IsZero() && !h.sources.isShared() && now.Sub(x.freeSince) >= wait {
			x.open = true
			h.put(x, now)
			h.changes.host(name)
		}
		if !pause() {
			return
		}
	}
}
