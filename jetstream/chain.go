package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// ErrOvertaken: the chain's last event is not the one that the writer built on. Somebody else decided first.
var ErrOvertaken = errors.New("the job's chain has moved on")

// Link is one stored event of a chain.
type Link struct {
	job.Event
	ChainSequence uint64    // in COMFY_EVENTS; what the next event must expect
	Lease         Lease     // of a failed event
	Stored        time.Time // when COMFY_EVENTS stored it; only Chain tells
}

// Append adds e to its job's chain, expecting that the chain's last event has the sequence last (0 for an
// empty chain), and returns the new event's sequence. source says who writes it (CloudEvents' ce-source). Of two
// writers that expect the same last event exactly one succeeds; the other gets ErrOvertaken.
func (q *Queue) Append(ctx context.Context, e *job.Event, last uint64, source string, lease Lease) (uint64, error) {
	body, err := e.Encode()
	if err != nil {
		return 0, err
	}
	f := q.eventForms.take()
	defer q.eventForms.put(f)
	f.event(e, last, source)
	f.option(LeaseHeader, string(lease))
	f.Data = body
	sequence, err := q.store(ctx, &f.Msg)
	if conflict(err) {
		err = ErrOvertaken
	}
	if err != nil {
		return 0, wrap(err, "append %s to job %s", e.EventKind, e.Job)
	}
	return sequence, nil
}

// eventForms have the attributes of CloudEvents 1.0 in its NATS binding's header form, and what the chain expects.
func eventForms() *forms {
	return &forms{options: []string{LeaseHeader}, names: []string{
		"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", contentTypeHeader,
		natsjs.ExpectedLastSubjSeqHeader, natsjs.ExpectedLastSubjSeqSubjHeader,
	}}
}

func (f *form) event(e *job.Event, last uint64, source string) {
	tenant, id, kind := string(e.Tenant), string(e.Job), string(e.EventKind)
	var text joiner
	text.Grow(170 + 3*len(tenant) + 4*len(id))
	number := text.number(last)
	f.Subject = text.join(jobAppendPrefix, tenant, ".", id, ".", kind)
	chain := text.join(jobEventsPrefix, tenant, ".", id, ".*")
	copy(f.values, []string{
		"1.0", text.join(id, "-", number), source, text.join("comfy.job.", kind), text.join(tenant, "/", id), text.time(e.Time),
		"application/json", number, chain,
	})
}

// Last gives a job's last event, which is its state; false when the chain is empty, as that of what is no id is.
func (q *Queue) Last(ctx context.Context, tenant job.Tenant, id job.ID) (Link, bool, error) {
	if !tenant.Valid() || !id.Valid() {
		return Link{}, false, nil
	}
	return q.lastOf(ctx, chainSubject(tenant, id))
}

// LastOf gives a job's last event of one kind.
func (q *Queue) LastOf(ctx context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (Link, bool, error) {
	if !tenant.Valid() || !id.Valid() {
		return Link{}, false, nil
	}
	return q.lastOf(ctx, eventSubject(tenant, id, kind))
}

func (q *Queue) lastOf(ctx context.Context, subject string) (Link, bool, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return Link{}, false, nil
	}
	if err != nil {
		return Link{}, false, fmt.Errorf("read last event of %s: %w", subject, err)
	}
	link, err := decodeLink(raw.Subject, raw.Header, raw.Data, raw.Sequence)
	return link, err == nil, err
}

// Chain reads all events of a job, oldest first.
func (q *Queue) Chain(ctx context.Context, tenant job.Tenant, id job.ID) ([]Link, error) {
	subject := chainSubject(tenant, id)
	var chain []Link
	for next := uint64(1); ; {
		raw, err := q.readEvents.GetMsg(ctx, next, natsjs.WithGetMsgSubject(subject))
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return chain, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read chain of job %s: %w", id, err)
		}
		link, err := decodeLink(raw.Subject, raw.Header, raw.Data, raw.Sequence)
		if err != nil {
			return nil, err
		}
		link.Stored = raw.Time
		chain = append(chain, link)
		next = raw.Sequence + 1
	}
}

// decodeLink reads an event that may have been written by somebody else: a body that does not parse still is a
// link, or one bad publish would wedge its job; so is one that says what cannot be.
func decodeLink(subject string, h nats.Header, body []byte, sequence uint64) (Link, error) {
	tenant, id, kind, ok := splitEventSubject(subject)
	if !ok {
		return Link{}, fmt.Errorf("%q is no subject of a job's event", subject)
	}
	if !id.Valid() { // a tenant of any name has a chain for what was refused
		return Link{}, fmt.Errorf("%.200q names no job", subject)
	}
	e, err := job.DecodeEvent(kind, body)
	if err != nil || checkEvent(&e) != nil {
		e = job.Event{EventKind: kind}
	}
	e.Tenant, e.Job = tenant, id
	link := Link{Event: e, ChainSequence: sequence}
	if lease := Lease(h.Get(LeaseHeader)); lease.Valid() {
		link.Lease = lease
	}
	return link, nil
}
