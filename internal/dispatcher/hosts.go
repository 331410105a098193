package dispatcher

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// hostView is the newest that is known of a host.
type hostView struct {
	state     queue.HostState
	until     time.Time // its presence stands until then by the local clock, unless a heartbeat comes
	home      bool
	held      *queue.HostState // a newer state that waits for the head start of the host's home
	heldSince time.Time
}

// putHost tells the fleet what is known of a host.
func (b *brain) putHost(h *hostView) {
	s := &h.state
	b.running = b.running[:0]
	slots, prefetch := b.grants.capped(s)
	for i := range s.Running[:min(len(s.Running), 2*b.grants.most(s.Host))] {
		r := &s.Running[i]
		if !b.grants.serve(s.Host, r.Tenant) {
			continue
		}
		b.running = append(b.running, route.Run{
			Tenant: route.Tenant(r.Tenant), Job: route.JobID(r.Job), Priority: int(r.Priority), Hash: r.Hash, Since: r.Since,
		})
	}
	if s.Trial {
		slots, prefetch = min(slots, 1), 0
	}
	state := route.HostState{
		ID: route.HostID(s.Host), State: route.Availability(s.State), Slots: slots, Prefetch: prefetch, Running: b.running,
		Foreign: s.Foreign, Labels: s.Labels, Memory: s.Memory, Recent: s.Recent, Home: h.home, Blame: b.grants.blame(s),
	}
	b.promises.restingIn(&state, b.last)
	b.fleet.PutHost(state)
}

// left is how much longer a presence stands: it may have been stored a while before it is heard.
func left(c queue.Change, now time.Time, ttl time.Duration) time.Duration {
	if c.Time.IsZero() {
		return ttl
	}
	return min(max(ttl-now.Sub(c.Time), 0), ttl)
}

// newer reports whether s is a later word of the same host than old: the same agent process counts its states, and
// another process is newer when it began to speak later.
func newer(old, s *queue.HostState) bool {
	if old.Instance == s.Instance {
		return s.Serial > old.Serial
	}
	return s.Time.After(old.Time)
}

func (b *brain) hearHost(c queue.Change) {
	b.mirror(hostSource, c, func(c queue.Change, now time.Time) {
		s, ok := b.presenceOf(c)
		if !ok {
			return
		}
		if h := b.hosts[s.Host]; h != nil && h.state.Instance != s.Instance {
			h.state.Time, h.held = time.Time{}, nil // NATS's order counts between two agents, not their clocks
		}
		b.hearStateNow(&s, now)
		h := b.hosts[s.Host]
		h.until = time.Now().Add(left(c, now, b.d.q.PresenceTTL()))
	}, func(c queue.Change, now time.Time) { b.dropHost(c.Key, now) },
		func() []string { return slices.Collect(maps.Keys(b.hosts)) })
}

// presenceOf reads a presence. A brief one is none: it would leave out what nobody has told before.
func (b *brain) presenceOf(c queue.Change) (queue.HostState, bool) {
	s, ok := queue.HostStateOf(c)
	why := "it is no state of the host " + c.Key
	switch {
	case ok && s.Brief:
		why = "it is a brief state, which nothing stands for that it leaves out"
	case ok:
		why = oddState(&s)
	}
	if why != "" {
		b.odd.tell(b.d.log, names.HostsBucket, c.Key, why)
		return s, false
	}
	b.odd.well(names.HostsBucket, c.Key)
	return s, true
}

func (b *brain) hearState(s queue.HostState) {
	b.tell(func(now time.Time) { b.hearStateNow(&s, now) })
}

// hearStateNow takes a host's word. While jobs wait, here or in the stream, one that frees a slot of a host that is at
// home elsewhere counts when the slot has stayed free for the head start: until then it is its home dispatcher's.
func (b *brain) hearStateNow(s *queue.HostState, now time.Time) {
	if why := oddState(s); why != "" {
		b.odd.tell(b.d.log, "a state that was broadcast", s.Host, why)
		return
	}
	h := b.hosts[s.Host]
	if h == nil {
		if s.Brief {
			return // its presence follows
		}
		h = &hostView{home: b.isHome(s.Host), until: time.Now().Add(b.d.q.PresenceTTL())}
		b.hosts[s.Host] = h
		b.d.log.Info("a host is there", "host", s.Host, "state", s.State, "slots", s.Slots, "comfyui", s.Version)
		b.apply(h, s)
		return
	}
	newest := &h.state
	if h.held != nil {
		newest = h.held
	}
	if !newer(newest, s) {
		return
	}
	b.charge(s, now)
	whole := s.Completed(newest)
	if h.home || b.waiting.Len() == 0 && !b.line.some() || spare(&whole) <= spare(&h.state) {
		b.apply(h, &whole)
		return
	}
	h.heldSince = now
	if h.held == nil {
		h.held = &queue.HostState{}
		b.at(now.Add(b.headStart()), func(now time.Time) { b.showHeld(h, now) })
	}
	*h.held = whole
}

