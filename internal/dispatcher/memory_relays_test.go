package dispatcher_test

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func (m *memory) Presence(_ context.Context, host string) (c queue.Change[queue.HostState], err error) {
	m.locked(func() { c = decoded(m.holds(names.HostsBucket, host), queue.HostStateOf) })()
	return c, nil
}

func (m *memory) HostNames(context.Context) (hosts []string, err error) {
	m.locked(func() {
		for host, c := range m.bucket(names.HostsBucket).keys {
			if c.Phase == queue.Put {
				hosts = append(hosts, host)
			}
		}
	})()
	return hosts, nil
}

func (m *memory) Relay(r *queue.Relay) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead.Load() || m.mute.Load() {
		return nil
	}
	for _, tell := range m.relays {
		tell(queue.Relay{From: r.From, Gone: slices.Clone(r.Gone), States: slices.Clone(r.States), Tickets: slices.Clone(r.Tickets)})
	}
	return nil
}

func (m *memory) FollowRelays(ctx context.Context, tell func(queue.Relay)) error {
	return follow(ctx, m, m.relays, func(r queue.Relay) {
		if !m.deaf.Load() {
			m.relayed.Add(1)
			tell(r)
		}
	})
}

func (m *memory) FollowHostNames(ctx context.Context, tell func(string)) error {
	return follow(ctx, m, m.starts, tell)
}

// FollowChosen notes how many states it passes on.
func (m *memory) FollowChosen(ctx context.Context, chosen <-chan []string, tell func(queue.HostState)) error {
	var mu sync.Mutex
	var hosts []string
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case list := <-chosen:
				mu.Lock()
				hosts = list
				mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
	return follow(ctx, m, m.states, func(s queue.HostState) {
		mu.Lock()
		yes := slices.Contains(hosts, s.Host)
		mu.Unlock()
		if yes {
			tell(s)
		}
	})
}

func (m *memory) AnnounceHost(_ context.Context, host string, kind queue.HostEventKind, _ string) error {
	return m.write(func() {}, "announce %s %s", host, kind)
}

func (m *memory) HostStates(context.Context) (states map[string]queue.HostEventKind, err error) {
	err = m.read(func() { states = maps.Clone(m.seen) }, "look for host states")
	return states, err
}
