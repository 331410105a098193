package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	webhooksMost = 8 // of a tenant, and of the fleet

	usualOverlap   = 24 * time.Hour
	longestOverlap = 7 * 24 * time.Hour
)

func (d *Dispatcher) apiWebhooksSet(ctx context.Context, r jetstream.SetWebhookRequest) (jetstream.SetWebhookAnswer, error) {
	return d.setWebhook(ctx, r, operatorBy(r.By))
}

func (d *Dispatcher) tenantWebhooksSet(ctx context.Context, tenant job.Tenant, r jetstream.SetWebhookRequest) (jetstream.SetWebhookAnswer, error) {
	r.Tenant = tenant
	return d.setWebhook(ctx, r, tenantBy(tenant, r.By))
}

func checkWebhook(owner job.Tenant, name string) error {
	if !names.ValidOwner(owner) || !job.ValidHost(name) {
		return &jetstream.BadRequest{Message: `give {"tenant":"…","name":"…"}, each 1 to 64 of A-Z a-z 0-9 _ -; the tenant * stands for the fleet`}
	}
	return nil
}

func (d *Dispatcher) setWebhook(ctx context.Context, r jetstream.SetWebhookRequest, by string) (answer jetstream.SetWebhookAnswer, err error) {
	if err := checkWebhook(r.Tenant, r.Name); err != nil {
		return answer, err
	}
	var w queue.WebhookSettings
	var fleet []byte // the fleet's secret, for a new webhook
	err = queue.RetryConflict(ctx, "set webhook "+r.Name, func() (bool, error) {
		var found bool
		if w, found, err = d.q.Webhook(ctx, r.Tenant, r.Name); err != nil {
			return false, err
		}
		if fleet = nil; !found {
			if w, fleet, err = d.newWebhook(ctx, &r); err != nil {
				return false, err
			}
		}
		d.changeWebhook(&w, &r)
		if err := w.Check(); err != nil {
			return false, &jetstream.BadRequest{Message: err.Error()}
		}
		return d.q.PutWebhook(ctx, &w)
	})
	record := queue.AuditRecord{Call: "webhooks.set", By: by, Tenant: ownTenant(r.Tenant)}
	if err == nil {
		record.Count = 1
	}
	r.By, r.URL = "", hostOf(r.URL)
	d.audit(ctx, record, &r, err)
	if err != nil {
		return answer, err
	}
	answer.Webhook = webhookRow(&w, d.clock())
	if fleet != nil {
		answer.Secret = d.newestSecret(fleet, &w)
	}
	return answer, nil
}

// ownTenant is the tenant whose settings are changed; none when these are the fleet's.
func ownTenant(owner job.Tenant) job.Tenant {
	if owner == names.Fleet {
		return ""
	}
	return owner
}

// hostOf is an address without its path, which may be a secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// newWebhook gives a webhook that is not stored yet, and the fleet's secret. The secret is read first: it is told once only, so a webhook
// whose secret cannot be told is not made.
func (d *Dispatcher) newWebhook(ctx context.Context, r *jetstream.SetWebhookRequest) (w queue.WebhookSettings, fleet []byte, err error) {
	if r.URL == "" {
		return w, nil, &jetstream.NotFound{Message: fmt.Sprintf("there is no webhook %s of %s yet: give its url to make it", r.Name, r.Tenant)}
	}
	all, err := d.q.Webhooks(ctx)
	if err != nil {
		return w, nil, err
	}
	own := 0
	for i := range all {
		if all[i].Owner == r.Tenant {
			own++
		}
	}
	if own >= webhooksMost {
		return w, nil, &jetstream.Conflict{Message: fmt.Sprintf("%s has %d webhooks, and may not have more: remove one first", r.Tenant, own)}
	}
	fleet, err = d.q.Secret(ctx, queue.WebhooksSecret)
	return queue.WebhookSettings{
		Owner: r.Tenant, Name: r.Name, Events: queue.UsualWebhookEvents(), Keys: []queue.WebhookKey{queue.NewWebhookKey()}, Created: d.clock().UTC(),
	}, fleet, err
}

// changeWebhook changes what a request names.
func (d *Dispatcher) changeWebhook(w *queue.WebhookSettings, r *jetstream.SetWebhookRequest) {
	if r.URL != "" {
		w.URL = r.URL
	}
	if len(r.Events) > 0 {
		w.Events = r.Events
	}
	if r.Named != nil {
		w.Named = *r.Named
	}
	switch {
	case r.Disable == nil:
	case !*r.Disable:
		w.Disabled, w.Reason = nil, ""
	case w.Disabled == nil:
		now := d.clock().UTC()
		w.Disabled, w.Reason = &now, "it was disabled by a call"
	}
}

// newestSecret is a webhook's secret as its receiver needs it.
func (d *Dispatcher) newestSecret(fleet []byte, w *queue.WebhookSettings) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(w.Secrets(fleet, d.clock())[0])
}

func (d *Dispatcher) apiWebhooksRotate(ctx context.Context, r jetstream.RotateWebhookRequest) (jetstream.SetWebhookAnswer, error) {
	return d.rotateWebhook(ctx, r, operatorBy(r.By))
}

