package dispatcher

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// relays gathers what this dispatcher receives of the hosts that it relays, and sends it to the other dispatchers as
// long as one of them wants it. See docs/architecture.md.
type relays struct {
	name   string
	ttl    time.Duration
	alarms *alarms
	peers  *peers
	newest func(host string) *queue.HostState // nil when the host is not known
	send   func(queue.Relay) bool             // false: too many are waiting to be sent

	wanted  bool
	hosts   func() []string // all that are relayed
	due     bool            // an alarm for the next one is set
	ended   []queue.HostState
	dirty   map[string]bool // true: in full
	left    []string        // hosts whose presences have ended
	tickets []queue.Change[queue.Ticket]
	refresh []string // hosts that are still to be sent in full in this round
}

const (
	relayPauseEach  = 5 * time.Millisecond // of the time between two relays, for each dispatcher
	relayPauseLeast = 50 * time.Millisecond
	relayPauseMost  = time.Second
	relaysWaiting   = 64 // to be sent
)

func newRelays(r relays) *relays {
	r.dirty = map[string]bool{}
	return &r
}

// pause is the time between two relays: each dispatcher receives no more than 200 in a second.
func (r *relays) pause() time.Duration {
	return min(max(time.Duration(r.peers.count())*relayPauseEach, relayPauseLeast), relayPauseMost)
}

// want takes in whether another dispatcher needs relays. The first relay has the whole states of all hosts.
func (r *relays) want(wanted bool, hosts func() []string, now time.Time) {
	if r.wanted == wanted {
		return
	}
	r.wanted, r.hosts = wanted, hosts
	r.ended, r.dirty, r.left, r.refresh, r.tickets = nil, map[string]bool{}, nil, nil, nil
	if wanted {
		for _, host := range hosts() {
			r.dirty[host] = true
		}
		r.soon(now)
	}
}

// jobEnded takes in that a job has left the GPU of a host that is relayed here.
func (r *relays) jobEnded(s *queue.HostState) {
	if r.wanted {
		r.ended = append(r.ended, s.Abridged())
		r.state(s.Host)
	}
}

// ticket takes in a change of a ticket that this dispatcher has made.
func (r *relays) ticket(c queue.Change[queue.Ticket]) {
	if r.wanted {
		r.tickets = append(r.tickets, c)
	}
}

// state takes in that a host that is relayed here has changed.
func (r *relays) state(host string) {
	if _, noted := r.dirty[host]; r.wanted && !noted {
		r.dirty[host] = false
	}
}

// whole has the whole state of a host relayed.
func (r *relays) whole(host string) {
	if r.wanted {
		r.dirty[host] = true
	}
}

func (r *relays) gone(host string) {
	if r.wanted {
		delete(r.dirty, host)
		r.left = append(r.left, host)
	}
}

// look has some hosts sent in full, so that each is once in a presence TTL, and one relay a second in any case: it shows the others
// that this dispatcher relays.
func (r *relays) look(now time.Time) {
	if !r.wanted {
		return
	}
	hosts := r.hosts()
	if len(r.refresh) == 0 {
		r.refresh = hosts
	}
	rounds := max(int(r.ttl/sourcesLook)-1, 1)
	n := min((len(hosts)+rounds-1)/rounds, len(r.refresh))
	for _, host := range r.refresh[:n] {
		r.dirty[host] = true
	}
	r.refresh = r.refresh[n:]
	r.soon(now)
}

// step has what was gathered sent after the pause.
func (r *relays) step(now time.Time) {
	if r.wanted && len(r.ended)+len(r.dirty)+len(r.left)+len(r.tickets) > 0 {
		r.soon(now)
	}
}

func (r *relays) soon(now time.Time) {
	if !r.due {
		r.due = true
		r.alarms.at(now.Add(r.pause()), r.flush)
	}
}

func (r *relays) flush(time.Time) {
	r.due = false
	if !r.wanted {
		return
	}
	batch := queue.Relay{From: r.name, Gone: r.left, States: r.ended, Tickets: r.tickets}
	told := map[string]uint64{}
	for i := range r.ended {
		told[r.ended[i].Host] = r.ended[i].Serial
	}
	for _, host := range slices.Sorted(maps.Keys(r.dirty)) {
		s := r.newest(host)
		if s == nil || !r.dirty[host] && s.Serial == told[host] {
			continue
		}
		state := *s
		state.Ended = nil
		if !r.dirty[host] {
			state = state.Abridged()
		}
		batch.States = append(batch.States, state)
	}
	if r.send(batch) {
		r.ended, r.left, r.tickets = nil, nil, nil
		clear(r.dirty)
	}
}

