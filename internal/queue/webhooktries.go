package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// AppendTry stores a try. source names the process that has made it (CloudEvents' ce-source).
func (q *Queue) AppendTry(ctx context.Context, t *jetstream.WebhookTry, source string) error {
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode a try: %w", err)
	}
	event := names.TestEvent
	if t.Sequence != 0 {
		event = strconv.FormatUint(t.Sequence, 10)
	}
	subject := names.TrySubject(t.Tenant, t.Webhook, cmp.Or(t.Job, names.NoJob), event, string(t.Outcome))
	_, err = q.js.PublishMsg(ctx, &nats.Msg{Subject: names.AppendSubject(subject), Data: body, Header: nats.Header{
		"ce-specversion":        {"1.0"},
		"ce-id":                 {rand.Text()},
		"ce-source":             {source},
		"ce-type":               {"comfy.webhook." + string(t.Outcome)},
		"ce-subject":            {string(t.Tenant) + "/" + t.Webhook},
		"ce-time":               {t.Time.UTC().Format(time.RFC3339Nano)},
		names.ContentTypeHeader: {"application/json"},
	}})
	return wrap(err, "store a try of webhook %s of %s", t.Webhook, t.Tenant)
}

// TryOf reads the try of a stored event; false when it is none.
func TryOf(n *jetstream.Note) (jetstream.WebhookTry, bool) {
	var t jetstream.WebhookTry
	owner, name, ok := names.WebhookOfTry(n.Subject)
	if !ok || json.Unmarshal(n.Body, &t) != nil || t.Tenant != owner || t.Webhook != name {
		return t, false
	}
	return t, true
}

// mostTries is how many tries of a job are read.
const mostTries = 100

// TriesOf reads the first 100 tries to deliver the events of a job to its tenant's webhooks, oldest first, after a sequence.
func (q *Queue) TriesOf(ctx context.Context, tenant job.Tenant, id job.ID, after uint64) ([]jetstream.WebhookTry, error) {
	var tries []jetstream.WebhookTry
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	want := batchGet{Sequence: after + 1, Subject: names.TrySubject(tenant, "", id, "", ""), Batch: mostTries}
	_, err = q.gets(ctx, answers, names.EventsStream, want, func(msg *nats.Msg) error {
		n := noteOf(msg)
		if t, ok := TryOf(&n); ok {
			tries = append(tries, t)
		}
		return nil
	})
	return tries, wrap(err, "read the tries of webhooks for job %s", id)
}

// LastDelivered is when an event was delivered to a webhook last; the zero time when none is stored.
func (q *Queue) LastDelivered(ctx context.Context, owner job.Tenant, name string) (time.Time, error) {
	return q.deliveredAt(ctx, names.TrySubject(owner, name, "", "", string(jetstream.Delivered)))
}

// WasDelivered reports whether a stored event was delivered to a webhook.
func (q *Queue) WasDelivered(ctx context.Context, owner job.Tenant, name string, id job.ID, sequence uint64) (bool, error) {
	at, err := q.deliveredAt(ctx, names.TrySubject(owner, name, cmp.Or(id, names.NoJob), strconv.FormatUint(sequence, 10), string(jetstream.Delivered)))
	return !at.IsZero(), err
}

func (q *Queue) deliveredAt(ctx context.Context, subject string) (time.Time, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the last event of %s: %w", subject, err)
	}
	return raw.Time, nil
}

// EventsFor calls take for the stored events after a sequence, or (0) from a time on, that a webhook's owner may see, until take is
// false. next is then the sequence of the last event for which it was true, and 0 at the end of the events.
func (q *Queue) EventsFor(ctx context.Context, w *WebhookSettings, after uint64, since time.Time, take func(*jetstream.Note) bool) (next uint64, err error) {
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return 0, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	subject := names.AllEvents
	if w.Owner != names.Fleet {
		subject = names.TenantEvents(w.Owner)
	}
	for {
		want := batchGet{Sequence: after + 1, Subject: subject, Batch: replayBatch}
		if after == 0 {
			want.Sequence, want.Since = 0, &since
		}
		before := after
		complete, err := q.gets(ctx, answers, names.EventsStream, want, func(msg *nats.Msg) error {
			n := noteOf(msg)
			if !take(&n) {
				return errEnough
			}
			after = n.Sequence
			return nil
		})
		switch {
		case errors.Is(err, errEnough):
			return after, nil
		case err != nil:
			return 0, wrap(err, "read the events for webhook %s", w.Name)
		case complete:
			return 0, nil
		case after == before && !Pause(ctx, rewatchPause):
			return 0, ctx.Err()
		}
	}
}
