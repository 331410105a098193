package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func (m *memory) PutTicket(_ context.Context, t *queue.Ticket) (uint64, error) {
	if err := m.effect("ticket %s", t.Job); err != nil {
		return 0, err
	}
	value, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	revision, _ := m.set(names.WaitingBucket, t.Key(), value, -1)
	return revision, nil
}

func (m *memory) Ticket(_ context.Context, key string) (t queue.Ticket, found bool, claimed time.Time, err error) {
	if err := m.effect("look for ticket %s", key); err != nil {
		return t, false, time.Time{}, err
	}
	c := m.get(names.WaitingBucket, key)
	if c.Phase == queue.Gone {
		return t, false, c.Time, nil
	}
	t, found = queue.TicketOf(c)
	return t, found, time.Time{}, nil
}

func (m *memory) Claim(_ context.Context, key string, revision uint64) (bool, error) {
	err := m.effect("claim %s", key[strings.LastIndexByte(key, '.')+1:])
	if err != nil && !errors.Is(err, errUnheard) {
		return false, err
	}
	_, won := m.set(names.WaitingBucket, key, nil, int64(revision))
	return won && err == nil, err
}

func (m *memory) TicketsSince(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(names.WaitingBucket)
	since := b.revision + 1
	for _, c := range b.keys {
		since = min(since, c.Revision)
	}
	return since, nil
}

// purgeTickets empties the waiting room without a word, as an operator does with the bucket's stream.
func (m *memory) purgeTickets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.bucket(names.WaitingBucket).keys)
}

func (m *memory) Block(_ context.Context, host string, hash workflow.Hash) (queue.Change, error) {
	c := m.get(names.BlocksBucket, pairOf(host, hash))
	return c, m.effect("look for block %s", host)
}

func (m *memory) OpenBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (bool, error) {
	if err := m.effect("block %s", host); err != nil {
		return false, err
	}
	if m.get(names.BlocksBucket, pairOf(host, hash)).Phase == queue.Put {
		return false, nil
	}
	return m.block(host, hash, value, ttl, -1), nil
}

// block lifts itself after ttl.
func (m *memory) block(host string, hash workflow.Hash, value []byte, ttl time.Duration, at int64) bool {
	revision, set := m.set(names.BlocksBucket, pairOf(host, hash), value, at)
	if set {
		time.AfterFunc(ttl, func() { m.set(names.BlocksBucket, pairOf(host, hash), nil, int64(revision)) })
	}
	return set
}

func (m *memory) ReplaceBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error) {
	err := m.effect("replace block %s", host)
	return err == nil && m.block(host, hash, value, ttl, int64(revision)), err
}

func (m *memory) LiftBlock(_ context.Context, host string, hash workflow.Hash, revision uint64, cause queue.Cause) (bool, error) {
	if err := m.effect("lift block %s %s", host, cause); err != nil {
		return false, err
	}
	_, lifted := m.set(names.BlocksBucket, pairOf(host, hash), nil, int64(revision))
	return lifted, nil
}

func (m *memory) Strikes(_ context.Context, host string, hash workflow.Hash) (queue.Change, error) {
	c := m.get(names.StrikesBucket, pairOf(host, hash))
	if c.Phase == queue.Gone {
		c.Revision = 0
	}
	return c, m.effect("look for strikes %s", host)
}

func (m *memory) PutStrikes(_ context.Context, host string, hash workflow.Hash, value []byte, _ time.Duration, revision uint64) (bool, error) {
	if err := m.effect("strike %s", host); err != nil {
		return false, err
	}
	key, at := pairOf(host, hash), int64(revision)
	if c := m.get(names.StrikesBucket, key); revision == 0 && c.Phase == queue.Gone {
		at = -1
	}
	_, stored := m.set(names.StrikesBucket, key, value, at)
	return stored, nil
}

func (m *memory) ClearStrikes(_ context.Context, host string, hash workflow.Hash, revision uint64) (bool, error) {
	if err := m.effect("forgive %s", host); err != nil {
		return false, err
	}
	_, cleared := m.set(names.StrikesBucket, pairOf(host, hash), nil, int64(revision))
	return cleared, nil
}

func (m *memory) Host(_ context.Context, host string) (queue.HostState, bool, error) {
	s, found := queue.HostStateOf(m.get(names.HostsBucket, host))
	return s, found, m.effect("look for host %s", host)
}

func (m *memory) BeatDispatcher(_ context.Context, s *queue.DispatcherState) error {
	value, err := json.Marshal(s)
	if err == nil {
		m.set(names.DispatchersBucket, s.Dispatcher, value, -1)
	}
	return err
}

func (m *memory) LeaveDispatcher(_ context.Context, name string) error {
	m.set(names.DispatchersBucket, name, nil, -1)
	return nil
}

func (m *memory) Slots(_ context.Context, tenant job.Tenant) ([]queue.Slot, uint64, error) {
	c := m.get(names.SlotsBucket, string(tenant))
	slots, _ := queue.SlotsOf(c)
	return slots, c.Revision, m.effect("look for slots %s", tenant)
}

func (m *memory) PutSlots(_ context.Context, tenant job.Tenant, slots []queue.Slot, revision uint64) (bool, error) {
	if err := m.effect("slots %s", tenant); err != nil {
		return false, err
	}
	value, err := json.Marshal(slots)
	_, stored := m.set(names.SlotsBucket, string(tenant), value, int64(revision))
	return stored, err
}

func (m *memory) WatchDispatchers(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.DispatchersBucket, tell)
}

func (m *memory) WatchHosts(ctx context.Context, tell func(queue.Change)) error {
	if m.hostsLater > 0 {
		goBy(m.hostsLater)
	}
	return m.watch(ctx, names.HostsBucket, tell)
}

func (m *memory) WatchCapabilities(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.CapabilitiesBucket, tell)
}

func (m *memory) WatchBlocks(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.BlocksBucket, tell)
}

func (m *memory) WatchStrikes(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.StrikesBucket, tell)
}

func (m *memory) WatchAffinity(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.AffinityBucket, tell)
}

func (m *memory) WatchTenants(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.TenantsBucket, tell)
}

func (m *memory) WatchGrants(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.GrantsBucket, tell)
}

func (m *memory) WatchSlots(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.SlotsBucket, tell)
}

func (m *memory) WatchTickets(ctx context.Context, tell func(queue.Change)) error {
	return m.watch(ctx, names.WaitingBucket, tell)
}