// alike reports whether two states of a host say the same, apart from their numbers and what only a full state has.
func alike(a, b *queue.HostState) bool {
	return a.Instance == b.Instance && a.State == b.State && a.Reason == b.Reason && a.Trial == b.Trial && a.Slots == b.Slots &&
		a.Prefetch == b.Prefetch && a.Foreign == b.Foreign && slices.EqualFunc(a.Running, b.Running, func(x, y queue.RunningJob) bool {
		return x.Job == y.Job && x.Tenant == y.Tenant && x.Attempt == y.Attempt
	})
}

// relayed takes in what another dispatcher says of a host.
func (h *hosts) relayed(s *queue.HostState, now time.Time) {
	h.report(s, now)
	if x := h.known[s.Host]; x != nil && !x.home && h.sources.isShared() {
		x.until = h.sources.untilRelayed()
	}
}

// relayedGone forgets a host that is gone according to its home, which announces that.
func (h *hosts) relayedGone(name string) {
	if x := h.known[name]; x != nil && !x.home && h.sources.isShared() {
		h.forget(name)
	}
}

// relayReceived takes in what another dispatcher relays.
func (l *loop) relayReceived(r queue.Relay) {
	if r.From == l.d.cfg.Name {
		return
	}
	l.tell(func(now time.Time) {
		l.sources.relayed(r.From, now)
		for i := range r.States {
			l.hosts.relayed(&r.States[i], now)
		}
		for _, host := range r.Gone {
			l.hosts.relayedGone(host)
		}
	})
	for tickets := range slices.Chunk(r.Tickets, 32) { // a turn is to be short
		l.tell(func(now time.Time) {
			if !l.sources.takesTickets() {
				return
			}
			for _, c := range tickets {
				l.news.received(c, now)
			}
		})
	}
}

// relayLoop sends relays, one after the other.
func (l *loop) relayLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-l.outgoing:
			if err := l.d.q.Relay(&r); err != nil {
				l.d.log.Debug("cannot relay the states of hosts; they are sent again within a presence TTL", "error", err)
			}
		}
	}
}

// relaySoon hands a relay to relayLoop.
func (l *loop) relaySoon(r queue.Relay) bool {
	select {
	case l.outgoing <- r:
		return true
	default:
		return false
	}
}

// whileAll runs a watch of all hosts as long as everything is received.
func (l *loop) whileAll(watch func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error { return l.sources.all.whileOpen(ctx, watch) }
}

// hostNamed takes in the name of a host whose agent has started.
func (l *loop) hostNamed(host string) {
	l.tell(func(time.Time) { l.sources.named([]string{host}) })
}

// followChosen hands the list of hosts whose agents are followed to FollowChosen, in place of an older one.
func (l *loop) followChosen(hosts []string) {
	select {
	case <-l.chosen:
	default:
	}
	l.chosen <- hosts // there is room: only this goroutine sends
}

// readPresences reads the presences of hosts, and takes them in as their watch would give them.
func (l *loop) readPresences(hosts []string) {
	if len(hosts) == 0 {
		return
	}
	l.walk(func(ctx context.Context) {
		var g errgroup.Group
		g.SetLimit(readMost)
		for _, host := range hosts {
			g.Go(func() error {
				c, err := l.d.q.Presence(ctx, host)
				if err != nil {
					l.d.log.Debug("cannot read the presence of a host; it is read again in a second", "host", host, "error", err)
					return nil
				}
				l.tell(func(now time.Time) { l.presences.change(c, now) })
				return nil
			})
		}
		_ = g.Wait() // these functions return no errors
	})
}

// listHosts reads the names of all hosts, so that none is missed whose event was lost.
func (l *loop) listHosts() {
	l.walk(func(ctx context.Context) {
		hosts, err := l.d.q.HostNames(ctx)
		if err != nil {
			l.d.log.Warn("cannot list the hosts; new ones may be missed until the next list", "error", err)
			return
		}
		l.tell(func(time.Time) { l.sources.named(hosts) })
	})
}
