package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	// mostUndelivered is how many events wait for one webhook. With eight webhooks of a tenant that is at most some 8 MB, half of the
	// smallest maximum of the stream.
	mostUndelivered = 5000
	deliveriesAge   = 72 * time.Hour
	deliverAckWait  = time.Minute
	deliverBatch    = 64
)

// ErrTooManyUndelivered: as many events wait for a webhook as may.
var ErrTooManyUndelivered = fmt.Errorf("%d events wait for this webhook already", mostUndelivered)

// deliveries is the stream of events that are to be delivered to webhooks.
func (t topology) deliveries() wanted {
	return t.bounded(natsjs.StreamConfig{
		Name: names.DeliveriesStream, Description: "comfyherd: events that were not delivered to webhooks yet",
		Subjects: []string{names.AllDeliveries}, Retention: natsjs.WorkQueuePolicy, Storage: t.storage(), MaxAge: deliveriesAge,
		Discard: natsjs.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: mostUndelivered,
		AllowDirect: true, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}, 0)
}

// Undelivered is an event that is to be delivered to a webhook, as it is stored: the event itself stays in COMFY_EVENTS.
type Undelivered struct {
	Sequence uint64    `json:"sequence,omitempty"` // in COMFY_EVENTS; 0: a test
	Time     time.Time `json:"time"`               // when the event was stored, or the test was asked for
	Test     string    `json:"test,omitempty"`     // the webhook-id of a test
	Again    bool      `json:"again,omitempty"`    // somebody has asked for it to be delivered again
}

// AddUndelivered has an event delivered to a webhook. Of several calls for one event only the first has an effect for two minutes,
// unless Again is set.
func (q *Queue) AddUndelivered(ctx context.Context, owner job.Tenant, name string, u Undelivered) error {
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode a delivery: %w", err)
	}
	var options []natsjs.PublishOpt
	if !u.Again && u.Sequence != 0 {
		options = append(options, natsjs.WithMsgID(fmt.Sprintf("%s.%d", names.WebhookKey(owner, name), u.Sequence)))
	}
	_, err = q.js.PublishMsg(ctx, &nats.Msg{Subject: names.DeliverySubject(owner, name), Data: body}, options...)
	if api, is := errors.AsType[*natsjs.APIError](err); is && api.ErrorCode == names.StoreFailedCode && strings.Contains(api.Description, "per subject") {
		return ErrTooManyUndelivered
	}
	return wrap(err, "store a delivery to webhook %s of %s", name, owner)
}

// ForgetUndelivered removes what was not delivered to a webhook.
func (q *Queue) ForgetUndelivered(ctx context.Context, owner job.Tenant, name string) error {
	stream, err := q.js.Stream(ctx, names.DeliveriesStream)
	if err == nil {
		err = stream.Purge(ctx, natsjs.WithPurgeSubject(names.DeliverySubject(owner, name)))
	}
	return wrap(err, "remove what was not delivered to webhook %s of %s", name, owner)
}

// CountUndelivered counts by key of webhook what was not delivered.
func (q *Queue) CountUndelivered(ctx context.Context) (map[string]int, error) {
	stream, err := q.js.Stream(ctx, names.DeliveriesStream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", names.DeliveriesStream, err)
	}
	if stream.CachedInfo().State.Msgs == 0 {
		return map[string]int{}, nil
	}
	info, err := stream.Info(ctx, natsjs.WithSubjectFilter(names.AllDeliveries))
	if err != nil {
		return nil, fmt.Errorf("count what was not delivered to webhooks: %w", err)
	}
	counts := map[string]int{}
	for subject, n := range info.State.Subjects {
		if owner, name, ok := names.WebhookOfDelivery(subject); ok {
			counts[names.WebhookKey(owner, name)] = int(n)
		}
	}
	return counts, nil
}

// OldestUndelivered is since when the oldest event waits for a webhook; false when none does. "*" as name is any webhook of the owner,
// and an empty owner all webhooks.
func (q *Queue) OldestUndelivered(ctx context.Context, owner job.Tenant, name string) (time.Time, bool, error) {
	subject := names.AllDeliveries
	if owner != "" {
		subject = names.DeliverySubject(owner, name)
	}
	stream, err := q.js.Stream(ctx, names.DeliveriesStream)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look up stream %s: %w", names.DeliveriesStream, err)
	}
	raw, err := stream.GetMsg(ctx, 1, natsjs.WithGetMsgSubject(subject))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read the oldest delivery of %s: %w", subject, err)
	}
	return raw.Time, true, nil
}

