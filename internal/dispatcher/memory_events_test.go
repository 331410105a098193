package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Append is the compare-and-set of a chain.
func (m *memory) Append(_ context.Context, e *job.Event, last uint64, _ string, lease queue.Lease) (uint64, error) {
	sequence := uint64(0)
	err := m.write(func() { sequence = m.append(e, last, lease) }, "append %s %s of %d", e.EventKind, e.Job, e.Sequence)
	switch {
	case err != nil:
		return 0, err
	case sequence == 0:
		return 0, fmt.Errorf("append %s: %w", e.EventKind, queue.ErrOvertaken)
	}
	return sequence, nil
}

// append gives the sequence of the event, or 0 when the chain has moved on. mu is held.
func (m *memory) append(e *job.Event, last uint64, lease queue.Lease) uint64 {
	chain := m.chain(e.Tenant, e.Job)
	if n := len(chain); n == 0 && last != 0 || n > 0 && chain[n-1].ChainSequence != last {
		return 0
	}
	link := queue.Link{Event: *e, ChainSequence: uint64(len(m.events) + 1), Lease: lease}
	key := string(e.Tenant) + "/" + string(e.Job)
	m.links[key] = append(m.links[key], len(m.events))
	m.events = append(m.events, link)
	if e.EventKind == job.Cancelled {
		for _, tell := range m.cancels {
			tell(*e)
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return link.ChainSequence
}

// chain is a job's. mu is held.
func (m *memory) chain(tenant job.Tenant, id job.ID) []queue.Link {
	var chain []queue.Link
	for _, at := range m.links[string(tenant)+"/"+string(id)] {
		chain = append(chain, m.events[at])
	}
	return chain
}

// story is a job's chain in words.
func (m *memory) story(id job.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := ""
	for _, link := range m.chain("acme", id) {
		text += " " + string(link.EventKind)
		if link.Reason != "" {
			text += ":" + link.Reason
		}
	}
	return text[min(1, len(text)):]
}

func (m *memory) Chain(_ context.Context, tenant job.Tenant, id job.ID) (chain []queue.Link, err error) {
	err = m.read(func() { chain = m.chain(tenant, id) }, "chain %s", id)
	return chain, err
}

func (m *memory) Last(ctx context.Context, tenant job.Tenant, id job.ID) (queue.Link, bool, error) {
	return m.LastOf(ctx, tenant, id, "")
}

func (m *memory) LastOf(_ context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (last queue.Link, found bool, err error) {
	err = m.read(func() {
		for _, link := range m.chain(tenant, id) {
			if kind == "" || link.EventKind == kind {
				last, found = link, true
			}
		}
	}, "last %s", id)
	return last, found, err
}

func (m *memory) FirstOf(_ context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (first uint64, err error) {
	err = m.read(func() {
		for _, link := range m.chain(tenant, id) {
			if link.EventKind == kind && first == 0 {
				first = link.ChainSequence
			}
		}
	}, "first %s", id)
	return first, err
}

func (m *memory) End(ctx context.Context, tenant job.Tenant, id job.ID, c queue.Cancelling) (jetstream.Event, bool, error) {
	for {
		last, found, err := m.Last(ctx, tenant, id)
		switch {
		case err != nil:
			return jetstream.Event{}, false, err
		case !found && !c.Force:
			return jetstream.Event{}, false, queue.ErrNoJob
		case last.EventKind.Terminal() || c.Spare && last.EventKind == job.Started:
			return last.Event, false, nil
		}
		e := job.Event{EventKind: job.Cancelled, Job: id, Tenant: tenant, Priority: c.Priority, Time: m.Now(), By: c.By}
		if !found && !c.Stored {
			e.Reason = "unseen"
		}
		_, err = m.Append(ctx, &e, last.ChainSequence, "", "")
		if !errors.Is(err, queue.ErrOvertaken) {
			return e, err == nil, err
		}
	}
}

func (m *memory) AppendAudit(_ context.Context, a *queue.AuditRecord, _ string) error {
	effect := "act %s by %s: %d"
	if a.Begins {
		effect = "begin " + effect
	}
	return m.write(func() { m.acts = append(m.acts, *a) }, effect, a.Call, a.By, a.Count)
}

func (m *memory) FollowCancels(ctx context.Context, tell func(job.Event)) error {
	return follow(ctx, m, m.cancels, tell)
}

func (m *memory) FollowHosts(ctx context.Context, tell func(queue.HostState)) error {
	return follow(ctx, m, m.states, func(s queue.HostState) {
		m.reports.Add(1)
		tell(s)
	})
}

func follow[T any](ctx context.Context, m *memory, all map[int]func(T), tell func(T)) error {
	m.mu.Lock()
	m.watches++
	me := m.watches
	all[me] = tell
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	delete(all, me)
	m.mu.Unlock()
	return ctx.Err()
}

// broadcast tells a host's state to all dispatchers.
func (m *memory) broadcast(s queue.HostState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tell := range m.states {
		tell(s)
	}
}

// settleWait is how long a failed event is lent to a dispatcher.
const settleWait = 15 * time.Second

// settling is the consumer of failed events, which all dispatchers share.
type settling struct {
	looked int
	lent   map[uint64]time.Time // those that are not settled, and until when somebody has them
}

func newSettling() settling { return settling{lent: map[uint64]time.Time{}} }

// SettleFailed hands out each failed event to one dispatcher, and again after some seconds while that gives an error.
func (m *memory) SettleFailed(ctx context.Context, settle func(context.Context, queue.Link) error, failed func(error)) error {
	var settling sync.WaitGroup
	defer settling.Wait()
	for ctx.Err() == nil {
		link, found, changed, wait := m.lend()
		if found {
			settling.Go(func() {
				err := settle(ctx, link)
				if err == nil {
					err = m.write(func() { delete(m.settles.lent, link.ChainSequence) }, "settled %s", link.Job)
				}
				if err != nil {
					failed(err)
				}
			})
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// lend gives the first failed event that is to be settled, or when to look again.
func (m *memory) lend() (link queue.Link, found bool, changed <-chan struct{}, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := &m.settles; c.looked < len(m.events); c.looked++ {
		if e := &m.events[c.looked]; e.EventKind == job.Failed {
			c.lent[e.ChainSequence] = time.Time{}
		}
	}
	wait = time.Hour
	for _, sequence := range slices.Sorted(maps.Keys(m.settles.lent)) {
		if left := time.Until(m.settles.lent[sequence]); left > 0 {
			wait = min(wait, left)
			continue
		}
		link = m.events[sequence-1]
		link.Again = !m.settles.lent[sequence].IsZero()
		m.settles.lent[sequence] = time.Now().Add(settleWait)
		return link, true, nil, 0
	}
	return link, false, m.changed, wait
}

func (m *memory) AnnounceBlocks(ctx context.Context, _ string, _ func(error)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Bury stores a letter once for each end of a chain.
func (m *memory) Bury(_ context.Context, message *job.Message, e *job.Event, last uint64) (sequence uint64, err error) {
	err = m.write(func() {
		id := fmt.Sprintf("%s/%s/%d/%d", message.Tenant, e.Job, message.Sequence, last)
		if m.buried[id] == 0 {
			m.buried[id] = uint64(len(m.buried) + 1)
			m.letters[m.buried[id]] = queue.DeadLetter{
				Sequence: m.buried[id], Tenant: job.Tenant(message.Tenant), Job: e.Job, Reason: failure.Reason(e.Reason), Time: m.Now(),
				Body: message.Body, Event: *e,
			}
		}
		sequence = m.buried[id]
	}, "bury %s", e.Job)
	return sequence, err
}

func (m *memory) Purge(_ context.Context, d *queue.DeadLetter) error {
	return m.write(func() { delete(m.letters, d.Sequence) }, "purge letter %d", d.Sequence)
}

func (m *memory) ServeAPI(ctx context.Context, api queue.API) error {
	m.mu.Lock()
	m.api = api
	m.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// call asks the API of the dispatcher that was started last.
func call[Answer any](m *memory, name string, request any) (Answer, error) {
	body, err := json.Marshal(request)
	var answer Answer
	if err != nil {
		return answer, err
	}
	m.mu.Lock()
	endpoint := m.api.Calls[name]
	m.mu.Unlock()
	got, err := endpoint(context.Background(), body)
	if err != nil {
		return answer, err
	}
	answer, ok := got.(Answer)
	if !ok {
		return answer, errors.New("another kind of answer")
	}
	return answer, nil
}

// callAs asks it as a tenant does.
func callAs[Answer any](m *memory, tenant job.Tenant, name string, request any) (answer Answer, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	m.mu.Lock()
	endpoint := m.api.TenantCalls[name]
	m.mu.Unlock()
	reply, err := endpoint(context.Background(), tenant, queue.TenantRequest{Body: body})
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(reply.Body, &answer)
}

func (m *memory) Offer(_ context.Context, host string, o *queue.Offer) (reply queue.Reply, err error) {
	cut := m.effect(true, func() {
		m.mu.Lock()
		agent := m.agents[host]
		m.mu.Unlock()
		if agent == nil {
			err = queue.ErrNoAgent
			return
		}
		reply, err = agent(o)
	}, fmt.Sprintf("offer %s to %s", o.Job, host))
	if cut != nil {
		return queue.Reply{}, fmt.Errorf("%w: %w", queue.ErrNoAnswer, cut)
	}
	return reply, err
}

// Buckets.

func (m *memory) bucket(name string) *bucket {
	b := m.buckets[name]
	if b == nil {
		b = &bucket{keys: map[string]queue.Entry{}, watchers: map[int]func(queue.Entry){}}
		m.buckets[name] = b
	}
	return b
}

// set writes a key when it stands at a revision; with -1 whatever it stands at. A nil value ends it.
func (m *memory) set(name, key string, value []byte, revision int64) (uint64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(name, key, value, revision)
}

// change is set when mu is held.
func (m *memory) change(name, key string, value []byte, revision int64) (uint64, bool) {
	b := m.bucket(name)
	if revision >= 0 && b.keys[key].Revision != uint64(revision) {
		return 0, false
	}
	b.revision++
	c := queue.Entry{Phase: queue.Put, Key: key, Value: value, Revision: b.revision, Time: m.Now()}
	if value == nil {
		c.Phase = queue.Gone
	}
	b.keys[key] = c
	for _, tell := range b.watchers {
		tell(c)
	}
	return b.revision, true
}

func (m *memory) get(name, key string) queue.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holds(name, key)
}

// holds is get when mu is held.
func (m *memory) holds(name, key string) queue.Entry {
	c, found := m.bucket(name).keys[key]
	if !found {
		return queue.Entry{Phase: queue.Gone, Key: key}
	}
	return c
}

// decoded is a change with its value as read decodes it.
func decoded[V any](e queue.Entry, read func(queue.Entry) (V, error)) queue.Change[V] {
	c, _ := queue.Decode(e, read) // the phase says whether it is valid
	return c
}

func watch[V any](ctx context.Context, m *memory, name string, read func(queue.Entry) (V, error), to func(queue.Change[V])) error {
	tell := func(e queue.Entry) { to(decoded(e, read)) }
	m.mu.Lock()
	b := m.bucket(name)
	m.watches++
	me := m.watches
	tell(queue.Entry{Phase: queue.Reset})
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		if c := b.keys[key]; c.Phase == queue.Put {
			tell(c)
		}
	}
	tell(queue.Entry{Phase: queue.Synced})
	b.watchers[me] = tell
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	delete(b.watchers, me)
	m.mu.Unlock()
	return ctx.Err()
}

func pairOf(host string, hash workflow.Hash) string { return host + "." + string(hash) }
