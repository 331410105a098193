package dispatcher

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	triesKept  = 20 // of each webhook, in memory
	triesUsual = 5
	triedMost  = 4096 // webhooks whose tries are in memory
)

// lastTries are the last tries of each webhook, as far as the events are read.
type lastTries struct {
	mu sync.Mutex // guards all below
	of map[string][]jetstream.WebhookTry
}

func (l *lastTries) add(n *jetstream.Note) {
	t, ok := queue.TryOf(n)
	if !ok {
		return
	}
	key := names.WebhookKey(t.Tenant, t.Webhook)
	l.mu.Lock()
	defer l.mu.Unlock()
	tries, known := l.of[key]
	if !known && len(l.of) >= triedMost {
		return
	}
	if l.of == nil {
		l.of = map[string][]jetstream.WebhookTry{}
	}
	l.of[key] = append(tries[max(0, len(tries)+1-triesKept):], t)
}

func (l *lastTries) forgetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of = nil
}

// newest gives the last tries of a webhook from a time on, newest first.
func (l *lastTries) newest(key string, most int, since time.Time) []jetstream.WebhookTry {
	l.mu.Lock()
	defer l.mu.Unlock()
	tries := slices.Clone(l.of[key])
	slices.Reverse(tries)
	tries = slices.DeleteFunc(tries, func(t jetstream.WebhookTry) bool { return t.Time.Before(since) })
	return tries[:min(len(tries), most)]
}

func (d *Dispatcher) apiWebhooks(ctx context.Context, r jetstream.WebhooksRequest) (answer jetstream.WebhooksAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	switch {
	case r.Tries < 0 || r.Tries > triesKept:
		return answer, &jetstream.BadRequest{Message: "tries is how many of them are wanted of each webhook: 1 to 20"}
	case r.Tenant != "" && !names.ValidOwner(r.Tenant):
		return answer, checkWebhook(r.Tenant, "any")
	}
	all, err := d.q.Webhooks(ctx)
	if err != nil {
		return answer, err
	}
	if err := d.history.caughtUp(ctx); err != nil {
		return answer, err
	}
	waiting, err := d.q.CountUndelivered(ctx)
	if err != nil {
		return answer, err
	}
	all = slices.DeleteFunc(all, func(w queue.WebhookSettings) bool {
		return r.Tenant != "" && w.Owner != r.Tenant || r.Name != "" && w.Name != r.Name || w.Key() <= r.After
	})
	slices.SortFunc(all, func(a, b queue.WebhookSettings) int { return cmp.Compare(a.Key(), b.Key()) })
	answer.Webhooks = []jetstream.Webhook{}
	for i := range all {
		row, err := d.webhookWithTries(ctx, &all[i], cmp.Or(r.Tries, triesUsual), waiting[all[i].Key()])
		if err != nil {
			return answer, err
		}
		fits, err := p.take(&row)
		if err != nil {
			return answer, err
		}
		if !fits {
			answer.Next = all[i-1].Key()
			break
		}
		answer.Webhooks = append(answer.Webhooks, row)
	}
	return answer, nil
}

func (d *Dispatcher) tenantWebhooks(ctx context.Context, tenant job.Tenant, r jetstream.WebhooksRequest) (jetstream.WebhooksAnswer, error) {
	r.Tenant = tenant
	return d.apiWebhooks(ctx, r)
}

func (d *Dispatcher) webhookWithTries(ctx context.Context, w *queue.WebhookSettings, tries, waiting int) (jetstream.Webhook, error) {
	row := webhookRow(w, d.clock())
	row.Tries = d.history.tries.newest(w.Key(), tries, w.Created)
	if row.Pending = waiting; waiting == 0 {
		return row, nil
	}
	oldest, found, err := d.q.OldestUndelivered(ctx, w.Owner, w.Name)
	if found {
		row.Oldest = &oldest
	}
	return row, err
}

func webhookRow(w *queue.WebhookSettings, now time.Time) jetstream.Webhook {
	row := jetstream.Webhook{
		Tenant: w.Owner, Name: w.Name, URL: w.URL, Events: w.Events, Named: w.Named, Created: w.Created, Disabled: w.Disabled, Reason: w.Reason,
	}
	for _, key := range w.Keys {
		if key.Until != nil && now.Before(*key.Until) {
			row.Rotated = key.Until
		}
	}
	return row
}
