package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (m *memory) PutTicket(_ context.Context, t *jetstream.Ticket) (revision uint64, err error) {
	value, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	err = m.write(func() { revision, _ = m.change(jetstream.WaitingBucket, t.Key(), value, -1) }, "ticket %s", t.Job)
	return revision, err
}

func (m *memory) Ticket(_ context.Context, key string) (t jetstream.Ticket, found bool, claimed time.Time, err error) {
	var c jetstream.Change
	if err := m.read(func() { c = m.holds(jetstream.WaitingBucket, key) }, "look for ticket %s", key); err != nil {
		return t, false, claimed, err
	}
	if c.Phase == jetstream.Gone {
		return t, false, c.Time, nil
	}
	t, found = jetstream.TicketOf(c)
	return t, found, claimed, nil
}

func (m *memory) Claim(_ context.Context, key string, revision uint64) (bool, error) {
	return m.cas(jetstream.WaitingBucket, key, nil, revision, "claim "+key[strings.LastIndexByte(key, '.')+1:])
}

// cas is a compare-and-set with an effect of its own; false when the key does not stand at the revision.
func (m *memory) cas(bucket, key string, value []byte, revision uint64, what string) (set bool, err error) {
	err = m.write(func() { _, set = m.change(bucket, key, value, int64(revision)) }, "%s", what)
	return set && err == nil, err
}

func (m *memory) TicketsSince(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(jetstream.WaitingBucket)
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
	clear(m.bucket(jetstream.WaitingBucket).keys)
}

func (m *memory) Block(_ context.Context, host string, hash workflow.Hash) (c jetstream.Change, err error) {
	err = m.read(func() { c = m.holds(jetstream.BlocksBucket, pairOf(host, hash)) }, "look for block %s", host)
	return c, err
}

func (m *memory) OpenBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (opened bool, err error) {
	err = m.write(func() {
		if m.holds(jetstream.BlocksBucket, pairOf(host, hash)).Phase != jetstream.Put {
			opened = m.block(host, hash, value, ttl, -1)
		}
	}, "block %s", host)
	return opened && err == nil, err
}

// block writes one that lifts itself after ttl. mu is held.
func (m *memory) block(host string, hash workflow.Hash, value []byte, ttl time.Duration, at int64) bool {
	revision, set := m.change(jetstream.BlocksBucket, pairOf(host, hash), value, at)
	if set {
		time.AfterFunc(ttl, func() { m.set(jetstream.BlocksBucket, pairOf(host, hash), nil, int64(revision)) })
	}
	return set
}

func (m *memory) ReplaceBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (replaced bool, err error) {
	err = m.write(func() { replaced = m.block(host, hash, value, ttl, int64(revision)) }, "replace block %s", host)
	return replaced && err == nil, err
}

func (m *memory) LiftBlock(_ context.Context, host string, hash workflow.Hash, revision uint64, cause jetstream.Cause) (bool, error) {
	return m.cas(jetstream.BlocksBucket, pairOf(host, hash), nil, revision, fmt.Sprintf("lift block %s %s", host, cause))
}

func (m *memory) Strikes(_ context.Context, host string, hash workflow.Hash) (c jetstream.Change, err error) {
	err = m.read(func() { c = m.holds(jetstream.StrikesBucket, pairOf(host, hash)) }, "look for strikes %s", host)
	if c.Phase == jetstream.Gone {
		c.Revision = 0
	}
	return c, err
}

func (m *memory) PutStrikes(_ context.Context, host string, hash workflow.Hash, value []byte, _ time.Duration, revision uint64) (stored bool, err error) {
	err = m.write(func() {
		key, at := pairOf(host, hash), int64(revision)
		if c := m.holds(jetstream.StrikesBucket, key); revision == 0 && c.Phase == jetstream.Gone {
			at = -1
		}
		_, stored = m.change(jetstream.StrikesBucket, key, value, at)
	}, "strike %s", host)
	return stored && err == nil, err
}

func (m *memory) ClearStrikes(_ context.Context, host string, hash workflow.Hash, revision uint64) (bool, error) {
	return m.cas(jetstream.StrikesBucket, pairOf(host, hash), nil, revision, "forgive "+host)
}

func (m *memory) Host(_ context.Context, host string) (s jetstream.HostState, found bool, err error) {
	err = m.read(func() { s, found = jetstream.HostStateOf(m.holds(jetstream.HostsBucket, host)) }, "look for host %s", host)
	return s, found, err
}

func (m *memory) BeatDispatcher(_ context.Context, s *jetstream.DispatcherState) error {
	value, err := json.Marshal(s)
	if err == nil && !m.dead.Load() {
		m.set(jetstream.DispatchersBucket, s.Dispatcher, value, -1)
	}
	return err
}

func (m *memory) LeaveDispatcher(_ context.Context, name string) error {
	if !m.dead.Load() {
		m.set(jetstream.DispatchersBucket, name, nil, -1)
	}
	return nil
}

func (m *memory) Slots(_ context.Context, tenant job.Tenant) (slots []jetstream.Slot, revision uint64, err error) {
	err = m.read(func() {
		c := m.holds(jetstream.SlotsBucket, string(tenant))
		slots, _ = jetstream.SlotsOf(c)
		revision = c.Revision
	}, "look for slots %s", tenant)
	return slots, revision, err
}

func (m *memory) PutSlots(_ context.Context, tenant job.Tenant, slots []jetstream.Slot, revision uint64) (bool, error) {
	value, err := json.Marshal(slots)
	if err != nil {
		return false, err
	}
	return m.cas(jetstream.SlotsBucket, string(tenant), value, revision, "slots "+string(tenant))
}

func (m *memory) WatchDispatchers(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.DispatchersBucket, tell)
}

func (m *memory) WatchHosts(ctx context.Context, tell func(jetstream.Change)) error {
	if m.hostsLater > 0 {
		goBy(m.hostsLater)
	}
	return m.watch(ctx, jetstream.HostsBucket, tell)
}

func (m *memory) WatchCapabilities(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.CapabilitiesBucket, tell)
}

func (m *memory) WatchBlocks(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.BlocksBucket, tell)
}

func (m *memory) WatchStrikes(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.StrikesBucket, tell)
}

func (m *memory) WatchAffinity(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.AffinityBucket, tell)
}

func (m *memory) WatchTenants(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.TenantsBucket, tell)
}

func (m *memory) WatchGrants(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.GrantsBucket, tell)
}

func (m *memory) WatchSlots(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.SlotsBucket, tell)
}

func (m *memory) WatchTickets(ctx context.Context, tell func(jetstream.Change)) error {
	return m.watch(ctx, jetstream.WaitingBucket, tell)
}