// FollowForWebhooks has the events delivered to EventsForWebhooks that these webhooks want; without any webhook, none. When there was
// none before, the events from now on.
func (q *Queue) FollowForWebhooks(ctx context.Context, all []WebhookSettings) error {
	filters := webhookFilters(all)
	if len(filters) == 0 {
		return nil
	}
	consumer, err := q.js.Consumer(ctx, names.EventsStream, names.WebhooksConsumer)
	switch {
	case err == nil:
		have := consumer.CachedInfo().Config
		if slices.Equal(slices.Sorted(slices.Values(have.FilterSubjects)), filters) || slices.Equal([]string{have.FilterSubject}, filters) {
			return nil
		}
		have.FilterSubject, have.FilterSubjects = "", filters
		_, err = q.js.UpdateConsumer(ctx, names.EventsStream, have)
	case errors.Is(err, natsjs.ErrConsumerNotFound):
		_, err = q.js.CreateOrUpdateConsumer(ctx, names.EventsStream, natsjs.ConsumerConfig{
			Durable: names.WebhooksConsumer, DeliverPolicy: natsjs.DeliverNewPolicy, FilterSubjects: filters,
			AckPolicy: natsjs.AckExplicitPolicy, AckWait: sharedAckWait, MaxDeliver: -1, MaxAckPending: 1024,
		})
	}
	return wrap(err, "make consumer %s of %s", names.WebhooksConsumer, names.EventsStream)
}

const noticedAtOnce = 32

// EventsForWebhooks calls take for every event that some webhook wants, each on one of all dispatchers that call it, and again when take
// fails. FollowForWebhooks must have been called before. It returns when ctx has ended and take is not called any more.
func (q *Queue) EventsForWebhooks(ctx context.Context, take func(context.Context, *jetstream.Note) error, failed func(error)) error {
	open := func(ctx context.Context) (natsjs.Consumer, error) {
		return answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) {
			return q.js.Consumer(ctx, names.EventsStream, names.WebhooksConsumer)
		})
	}
	return q.shared(ctx, open, noticedAtOnce, func(ctx context.Context, msg *nats.Msg) error {
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read metadata of %s: %w", msg.Subject, err)
		}
		return take(ctx, &jetstream.Note{Subject: msg.Subject, Header: msg.Header, Body: msg.Data, Sequence: meta.Sequence.Stream, Time: meta.Timestamp})
	}, failed)
}

// Handed is an undelivered event that NATS has handed to this process.
type Handed struct {
	Undelivered
	Owner  job.Tenant
	Name   string
	Stored time.Time // when it was stored for delivery
	Until  time.Time // NATS hands it out again afterwards, by this machine's clock
	msg    *nats.Msg
}

// Done removes it.
func (h *Handed) Done() error { return wrap(h.msg.Ack(), "ack a delivery to webhook %s", h.Name) }

// Later has it handed out again after a time.
func (h *Handed) Later(after time.Duration) error {
	return wrap(h.msg.NakWithDelay(after), "put off a delivery to webhook %s", h.Name)
}

// Undelivered calls take for what is to be delivered, one after the other, each on one of all dispatchers that call it. take must not
// block: it hands on, and Done or Later is called afterwards. Without either it is handed out again after a minute.
func (q *Queue) Undelivered(ctx context.Context, take func(*Handed), failed func(error)) error {
	open := q.opening(names.DeliveriesStream, natsjs.ConsumerConfig{
		Durable: names.DeliverConsumer, AckPolicy: natsjs.AckExplicitPolicy, AckWait: deliverAckWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	p, err := q.puller(open, func(msg *nats.Msg) {
		if h, ok := handed(msg); ok {
			take(h)
		}
	})
	if err != nil {
		return err
	}
	defer p.close()
	return p.pullAll(ctx, deliverBatch, failed)
}

// handed reads a stored delivery. What another program has stored there is removed.
func handed(msg *nats.Msg) (*Handed, bool) {
	h := &Handed{Until: time.Now().Add(deliverAckWait), msg: msg}
	meta, err := msg.Metadata()
	var ok bool
	if h.Owner, h.Name, ok = names.WebhookOfDelivery(msg.Subject); err != nil || !ok || json.Unmarshal(msg.Data, &h.Undelivered) != nil ||
		(h.Sequence == 0) == (h.Test == "") {
		_ = msg.Ack() // it comes again if that fails
		return nil, false
	}
	h.Stored = meta.Timestamp
	return h, true
}