func (d *Dispatcher) tenantWebhooksRotate(ctx context.Context, tenant job.Tenant, r jetstream.RotateWebhookRequest) (jetstream.SetWebhookAnswer, error) {
	r.Tenant = tenant
	return d.rotateWebhook(ctx, r, tenantBy(tenant, r.By))
}

func (d *Dispatcher) rotateWebhook(ctx context.Context, r jetstream.RotateWebhookRequest, by string) (answer jetstream.SetWebhookAnswer, err error) {
	overlap := usualOverlap
	if r.Overlap != nil {
		overlap = time.Duration(*r.Overlap)
	}
	if overlap > longestOverlap {
		return answer, &jetstream.BadRequest{Message: fmt.Sprintf("overlap is %s: use 0s to %s", overlap, longestOverlap)}
	}
	var w queue.WebhookSettings
	var fleet []byte
	err = queue.RetryConflict(ctx, "rotate the secret of webhook "+r.Name, func() (bool, error) {
		if w, err = d.webhook(ctx, r.Tenant, r.Name); err != nil {
			return false, err
		}
		if fleet, err = d.q.Secret(ctx, queue.WebhooksSecret); err != nil {
			return false, err // before the change: a second rotation would end the secret that the receiver has
		}
		w.Rotate(d.clock().UTC().Add(overlap))
		return d.q.PutWebhook(ctx, &w)
	})
	record := queue.AuditRecord{Call: "webhooks.rotate", By: by, Tenant: ownTenant(r.Tenant)}
	if err == nil {
		record.Count = 1
	}
	r.By = ""
	d.audit(ctx, record, &r, err)
	if err != nil {
		return answer, err
	}
	answer.Webhook, answer.Secret = webhookRow(&w, d.clock()), d.newestSecret(fleet, &w)
	return answer, nil
}

// webhook reads a webhook that must be there.
func (d *Dispatcher) webhook(ctx context.Context, owner job.Tenant, name string) (queue.WebhookSettings, error) {
	if err := checkWebhook(owner, name); err != nil {
		return queue.WebhookSettings{}, err
	}
	w, found, err := d.q.Webhook(ctx, owner, name)
	if err == nil && !found {
		err = &jetstream.NotFound{Message: fmt.Sprintf("not found: %s has no webhook %s", owner, name)}
	}
	return w, err
}

func (d *Dispatcher) apiWebhooksRemove(ctx context.Context, r jetstream.RemoveWebhookRequest) (jetstream.RemoveWebhookAnswer, error) {
	return d.removeWebhook(ctx, r, operatorBy(r.By))
}

func (d *Dispatcher) tenantWebhooksRemove(ctx context.Context, tenant job.Tenant, r jetstream.RemoveWebhookRequest) (jetstream.RemoveWebhookAnswer, error) {
	r.Tenant = tenant
	return d.removeWebhook(ctx, r, tenantBy(tenant, r.By))
}

func (d *Dispatcher) removeWebhook(ctx context.Context, r jetstream.RemoveWebhookRequest, by string) (answer jetstream.RemoveWebhookAnswer, err error) {
	if _, err = d.webhook(ctx, r.Tenant, r.Name); err == nil {
		err = d.q.RemoveWebhook(ctx, r.Tenant, r.Name)
	}
	if err == nil {
		answer.Count = 1
	}
	r.By = ""
	d.audit(ctx, queue.AuditRecord{Call: "webhooks.remove", By: by, Tenant: ownTenant(r.Tenant), Count: answer.Count}, &r, err)
	return answer, err
}

func (d *Dispatcher) apiWebhooksTest(ctx context.Context, r jetstream.TestWebhookRequest) (jetstream.TestWebhookAnswer, error) {
	return d.testWebhook(ctx, r, operatorBy(r.By))
}

func (d *Dispatcher) tenantWebhooksTest(ctx context.Context, tenant job.Tenant, r jetstream.TestWebhookRequest) (jetstream.TestWebhookAnswer, error) {
	r.Tenant = tenant
	return d.testWebhook(ctx, r, tenantBy(tenant, r.By))
}

func (d *Dispatcher) testWebhook(ctx context.Context, r jetstream.TestWebhookRequest, by string) (answer jetstream.TestWebhookAnswer, err error) {
	w, err := d.webhook(ctx, r.Tenant, r.Name)
	if err != nil {
		return answer, err
	}
	if err := enabled(&w); err != nil {
		return answer, err
	}
	answer.ID = "test_" + strings.ToLower(rand.Text())
	err = d.addUndelivered(ctx, &w, queue.Undelivered{Time: d.clock().UTC(), Test: answer.ID})
	record := queue.AuditRecord{Call: "webhooks.test", By: by, Tenant: ownTenant(r.Tenant)}
	if err == nil {
		record.Count = 1
	}
	r.By = ""
	d.audit(ctx, record, &r, err)
	return answer, err
}

// enabled refuses to deliver to a webhook that is disabled.
func enabled(w *queue.WebhookSettings) error {
	if w.Disabled == nil {
		return nil
	}
	return &jetstream.Conflict{Message: fmt.Sprintf("webhook %s of %s is disabled (%s): enable it first", w.Name, w.Owner, w.Reason)}
}
