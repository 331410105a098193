package dispatcher_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func (m *memory) PutTicket(_ context.Context, t *queue.Ticket) (revision uint64, err error) {
	value, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	err = m.write(func() { revision, _ = m.change(names.WaitingBucket, t.Key(), value, -1) }, "ticket %s", t.Job)
	return revision, err
}

func (m *memory) Ticket(_ context.Context, key string) (t queue.Ticket, found bool, claimed time.Time, err error) {
	var c queue.Entry
	if err := m.read(func() { c = m.holds(names.WaitingBucket, key) }, "look for ticket %s", key); err != nil {
		return t, false, claimed, err
	}
	if c.Phase == queue.Gone {
		return t, false, c.Time, nil
	}
	t, err = queue.TicketOf(c)
	return t, err == nil, claimed, nil
}

func (m *memory) Claim(_ context.Context, key string, revision uint64) (end uint64, err error) {
	err = m.write(func() { end, _ = m.change(names.WaitingBucket, key, nil, int64(revision)) }, "claim %s", key[strings.LastIndexByte(key, '.')+1:])
	if err != nil {
		end = 0
	}
	return end, err
}

// cas is a compare-and-set with an effect of its own; false when the key does not stand at the revision.
func (m *memory) cas(bucket, key string, value []byte, revision uint64, what string) (set bool, err error) {
	err = m.write(func() { _, set = m.change(bucket, key, value, int64(revision)) }, "%s", what)
	return set && err == nil, err
}

func (m *memory) TicketLog(context.Context) (queue.TicketLog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(names.WaitingBucket)
	log := queue.TicketLog{Made: b.made, First: b.revision + 1, Last: b.revision}
	for _, c := range b.keys {
		log.First = min(log.First, c.Revision)
	}
	return log, nil
}

func (m *memory) TicketsAfter(_ context.Context, revision uint64, tell func(queue.Change[queue.Ticket])) error {
	var found []queue.Change[queue.Ticket]
	m.ticketReads.Add(1)
	err := m.read(func() {
		for _, c := range m.bucket(names.WaitingBucket).keys {
			if c.Revision > revision {
				found = append(found, decoded(c, queue.TicketOf))
			}
		}
	}, "read tickets")
	slices.SortFunc(found, func(a, b queue.Change[queue.Ticket]) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, c := range found {
		tell(c)
	}
	return err
}

// purgeTickets empties the waiting room without a report by the watch, as when an operator purges the bucket's stream.
func (m *memory) purgeTickets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.bucket(names.WaitingBucket).keys)
}

func (m *memory) Block(_ context.Context, host string, hash workflow.Hash) (c queue.Change[route.Block], err error) {
	err = m.read(func() { c = decoded(m.holds(names.BlocksBucket, pairOf(host, hash)), queue.BlockOf) }, "look for block %s", host)
	return c, err
}

func (m *memory) OpenBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (opened bool, err error) {
	err = m.write(func() {
		if m.holds(names.BlocksBucket, pairOf(host, hash)).Phase != queue.Put {
			opened = m.block(host, hash, value, ttl, -1)
		}
	}, "block %s", host)
	return opened && err == nil, err
}

// block writes one that lifts itself after ttl. mu is held.
func (m *memory) block(host string, hash workflow.Hash, value []byte, ttl time.Duration, at int64) bool {
	revision, set := m.change(names.BlocksBucket, pairOf(host, hash), value, at)
	if set {
		time.AfterFunc(ttl, func() { m.set(names.BlocksBucket, pairOf(host, hash), nil, int64(revision)) })
	}
	return set
}

