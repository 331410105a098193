package queue

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// WebhookSettings are a webhook as it is stored. They contain no secret: see Secrets.
type WebhookSettings struct {
	Owner    job.Tenant `json:"-"` // names.Fleet, or a tenant
	Name     string     `json:"-"`
	Revision uint64     `json:"-"`

	URL      string       `json:"url"`
	Events   []string     `json:"events"`
	Named    bool         `json:"named,omitempty"`
	Keys     []WebhookKey `json:"keys"` // newest first
	Created  time.Time    `json:"created"`
	Disabled *time.Time   `json:"disabled,omitempty"`
	Reason   string       `json:"reason,omitempty"`
}

// WebhookKey is what a secret is derived from, together with the webhook's name and the fleet's own secret.
type WebhookKey struct {
	Salt  string     `json:"salt"`
	Until *time.Time `json:"until,omitempty"` // the secret is no longer used after it; nil: no end
}

// NewWebhookKey makes a key that no other webhook has.
func NewWebhookKey() WebhookKey { return WebhookKey{Salt: rand.Text()} }

const (
	mostWebhookKeys = 3
	mostURL         = 2048
)

// UsualWebhookEvents are delivered to a webhook that names none.
func UsualWebhookEvents() []string { return []string{"job.completed", "job.dead", "job.cancelled"} }

// Check refuses an address and types of events with which a webhook cannot work.
func (w *WebhookSettings) Check() error { return w.check() }

func (w *WebhookSettings) check() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || len(w.URL) > mostURL || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%.200q is no address of a webhook: write it like https://example.com/hooks", w.URL)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("the address of a webhook has no user, password or fragment: the receiver verifies the signature instead")
	case len(w.Keys) == 0 || len(w.Keys) > mostWebhookKeys:
		return fmt.Errorf("it has %d keys, and needs 1 to %d", len(w.Keys), mostWebhookKeys)
	case len(w.Events) == 0 || len(w.Events) > len(webhookTypes()):
		return fmt.Errorf("it names %d types of events, and needs 1 to %d", len(w.Events), len(webhookTypes()))
	}
	for _, pattern := range w.Events {
		if len(matchingTypes(w.Owner, pattern)) == 0 {
			return fmt.Errorf("%.80q fits no type of event: use one of %s, or job.* for all of them", pattern, strings.Join(typesOf(w.Owner), ", "))
		}
	}
	return nil
}

// Key is the webhook's key in the bucket.
func (w *WebhookSettings) Key() string { return names.WebhookKey(w.Owner, w.Name) }

// Secrets are those with which deliveries are signed at a time, newest first. They are derived from a secret of the fleet that only
// dispatchers may read, so that none of them is stored.
func (w *WebhookSettings) Secrets(fleet []byte, now time.Time) [][]byte {
	var secrets [][]byte
	for _, key := range w.Keys {
		if key.Until != nil && !now.Before(*key.Until) {
			continue
		}
		mac := hmac.New(sha256.New, fleet)
		_, _ = fmt.Fprintf(mac, "comfyherd webhook\n%s\n%s", w.Key(), key.Salt) // a hash fails no write
		secrets = append(secrets, mac.Sum(nil))
	}
	return secrets
}

// Rotate gives the webhook another secret. The one before is used until a time, those before that no longer.
func (w *WebhookSettings) Rotate(until time.Time) {
	former := w.Keys[0]
	former.Until = &until
	w.Keys = []WebhookKey{NewWebhookKey(), former}
}

// WebhookOf decodes a webhook.
func WebhookOf(e Entry) (WebhookSettings, error) {
	owner, name, ok := names.SplitWebhook(e.Key)
	if !ok {
		return WebhookSettings{}, fmt.Errorf("the key %.80q is not <tenant>.<webhook>", e.Key)
	}
	w := WebhookSettings{Owner: owner, Name: name, Revision: e.Revision}
	if err := json.Unmarshal(e.Value, &w); err != nil {
		return WebhookSettings{}, fmt.Errorf("decode the webhook: %w", err)
	}
	return w, w.check()
}

// Webhook reads a webhook; false when there is none, or none that is valid.
func (q *Queue) Webhook(ctx context.Context, owner job.Tenant, name string) (WebhookSettings, bool, error) {
	entry, err := q.webhooks.Get(ctx, names.WebhookKey(owner, name))
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return WebhookSettings{}, false, nil
	}
	if err != nil {
		return WebhookSettings{}, false, fmt.Errorf("read webhook %s of %s: %w", name, owner, err)
	}
	w, err := WebhookOf(entryOf(entry))
	return w, err == nil, nil // what is not valid counts as none
}

// Webhooks reads all webhooks.
func (q *Queue) Webhooks(ctx context.Context) ([]WebhookSettings, error) {
	var all []WebhookSettings
	err := each(ctx, q.webhooks, WebhookOf, func(c Change[WebhookSettings]) {
		if c.Phase == Put {
			all = append(all, c.Value)
		}
	})
	return all, err
}

// WatchWebhooks calls tell for every change of a webhook, as the other Watch methods do.
func (q *Queue) WatchWebhooks(ctx context.Context, tell func(Change[WebhookSettings])) error {
	return watch(ctx, q, q.webhooks, WebhookOf, tell)
}

// PutWebhook stores a webhook that has this revision (0: there is none yet); false when it has another. From then on the events that
// it wants are delivered. Nothing is stored when there is an error, unless the error is that of the store itself.
func (q *Queue) PutWebhook(ctx context.Context, w *WebhookSettings) (bool, error) {
	value, err := json.Marshal(w)
	if err != nil {
		return false, fmt.Errorf("encode webhook %s: %w", w.Name, err)
	}
	all, err := q.Webhooks(ctx)
	if err != nil {
		return false, err
	}
	if err := q.FollowForWebhooks(ctx, append(all, *w)); err != nil {
		return false, err
	}
	stored, err := putExpecting(ctx, q.webhooks, w.Key(), value, w.Revision)
	if err != nil || !stored {
		return false, err
	}
	// Once more, since the filters may have events that the webhook wanted before, and may lack its own when another process has set
	// a webhook at the same time. When this fails, the processes that deliver do it, as after every change.
	if all, err = q.Webhooks(ctx); err == nil {
		_ = q.FollowForWebhooks(ctx, all)
	}
	return true, nil
}

// RemoveWebhook removes a webhook and what was not delivered to it.
func (q *Queue) RemoveWebhook(ctx context.Context, owner job.Tenant, name string) error {
	if err := q.webhooks.Delete(ctx, names.WebhookKey(owner, name)); err != nil {
		return fmt.Errorf("remove webhook %s of %s: %w", name, owner, err)
	}
	return q.ForgetUndelivered(ctx, owner, name)
}
