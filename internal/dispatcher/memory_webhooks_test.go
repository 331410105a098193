package dispatcher_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// webhookStore has the webhooks by key, and what is to be delivered to each.
type webhookStore struct {
	set       map[string]queue.WebhookSettings
	waiting   map[string][]queue.Undelivered
	delivered map[string]bool // webhook, job and sequence
	most      int             // that may wait for one
}

func newWebhookStore() webhookStore {
	return webhookStore{set: map[string]queue.WebhookSettings{}, waiting: map[string][]queue.Undelivered{}, delivered: map[string]bool{}, most: 5}
}

func (m *memory) Secret(_ context.Context, use string) ([]byte, error) {
	return bytes.Repeat([]byte{7}, 32), m.read(func() {}, "secret %s", use)
}

func (m *memory) Webhooks(context.Context) (all []queue.WebhookSettings, err error) {
	err = m.read(func() { all = slices.Collect(maps.Values(m.webhooks.set)) }, "list webhooks")
	return all, err
}

func (m *memory) Webhook(_ context.Context, owner job.Tenant, name string) (w queue.WebhookSettings, found bool, err error) {
	err = m.read(func() { w, found = m.webhooks.set[names.WebhookKey(owner, name)] }, "webhook %s", name)
	return w, found, err
}

func (m *memory) PutWebhook(_ context.Context, w *queue.WebhookSettings) (stored bool, err error) {
	err = m.write(func() {
		if stored = m.webhooks.set[w.Key()].Revision == w.Revision; stored {
			next := *w
			next.Revision++
			m.webhooks.set[w.Key()] = next
		}
	}, "set webhook %s", w.Name)
	return stored && err == nil, err
}

func (m *memory) RemoveWebhook(_ context.Context, owner job.Tenant, name string) error {
	return m.write(func() { delete(m.webhooks.set, names.WebhookKey(owner, name)) }, "remove webhook %s", name)
}

func (m *memory) AddUndelivered(_ context.Context, owner job.Tenant, name string, u queue.Undelivered) error {
	key, full := names.WebhookKey(owner, name), false
	err := m.write(func() {
		if full = len(m.webhooks.waiting[key]) >= m.webhooks.most; !full {
			m.webhooks.waiting[key] = append(m.webhooks.waiting[key], u)
		}
	}, "deliver %d to %s", u.Sequence, name)
	if full {
		return queue.ErrTooManyUndelivered
	}
	return err
}

func (m *memory) CountUndelivered(context.Context) (map[string]int, error) {
	counts := map[string]int{}
	err := m.read(func() {
		for key, list := range m.webhooks.waiting {
			counts[key] = len(list)
		}
	}, "count deliveries")
	return counts, err
}

func (m *memory) OldestUndelivered(_ context.Context, owner job.Tenant, name string) (oldest time.Time, found bool, err error) {
	err = m.read(func() {
		if list := m.webhooks.waiting[names.WebhookKey(owner, name)]; len(list) > 0 {
			oldest, found = list[0].Time, true
		}
	}, "oldest delivery of %s", name)
	return oldest, found, err
}

func (m *memory) WasDelivered(_ context.Context, owner job.Tenant, name string, id job.ID, sequence uint64) (was bool, err error) {
	err = m.read(func() {
		was = m.webhooks.delivered[fmt.Sprintf("%s %s %d", names.WebhookKey(owner, name), id, sequence)]
	}, "tries of %d", sequence)
	return was, err
}

func (m *memory) EventAt(_ context.Context, sequence uint64) (n jetstream.Note, found bool, err error) {
	err = m.read(func() {
		if found = sequence > 0 && sequence <= uint64(len(m.events)); found {
			n, err = noteOf(&m.events[sequence-1])
		}
	}, "event %d", sequence)
	return n, found, err
}

func (m *memory) EventsFor(_ context.Context, w *queue.WebhookSettings, after uint64, since time.Time, take func(*jetstream.Note) bool) (uint64, error) {
	if err := m.read(func() {}, "events for %s", w.Name); err != nil {
		return 0, err
	}
	m.mu.Lock()
	events := slices.Clone(m.events)
	m.mu.Unlock()
	for i := range events {
		n, err := noteOf(&events[i])
		if err != nil {
			return 0, err
		}
		if n.Sequence <= after || after == 0 && n.Time.Before(since) || w.Owner != names.Fleet && w.Owner != events[i].Tenant {
			continue
		}
		if !take(&n) {
			return after, nil
		}
		after = n.Sequence
	}
	return 0, nil
}

// noteOf is an event as it is read from the stream. One without a job is a host's, and its kind stands in its reason. One without a host
// either has its subject there, and its body in its metadata.
func noteOf(link *queue.Link) (jetstream.Note, error) {
	if link.Job == "" && link.Host == "" {
		return jetstream.Note{Subject: link.Reason, Body: link.Metadata, Sequence: link.ChainSequence, Time: link.Time}, nil
	}
	if link.Job == "" {
		return jetstream.Note{Subject: names.HostEventsPrefix + link.Host + "." + link.Reason, Sequence: link.ChainSequence, Time: link.Time}, nil
	}
	body, err := link.Encode()
	subject := names.EventSubject(link.Tenant, link.Job, link.EventKind)
	return jetstream.Note{Subject: subject, Body: body, Sequence: link.ChainSequence, Time: link.Time}, err
}