func (m *memory) ReplaceBlock(_ context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (replaced bool, err error) {
	err = m.write(func() { replaced = m.block(host, hash, value, ttl, int64(revision)) }, "replace block %s", host)
	return replaced && err == nil, err
}

func (m *memory) LiftBlock(_ context.Context, host string, hash workflow.Hash, revision uint64, cause queue.UnblockCause) (bool, error) {
	return m.cas(names.BlocksBucket, pairOf(host, hash), nil, revision, fmt.Sprintf("lift block %s %s", host, cause))
}

func (m *memory) Strikes(_ context.Context, host string, hash workflow.Hash) (c queue.Change[route.Strikes], err error) {
	err = m.read(func() { c = decoded(m.holds(names.StrikesBucket, pairOf(host, hash)), queue.StrikesOf) }, "look for strikes %s", host)
	if c.Phase == queue.Gone {
		c.Revision = 0
	}
	return c, err
}

func (m *memory) PutStrikes(_ context.Context, host string, hash workflow.Hash, value []byte, _ time.Duration, revision uint64) (stored bool, err error) {
	err = m.write(func() {
		key, at := pairOf(host, hash), int64(revision)
		if c := m.holds(names.StrikesBucket, key); revision == 0 && c.Phase == queue.Gone {
			at = -1
		}
		_, stored = m.change(names.StrikesBucket, key, value, at)
	}, "strike %s", host)
	return stored && err == nil, err
}

func (m *memory) ClearStrikes(_ context.Context, host string, hash workflow.Hash, revision uint64) (bool, error) {
	return m.cas(names.StrikesBucket, pairOf(host, hash), nil, revision, "forgive "+host)
}

func (m *memory) Host(_ context.Context, host string) (s queue.HostState, found bool, err error) {
	var c queue.Change[queue.HostState]
	err = m.read(func() { c = decoded(m.holds(names.HostsBucket, host), queue.HostStateOf) }, "look for host %s", host)
	return c.Value, err == nil && c.Phase == queue.Put, err
}

func (m *memory) BeatDispatcher(_ context.Context, s *queue.DispatcherState) error {
	if err := m.cutHere("beat " + s.Dispatcher); err != nil {
		return err
	}
	value, err := json.Marshal(s)
	if err == nil && !m.dead.Load() {
		m.set(names.DispatchersBucket, s.Dispatcher, value, -1)
	}
	return err
}

func (m *memory) LeaveDispatcher(_ context.Context, name string) error {
	if !m.dead.Load() {
		m.set(names.DispatchersBucket, name, nil, -1)
	}
	return nil
}

func (m *memory) Slots(_ context.Context, tenant job.Tenant) (slots []queue.Slot, revision uint64, err error) {
	err = m.read(func() {
		c := m.holds(names.SlotsBucket, string(tenant))
		slots, _ = queue.SlotsOf(c)
		revision = c.Revision
	}, "look for slots %s", tenant)
	return slots, revision, err
}

func (m *memory) PutSlots(_ context.Context, tenant job.Tenant, slots []queue.Slot, revision uint64) (bool, error) {
	value, err := json.Marshal(slots)
	if err != nil {
		return false, err
	}
	return m.cas(names.SlotsBucket, string(tenant), value, revision, "slots "+string(tenant))
}

func (m *memory) WatchDispatchers(ctx context.Context, tell func(queue.Change[queue.DispatcherState])) error {
	return watch(ctx, m, names.DispatchersBucket, queue.DispatcherStateOf, tell)
}

func (m *memory) WatchHosts(ctx context.Context, tell func(queue.Change[queue.HostState])) error {
	if m.hostsLater > 0 {
		goBy(m.hostsLater)
	}
	return watch(ctx, m, names.HostsBucket, queue.HostStateOf, func(c queue.Change[queue.HostState]) {
		m.reports.Add(1)
		tell(c)
	})
}

func (m *memory) WatchCapabilities(ctx context.Context, tell func(queue.Change[workflow.Capability])) error {
	return watch(ctx, m, names.CapabilitiesBucket, queue.CapabilityOf, tell)
}

func (m *memory) WatchBlocks(ctx context.Context, tell func(queue.Change[route.Block])) error {
	return watch(ctx, m, names.BlocksBucket, queue.BlockOf, tell)
}

func (m *memory) WatchStrikes(ctx context.Context, tell func(queue.Change[route.Strikes])) error {
	return watch(ctx, m, names.StrikesBucket, queue.StrikesOf, tell)
}

func (m *memory) WatchAffinity(ctx context.Context, tell func(queue.Change[queue.Affinity])) error {
	return watch(ctx, m, names.AffinityBucket, queue.AffinityOf, tell)
}

func (m *memory) WatchTenants(ctx context.Context, tell func(queue.Change[queue.TenantSettings])) error {
	return watch(ctx, m, names.TenantsBucket, queue.TenantOf, tell)
}

func (m *memory) WatchGrants(ctx context.Context, tell func(queue.Change[queue.HostGrant])) error {
	return watch(ctx, m, names.GrantsBucket, queue.GrantOf, tell)
}

func (m *memory) WatchSlots(ctx context.Context, tell func(queue.Change[[]queue.Slot])) error {
	return watch(ctx, m, names.SlotsBucket, queue.SlotsOf, func(c queue.Change[[]queue.Slot]) {
		m.slotsTold.Add(1)
		tell(c)
	})
}

func (m *memory) WatchTickets(ctx context.Context, tell func(queue.Change[queue.Ticket])) error {
	return watch(ctx, m, names.WaitingBucket, queue.TicketOf, func(c queue.Change[queue.Ticket]) {
		if c.Key != "" {
			m.ticketsTold.Add(1)
		}
		tell(c)
	})
}
