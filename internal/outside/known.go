package outside

import (
	"slices"
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// known has all webhooks that the watch of their bucket has given.
type known struct {
	mu      sync.Mutex // guards all below
	hooks   map[string]queue.WebhookSettings
	seen    map[string]bool // keys since the last Reset; nil when it is synced
	changed chan struct{}   // closed at the next change
}

func newKnown() *known {
	return &known{hooks: map[string]queue.WebhookSettings{}, changed: make(chan struct{})}
}

func (k *known) change(c queue.Change[queue.WebhookSettings]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch c.Phase {
	case queue.Reset:
		k.seen = map[string]bool{}
		return
	case queue.Put:
		k.hooks[c.Key] = c.Value
		if k.seen != nil {
			k.seen[c.Key] = true
		}
	case queue.Gone, queue.Invalid:
		delete(k.hooks, c.Key)
	case queue.Synced:
		for key := range k.hooks {
			if k.seen != nil && !k.seen[key] {
				delete(k.hooks, key)
			}
		}
		k.seen = nil
	}
	if k.seen == nil {
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// all are the webhooks, and a channel that is closed when they change.
func (k *known) all() ([]queue.WebhookSettings, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]queue.WebhookSettings, 0, len(k.hooks))
	for _, w := range k.hooks {
		all = append(all, w)
	}
	return all, k.changed
}

// of are the webhooks that may want an event of a tenant: its own, and those of the fleet.
func (k *known) of(tenant job.Tenant) []queue.WebhookSettings {
	k.mu.Lock()
	defer k.mu.Unlock()
	var own []queue.WebhookSettings
	for _, w := range k.hooks {
		if w.Owner == tenant || w.Owner == names.Fleet {
			own = append(own, w)
		}
	}
	return own
}

// states counts the webhooks that are enabled, and those that are not.
func (k *known) states() (enabled, disabled int) {
	all, _ := k.all()
	off := slices.DeleteFunc(all, func(w queue.WebhookSettings) bool { return w.Disabled == nil })
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.hooks) - len(off), len(off)
}