// spare is how many more jobs a host would take.
func spare(s *queue.HostState) int {
	if s.State != queue.Online {
		return 0
	}
	return max(0, s.Slots+s.Prefetch-s.Foreign-len(s.Running))
}

// showHeld applies a state that was held back, once it has stood for the head start.
func (b *brain) showHeld(h *hostView, now time.Time) {
	if h.held == nil || b.hosts[h.state.Host] != h {
		return
	}
	if left := b.headStart() - now.Sub(h.heldSince); left > 0 {
		b.at(now.Add(left), func(now time.Time) { b.showHeld(h, now) })
		return
	}
	b.apply(h, h.held)
}

func (b *brain) apply(h *hostView, s *queue.HostState) {
	if s.State != h.state.State || !slices.Equal(s.Labels, h.state.Labels) {
		b.review = true
		b.dirty = true
	}
	h.held = nil
	h.state = *s
	h.state.Ended = nil
	b.putHost(h)
	b.dirtyHosts[route.HostID(s.Host)] = true
}

// charge learns from a run that has ended.
func (b *brain) charge(s *queue.HostState, now time.Time) {
	e := s.Ended
	if e == nil || !b.grants.serve(s.Host, e.Tenant) {
		return
	}
	b.promises.ended(s.Host, e)
	ran := time.Duration(e.RanFor)
	b.waiting.Charge(route.Tenant(e.Tenant), int(e.Priority), ran.Seconds(), now)
	b.runs.observe(ran)
	b.line.slow.Store(b.runs.mean >= tinyRun)
	b.slotEnded(e)
	if !e.Success {
		b.suspect(s.Host, e, now)
		return
	}
	b.memory.succeeded(s.Host, e, now)
	for _, load := range e.Loads {
		b.fleet.ObserveLoad(load.Files, time.Duration(load.Took))
	}
	b.fleet.ObserveRun(e.Hash, route.HostID(s.Host), ran)
	if b.struck[pair{s.Host, e.Hash}] {
		host, ended, at := s.Host, *e, s.Time
		b.walk(func(ctx context.Context) {
			if err := b.d.succeeded(ctx, host, &ended, at); err != nil {
				b.d.log.Warn("a success could not be counted", "host", host, "hash", ended.Hash.Short(), "error", err)
			}
		})
	}
}

// suspend takes a host whose agent does not answer, or would not have a job although it has room, out of the
// choice until it speaks again.
func (b *brain) suspend(host string) {
	if h := b.hosts[host]; h != nil {
		h.state.State, h.state.Reason = queue.Unhealthy, "its agent does not take offers"
		b.putHost(h)
	}
}

// dropHost forgets a host whose presence has ended. Its agent announces a graceful end itself.
func (b *brain) dropHost(host string, _ time.Time) {
	h := b.hosts[host]
	if h == nil {
		return
	}
	delete(b.hosts, host)
	b.fleet.RemoveHost(route.HostID(host))
	b.dirty, b.review = true, true // a tenant whose job took it down may get another host
	b.d.log.Warn("a host is gone", "host", host, "running", len(h.state.Running))
	b.walk(func(ctx context.Context) {
		if err := b.d.q.AnnounceHost(ctx, host, queue.HostOffline, "its presence ended"); err != nil {
			b.d.log.Debug("announce host", "host", host, "error", err)
		}
	})
}

// expirePresence ends what no heartbeat keeps, in case NATS's own word for it was missed. It goes by the local clock, which
// does not leap when NATS' time is measured anew after the machine has slept.
func (b *brain) expirePresence(now time.Time) {
	local := time.Now()
	b.d.metrics.hosts.Set(float64(len(b.hosts)))
	b.d.metrics.blocks.Set(float64(len(b.blocked)))
	b.d.metrics.waiting.Set(float64(b.depth.Load()))
	for host, h := range b.hosts {
		if local.After(h.until.Add(time.Second)) {
			b.dropHost(host, now)
		}
	}
	for name, until := range b.dispatchers {
		if local.After(until.Add(time.Second)) {
			delete(b.dispatchers, name)
			b.rehome()
		}
	}
}

// announceAbsent announces the hosts that went while no dispatcher was there to see it: their last event says
// something else than offline, and no presence stands.
func (d *Dispatcher) announceAbsent(ctx context.Context) {
	states, err := d.q.HostStates(ctx)
	if err != nil {
		d.log.Warn("cannot look for hosts that went unseen", "error", err)
		return
	}
	for host, last := range states {
		if last == queue.HostOffline {
			continue
		}
		_, there, err := d.q.Host(ctx, host)
		if err == nil && !there {
			err = d.q.AnnounceHost(ctx, host, queue.HostOffline, "its presence ended while no dispatcher was there")
		}
		if err != nil {
			d.log.Warn("cannot look for hosts that went unseen", "host", host, "error", err)
		}
	}
}
