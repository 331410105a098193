package queue

import (
	"context"
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

// ErrOvertaken: the chain's last event is not the one that the writer built on. Somebody else decided first.
var ErrOvertaken = errors.New("the job's chain has moved on")

// Link is one stored event of a chain.
type Link struct {
	job.Event
	ChainSequence uint64    // in COMFY_EVENTS; what the next event must expect
	Lease         Lease     // of a failed event
	Stored        time.Time // when COMFY_EVENTS stored it; only Chain sets it
}

// Append adds e to its job's chain, expecting that the chain's last event has the sequence last (0 for an
// empty chain), and returns the new event's sequence. source says who writes it (CloudEvents' ce-source). Of two
// writers that expect the same last event exactly one succeeds; the other gets ErrOvertaken.
func (q *Queue) Append(ctx context.Context, e *job.Event, last uint64, source string, lease Lease) (uint64, error) {
	body, err := e.Encode()
	if err != nil {
		return 0, err
	}
	msg := &nats.Msg{
		Subject: names.AppendSubject(names.EventSubject(e.Tenant, e.Job, e.EventKind)), Data: body, Header: eventHeader(e, last, source),
	}
	if lease != "" {
		msg.Header[names.LeaseHeader] = []string{string(lease)}
	}
	sequence, err := q.store(ctx, msg)
	if conflict(err) {
		err = ErrOvertaken
	}
	if err != nil {
		return 0, wrap(err, "append %s to job %s", e.EventKind, e.Job)
	}
	return sequence, nil
}

// headerOf makes a header of names, each with its value behind it. The values share one allocation: events and offers have
// ten of them.
func headerOf(pairs ...string) nats.Header {
	values := make([]string, len(pairs)/2)
	h := make(nats.Header, len(values)+2)
	for i := range values {
		values[i] = pairs[2*i+1]
		h[pairs[2*i]] = values[i : i+1 : i+1]
	}
	return h
}

// eventHeader has the attributes of CloudEvents 1.0 in its NATS binding's header form, and what the chain expects.
func eventHeader(e *job.Event, last uint64, source string) nats.Header {
	id, number := string(e.Job), strconv.FormatUint(last, 10)
	return headerOf(
		"ce-specversion", "1.0",
		"ce-id", id+"-"+number,
		"ce-source", source,
		"ce-type", "comfy.job."+string(e.EventKind),
		"ce-subject", string(e.Tenant)+"/"+id,
		"ce-time", e.Time.UTC().Format(time.RFC3339Nano),
		names.ContentTypeHeader, "application/json",
		natsjs.ExpectedLastSubjSeqHeader, number,
		natsjs.ExpectedLastSubjSeqSubjHeader, names.ChainSubject(e.Tenant, e.Job),
	)
}

// Last gives a job's last event, which is its state; false when the chain is empty, as that of what is no id is. The
// link's ChainSequence is what the next event must expect, also when there is none: then somebody else has stored what is
// no event of the job.
func (q *Queue) Last(ctx context.Context, tenant job.Tenant, id job.ID) (Link, bool, error) {
	if !tenant.Valid() || !id.Valid() {
		return Link{}, false, nil
	}
	link, err := q.lastOf(ctx, names.ChainSubject(tenant, id))
	if err != nil || !link.void() {
		return link, link.EventKind != "", err
	}
	chain, err := q.Chain(ctx, tenant, id)
	if err != nil || len(chain) == 0 {
		return Link{ChainSequence: link.ChainSequence}, false, err
	}
	return chain[len(chain)-1], true, nil
}

// LastOf gives a job's last event of one kind.
func (q *Queue) LastOf(ctx context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (Link, bool, error) {
	if !tenant.Valid() || !id.Valid() {
		return Link{}, false, nil
	}
	link, err := q.lastOf(ctx, names.EventSubject(tenant, id, kind))
	if err != nil || !link.void() {
		return link, link.EventKind != "", err
	}
	chain, err := q.Chain(ctx, tenant, id)
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].EventKind == kind {
			return chain[i], true, err
		}
	}
	return Link{}, false, err
}

// lastOf reads the last message of a subject; the zero Link when there is none.
func (q *Queue) lastOf(ctx context.Context, subject string) (Link, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return Link{}, nil
	}
	if err != nil {
		return Link{}, fmt.Errorf("read last event of %s: %w", subject, err)
	}
	return decodeLink(raw.Subject, raw.Header, raw.Data, raw.Sequence)
}

// Chain reads all events of a job, oldest first. What somebody else has stored there is left out; when it comes last, the
// last event has its ChainSequence, since that is what the next event must expect.
func (q *Queue) Chain(ctx context.Context, tenant job.Tenant, id job.ID) ([]Link, error) {
	subject := names.ChainSubject(tenant, id)
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
		switch n := len(chain); {
		case !link.void():
			link.Stored = raw.Time
			chain = append(chain, link)
		case n > 0:
			chain[n-1].ChainSequence = raw.Sequence
		}
		next = raw.Sequence + 1
	}
}

// void reports whether a link is no event of its job: it holds a place in the chain and says nothing.
func (l *Link) void() bool { return l.EventKind == "" && l.ChainSequence != 0 }

// decodeLink reads an event that may have been written by somebody else. One whose body does not name the job and the
// tenant of its subject is void, as JetStream's own answers are, which a publisher may send there. One that names them
// and says what cannot be is a link without what it says.
func decodeLink(subject string, h nats.Header, body []byte, sequence uint64) (Link, error) {
	tenant, id, kind, ok := names.SplitEventSubject(subject)
	if !ok {
		return Link{}, fmt.Errorf("%q is no subject of a job's event", subject)
	}
	if !id.Valid() { // a tenant of any name has a chain for what was refused
		return Link{}, fmt.Errorf("%.200q names no job", subject)
	}
	e, named, _ := job.DecodeStored(tenant, id, kind, body) // what it says and cannot be is left out
	if !named {
		return Link{Event: job.Event{Tenant: tenant, Job: id}, ChainSequence: sequence}, nil
	}
	link := Link{Event: e, ChainSequence: sequence}
	if lease := Lease(h.Get(names.LeaseHeader)); lease.Valid() {
		link.Lease = lease
	}
	return link, nil
}

// RowOf is a link of a chain in the form of an answer.
func RowOf(l *Link) jetstream.EventRow {
	return jetstream.EventRow{Sequence: l.ChainSequence, Subject: names.EventSubject(l.Tenant, l.Job, l.EventKind), Time: l.Stored, Event: l.Event}
}
