package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	mostPassed = 5000            // events of other kinds that a page passes over before it ends
	waitCheck  = 5 * time.Second // after which a waiting call reads again, since a live event may be lost
	rowAround  = 128             // bytes of an EventNote besides its subject and its event
)

// EventsPage gives a page of the stored events of a tenant's jobs: at most 500, and at most half of max_payload. When there is none
// it waits for one, as long as r.Wait says. A request with impossible values is a BadRequest.
func (q *Queue) EventsPage(ctx context.Context, tenant job.Tenant, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
	if err := checkEvents(&r, tenant); err != nil {
		return jetstream.EventsAnswer{}, err
	}
	p := paging{q: q, subject: eventsSubject(&r, tenant), kinds: r.Kinds, limit: min(cmp.Or(r.Limit, mostRows), mostRows)}
	if r.Wait == 0 {
		return p.read(ctx, r.After)
	}
	published := make(chan struct{}, 1) // one value is enough: it makes the call read again
	live, err := q.listen(p.subject, func(*nats.Msg) {
		select {
		case published <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return jetstream.EventsAnswer{}, err
	}
	defer func() { _ = live.Unsubscribe() }() // the connection may be closed already
	over, again := time.NewTimer(time.Duration(r.Wait)), time.NewTicker(waitCheck)
	defer over.Stop()
	defer again.Stop()
	for {
		page, err := p.read(ctx, r.After)
		if err != nil || len(page.Events) > 0 || !page.End {
			return page, err
		}
		r.After = page.Next
		select {
		case <-published:
		case <-again.C:
		case <-over.C:
			return page, nil
		case <-ctx.Done():
			return page, nil
		}
	}
}

func checkEvents(r *jetstream.EventsRequest, tenant job.Tenant) error {
	switch {
	case !tenant.Valid():
		return &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no tenant name: use 1 to 64 of A-Z a-z 0-9 _ -", tenant)}
	case r.Job != "" && !r.Job.Valid():
		return &jetstream.BadRequest{Message: fmt.Sprintf("%.200q is no job id: use 1 to 120 of A-Z a-z 0-9 _ -, or leave job out", r.Job)}
	case r.Limit < 0:
		return &jetstream.BadRequest{Message: "limit is negative: give 1 to 500, or leave it out"}
	case time.Duration(r.Wait) > longestWait:
		return &jetstream.BadRequest{Message: fmt.Sprintf("wait is %s, and may be at most %s: ask again when it is over", time.Duration(r.Wait), longestWait)}
	}
	for _, kind := range r.Kinds {
		if !slices.Contains(job.EventKinds(), kind) {
			return &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no kind of event: use one of %v", kind, job.EventKinds())}
		}
	}
	return nil
}

func eventsSubject(r *jetstream.EventsRequest, tenant job.Tenant) string {
	kind := job.EventKind("*")
	if len(r.Kinds) == 1 {
		kind = r.Kinds[0]
	}
	return names.EventSubject(tenant, cmp.Or(r.Job, "*"), kind)
}

// paging reads pages of events. Each page is of one tenant, whose name is in the subject.
type paging struct {
	q       *Queue
	subject string
	kinds   []job.EventKind
	limit   int

	page   jetstream.EventsAnswer
	room   int // bytes left in the page
	passed int
	full   bool
	before uint64 // sequence of the batch's last event so far; 0: none yet
}

var errMissed = errors.New("an event of the batch is missing")

// read gives the page after a sequence. Every event that is stored when it is called is in the page or after its Next.
func (p *paging) read(ctx context.Context, after uint64) (jetstream.EventsAnswer, error) {
	state, err := p.q.EventsState(ctx)
	if err != nil {
		return jetstream.EventsAnswer{}, err
	}
	p.page = jetstream.EventsAnswer{Events: []jetstream.EventNote{}, Next: after, Made: state.Made}
	p.room, p.passed, p.full = p.q.pageSize(), 0, false
	if after > state.Last { // a sequence of an earlier stream, which was deleted
		p.page.Next, p.page.End = state.Last, true
		return p.page, nil
	}
	for p.page.Next < state.Last {
		before := p.page.Next
		complete, err := p.batch(ctx)
		switch {
		case p.full:
			return p.page, nil
		case err != nil:
			return jetstream.EventsAnswer{}, err
		case complete:
			behind, err := p.behind(ctx, state.Last)
			if err != nil {
				return jetstream.EventsAnswer{}, err
			}
			if !behind {
				p.page.Next = max(p.page.Next, state.Last)
			}
		case p.page.Next == before && !Pause(ctx, rewatchPause):
			return jetstream.EventsAnswer{}, ctx.Err()
		}
	}
	p.page.End = true
	return p.page, nil
}

// batch adds stored events to the page.
func (p *paging) batch(ctx context.Context) (complete bool, err error) {
	answers, err := p.q.nc.SubscribeSync(p.q.nc.NewInbox()) // a new inbox, so that late answers to another batch are not read
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	p.before = 0
	want := batchGet{Sequence: p.page.Next + 1, Subject: p.subject, Batch: p.limit - len(p.page.Events) + 1, MaxBytes: p.room}
	complete, err = p.q.gets(ctx, answers, names.EventsStream, want, p.take)
	if errors.Is(err, errEnough) || errors.Is(err, errMissed) || err != nil && unreachable(err) && ctx.Err() == nil {
		return false, nil
	}
	return complete, wrap(err, "read events")
}

// behind reports whether the copy of the stream that has answered lacks events: any copy answers a direct get, also one that is
// behind the leader.
func (p *paging) behind(ctx context.Context, last uint64) (bool, error) {
	if p.q.readEvents.CachedInfo().Config.Replicas < 2 {
		return false, nil
	}
	raw, err := p.q.readEvents.GetMsg(ctx, p.page.Next+1, natsjs.WithGetMsgSubject(p.subject))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	return raw.Sequence <= last, nil
}

// take adds an event to the page, or ends the page before it.
func (p *paging) take(msg *nats.Msg) error {
	sequence := sequenceOf(msg)
	if p.before != names.AddedUint(msg.Header, natsjs.LastSequenceHeader) {
		return errMissed
	}
	p.before = sequence
	subject := names.Added(msg.Header, natsjs.SubjectHeader)
	_, _, kind, _ := names.SplitEventSubject(subject)
	if len(p.kinds) > 0 && !slices.Contains(p.kinds, kind) {
		if p.passed++; p.passed > mostPassed {
			return p.endPage()
		}
		p.page.Next = sequence
		return nil
	}
	row, size := p.row(sequence, subject, msg)
	if n := len(p.page.Events); n == p.limit || n > 0 && size > p.room {
		return p.endPage()
	}
	p.room -= size
	p.page.Events, p.page.Next = append(p.page.Events, row), sequence
	return nil
}

// endPage ends the reading, since the page is full.
func (p *paging) endPage() error {
	p.full = true
	return errEnough
}

func (p *paging) row(sequence uint64, subject string, msg *nats.Msg) (jetstream.EventNote, int) {
	row := jetstream.EventNote{Sequence: sequence, Subject: subject}
	row.Time, _ = time.Parse(time.RFC3339Nano, names.Added(msg.Header, natsjs.TimeStampHeaer))
	size := len(subject) + rowAround
	event, err := json.Marshal(json.RawMessage(msg.Data)) // the form that it has in the answer
	if err != nil || len(event)+size > p.q.maxPayload() {
		row.LeftOut = len(msg.Data)
		return row, size
	}
	row.Event = event
	return row, size + len(event)
}
