package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Append is the compare-and-set of a chain.
func (m *memory) Append(_ context.Context, e *job.Event, last uint64, _ string, lease queue.Lease) (uint64, error) {
	if err := m.effect("append %s %s of %d", e.EventKind, e.Job, e.Sequence); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	chain := m.chain(e.Tenant, e.Job)
	if n := len(chain); n == 0 && last != 0 || n > 0 && chain[n-1].ChainSequence != last {
		return 0, fmt.Errorf("append %s: %w", e.EventKind, queue.ErrOvertaken)
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
	return link.ChainSequence, nil
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

func (m *memory) Chain(_ context.Context, tenant job.Tenant, id job.ID) ([]queue.Link, error) {
	if err := m.effect("chain %s", id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chain(tenant, id), nil
}

func (m *memory) Last(ctx context.Context, tenant job.Tenant, id job.ID) (queue.Link, bool, error) {
	return m.LastOf(ctx, tenant, id, "")
}

func (m *memory) LastOf(_ context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (queue.Link, bool, error) {
	if err := m.effect("last %s", id); err != nil {
		return queue.Link{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, link := range slices.Backward(m.chain(tenant, id)) {
		if kind == "" || link.EventKind == kind {
			return link, true, nil
		}
	}
	return queue.Link{}, false, nil
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

func (m *memory) AppendAct(_ context.Context, a *queue.Act, _ string) error {
	effect := "act %s by %s: %d"
	if a.Begins {
		effect = "begin " + effect
	}
	if err := m.effect(effect, a.Call, a.By, a.Count); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acts = append(m.acts, *a)
	return nil
}

func (m *memory) FollowCancels(ctx context.Context, tell func(job.Event)) error {
	return follow(ctx, m, m.cancels, tell)
}

func (m *memory) FollowHosts(ctx context.Context, tell func(queue.HostState)) error {
	return follow(ctx, m, m.states, tell)
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

// SettleFailed hands out each failed event, again after some seconds while that gives an error.
func (m *memory) SettleFailed(ctx context.Context, settle func(context.Context, queue.Link) error, failed func(error)) error {
	settled, looked := map[uint64]bool{}, 0
	var failures []queue.Link
	for ctx.Err() == nil {
		m.mu.Lock()
		var all []queue.Link
		for ; looked < len(m.events); looked++ {
			if m.events[looked].EventKind == job.Failed {
				failures = append(failures, m.events[looked])
			}
		}
		all, changed, wait := failures, m.changed, time.Hour
		m.mu.Unlock()
		for _, link := range all {
			if settled[link.ChainSequence] {
				continue
			}
			if err := settle(ctx, link); err != nil {
				failed(err)
				wait, changed = 15*time.Second, nil
				continue
			}
			settled[link.ChainSequence] = true
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

func (m *memory) AnnounceBlocks(ctx context.Context, _ string, _ func(error)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) Bury(_ context.Context, message *job.Message, e *job.Event, _ uint64) (uint64, error) {
	if err := m.effect("bury %s", e.Job); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sequence := uint64(len(m.letters) + 1)
	m.letters[sequence] = queue.DeadLetter{Sequence: sequence, Tenant: job.Tenant(message.Tenant), Job: e.Job, Reason: failure.Reason(e.Reason), Time: m.Now(), Body: message.Body, Event: *e}
	return sequence, nil
}

func (m *memory) Purge(_ context.Context, d *queue.DeadLetter) error {
	if err := m.effect("purge letter %d", d.Sequence); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.letters, d.Sequence)
	return nil
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

func (m *memory) Offer(_ context.Context, host string, o *queue.Offer) (queue.Reply, error) {
	if err := m.effect("offer %s to %s", o.Job, host); err != nil {
		return queue.Reply{}, fmt.Errorf("%w: %w", queue.ErrNoAnswer, err)
	}
	m.mu.Lock()
	agent := m.agents[host]
	m.mu.Unlock()
	if agent == nil {
		return queue.Reply{}, queue.ErrNoAgent
	}
	return agent(o)
}

func (m *memory) AnnounceHost(_ context.Context, host string, kind queue.HostEventKind, _ string) error {
	return m.effect("announce %s %s", host, kind)
}

func (m *memory) HostStates(context.Context) (map[string]queue.HostEventKind, error) {
	return map[string]queue.HostEventKind{}, nil
}

// Buckets.

func (m *memory) bucket(name string) *bucket {
	b := m.buckets[name]
	if b == nil {
		b = &bucket{keys: map[string]queue.Change{}, watchers: map[int]func(queue.Change){}}
		m.buckets[name] = b
	}
	return b
}

// set writes a key when it stands at a revision; with -1 whatever it stands at. A nil value ends it.
func (m *memory) set(name, key string, value []byte, revision int64) (uint64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(name)
	if revision >= 0 && b.keys[key].Revision != uint64(revision) {
		return 0, false
	}
	b.revision++
	c := queue.Change{Phase: queue.Put, Key: key, Value: value, Revision: b.revision, Time: m.Now()}
	if value == nil {
		c.Phase = queue.Gone
	}
	b.keys[key] = c
	for _, tell := range b.watchers {
		tell(c)
	}
	return b.revision, true
}

func (m *memory) get(name, key string) queue.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, found := m.bucket(name).keys[key]
	if !found {
		return queue.Change{Phase: queue.Gone, Key: key}
	}
	return c
}

func (m *memory) watch(ctx context.Context, name string, tell func(queue.Change)) error {
	m.mu.Lock()
	b := m.bucket(name)
	m.watches++
	me := m.watches
	tell(queue.Change{Phase: queue.Reset})
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		if c := b.keys[key]; c.Phase == queue.Put {
			tell(c)
		}
	}
	tell(queue.Change{Phase: queue.Synced})
	b.watchers[me] = tell
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	delete(b.watchers, me)
	m.mu.Unlock()
	return ctx.Err()
}

func pairOf(host string, hash workflow.Hash) string { return host + "." + string(hash) }
