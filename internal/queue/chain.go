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

// ErrOvertaken: the chain's last event is not the expected one, since another writer has appended. Read the chain and decide again.
var ErrOvertaken = errors.New("the job's chain has an event after the expected one")

// Link is one stored event of a chain.
type Link struct {
	job.Event
	ChainSequence uint64    // in COMFY_EVENTS: what the next Append is given as last
	Lease         Lease     // of a failed event
	Stored        time.Time // when COMFY_EVENTS stored it; only Chain sets it
	Again         bool      // SettleFailed has given it before, perhaps on another dispatcher
}

// Append adds e to its job's chain, expecting that the chain's last event has the sequence last (0 for an
// empty chain), and returns the new event's sequence in COMFY_EVENTS. source names the process that writes it (CloudEvents'
// ce-source). Of two writers that expect the same last event exactly one succeeds; the other gets ErrOvertaken.
func (q *Queue) Append(ctx context.Context, e *job.Event, last uint64, source string, lease Lease) (uint64, error) {
	body, err := e.Encode()
	if err != nil {
		return 0, err
	}
	msg := &nats.Msg{
		Subject: names.JobAppendSubject(e.Tenant, e.Job, e.EventKind), Data: body, Header: eventHeader(e, last, source),
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

// eventHeader has the attributes of CloudEvents 1.0 as headers, in the form of its NATS binding, and the expected last sequence.
func eventHeader(e *job.Event, last uint64, source string) nats.Header {
	tenant, id := string(e.Tenant), string(e.Job)
	t := textsOf(96 + len(tenant) + 2*len(id))
	number := t.number(last)
	return headerOf(
		"ce-specversion", "1.0",
		"ce-id", t.join(id, "-", number),
		"ce-source", source,
		"ce-type", t.join("comfy.job.", string(e.EventKind)),
		"ce-subject", t.join(tenant, "/", id),
		"ce-time", t.time(e.Time),
		names.ContentTypeHeader, "application/json",
		natsjs.ExpectedLastSubjSeqHeader, number,
		natsjs.ExpectedLastSubjSeqSubjHeader, names.ChainSubject(e.Tenant, e.Job),
	)
}

// Last gives a job's last event, which is its state; false when the chain is empty or the id invalid. The link's ChainSequence is
// what the next Append is given as last. It may be set although there is no event: then another program has stored a message in the chain.
func (q *Queue) Last(ctx context.Context, tenant job.Tenant, id job.ID) (Link, bool, error) {
	if !tenant.Valid() || !id.Valid() {
		return Link{}, false, nil
	}
	link, err := q.lastOf(ctx, names.ChainSubject(tenant, id))
	if err != nil || !link.noEvent() {
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
	if err != nil || !link.noEvent() {
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

// FirstOf gives the sequence of a job's first event of one kind; 0 when there is none.
func (q *Queue) FirstOf(ctx context.Context, tenant job.Tenant, id job.ID, kind job.EventKind) (uint64, error) {
	raw, err := q.readEvents.GetMsg(ctx, 1, natsjs.WithGetMsgSubject(names.EventSubject(tenant, id, kind)))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the first event %s of job %s: %w", kind, id, err)
	}
	return raw.Sequence, nil
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

// LastTenantEvent is the sequence of the last stored event of all jobs of a tenant; 0 when there is none.
func (q *Queue) LastTenantEvent(ctx context.Context, tenant job.Tenant) (uint64, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, names.TenantEvents(tenant))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read last event of tenant %s: %w", tenant, err)
	}
	return raw.Sequence, nil
}

// Chain reads all events of a job, oldest first. Messages that other programs have stored there are left out; when such a message is
// the last, the last event has its sequence as ChainSequence, since the next Append must expect that.
func (q *Queue) Chain(ctx context.Context, tenant job.Tenant, id job.ID) ([]Link, error) {
	subject := names.ChainSubject(tenant, id)
	chain, whole, err := q.shortChain(ctx, subject)
	if whole || err != nil {
		return chain, wrap(err, "read chain of job %s", id)
	}
	chain = nil
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
		case !link.noEvent():
			link.Stored = raw.Time
			chain = append(chain, link)
		case n > 0:
			chain[n-1].ChainSequence = raw.Sequence
		}
		next = raw.Sequence + 1
	}
}

// kindsMost is more kinds of events than there are.
const kindsMost = 64

// shortChain reads the last event of each kind with one request, and reports whether that is the whole chain, which shows since
// each event names the one before it. It is the whole chain as long as no kind occurs twice, as in most chains. From a stream with
// several copies, of which the leader must answer, nothing is read.
func (q *Queue) shortChain(ctx context.Context, subject string) (chain []Link, whole bool, err error) {
	if !q.readEvents.CachedInfo().Config.AllowDirect {
		return nil, false, nil
	}
	answers, err := q.nc.ChanSubscribe(q.nc.NewInbox(), make(chan *nats.Msg, kindsMost+1)) // SubscribeSync makes room for 65 536
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	linked, last := true, uint64(0)
	whole, err = q.gets(ctx, answers, names.EventsStream, batchGet{Lasts: []string{subject}, Batch: kindsMost}, func(msg *nats.Msg) error {
		link, before, err := linkOf(msg)
		if err != nil {
			return err
		}
		linked = linked && !link.noEvent() && before == strconv.FormatUint(last, 10)
		chain, last = append(chain, link), link.ChainSequence
		return nil
	})
	return chain, whole && linked, err
}

// linkOf decodes a stored event that a direct get has answered, and gives the sequence of the event before it, as its header says.
func linkOf(msg *nats.Msg) (link Link, before string, err error) {
	link, err = decodeLink(names.Added(msg.Header, natsjs.SubjectHeader), msg.Header, msg.Data, sequenceOf(msg))
	link.Stored = storedAt(msg)
	return link, msg.Header.Get(natsjs.ExpectedLastSubjSeqHeader), err
}

// noEvent reports whether a link is no event of its job, but a message of another program that has a sequence in the chain.
func (l *Link) noEvent() bool { return l.EventKind == "" && l.ChainSequence != 0 }

// decodeLink decodes a stored event, which another program may have written. When the body does not name the tenant and job of the
// subject, the link is no event. An example is an ack of JetStream: a publisher can give an event's subject as reply subject, and
// the ack is stored there. An event with an impossible value has its kind, tenant and job alone.
func decodeLink(subject string, h nats.Header, body []byte, sequence uint64) (Link, error) {
	tenant, id, kind, ok := names.SplitEventSubject(subject)
	if !ok {
		return Link{}, fmt.Errorf("%q is no subject of a job's event", subject)
	}
	if !id.Valid() { // the tenant is not checked: what was published with an invalid tenant also has events, which say why it was refused
		return Link{}, fmt.Errorf("%.200q names no job", subject)
	}
	e, named, _ := job.DecodeStored(tenant, id, kind, body) // the error says which value is impossible
	if !named {
		return Link{Event: job.Event{Tenant: tenant, Job: id}, ChainSequence: sequence}, nil
	}
	link := Link{Event: e, ChainSequence: sequence}
	if lease := Lease(h.Get(names.LeaseHeader)); lease.Valid() {
		link.Lease = lease
	}
	return link, nil
}

// RowOf is a link of a chain in the form that answers have.
func RowOf(l *Link) jetstream.EventRow {
	return jetstream.EventRow{Sequence: l.ChainSequence, Subject: names.EventSubject(l.Tenant, l.Job, l.EventKind), Time: l.Stored, Event: l.Event}
}
