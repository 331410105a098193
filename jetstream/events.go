package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Jobs lists the tenant's jobs, the one with the newest event first. A page may be short or empty although there are more: call
// again with Next as Before until Next is 0.
func (c *Client) Jobs(ctx context.Context, r JobsRequest) (JobsAnswer, error) {
	var a JobsAnswer
	return a, c.call(ctx, "jobs", r, &a)
}

// Events returns a page of the stored events of the tenant's jobs, oldest first. Call again with Next as After, also later from
// the end on: a program that stores Next misses nothing for as long as events are kept.
func (c *Client) Events(ctx context.Context, r EventsRequest) (EventsAnswer, error) {
	var a EventsAnswer
	return a, c.call(ctx, "events", r, &a)
}

// Follow yields the events of the tenant's jobs that are stored after a sequence, 0 for all, and then new ones as they are stored:
// each once, and those of a job in order. It goes on after outages of NATS and of dispatchers. It ends with ctx, whose error is
// then the last item, or when the first call fails, as without a dispatcher. If the stream of events was deleted and made again,
// it yields all events of the new one. The notes have no headers.
func (c *Client) Follow(ctx context.Context, after uint64) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		f := c.following("", after)
		f.tell = func(n Note) bool { return yield(n, nil) }
		if err := f.run(ctx); err != nil {
			yield(Note{}, err)
		}
	}
}

// errStopped ends the reading of events when the caller has stopped ranging over them.
var errStopped = errors.New("enough was read")

func noTenant(t job.Tenant) error {
	return &BadRequest{Message: fmt.Sprintf("%.80q is no tenant: 1 to 64 of A-Z a-z 0-9 _ -", t)}
}

const (
	followRoom  = 8192             // live events that wait while earlier ones are yielded
	followCheck = 30 * time.Second // after which pages are read again, since live events may be lost
)

// following passes live events on, and reads pages whenever some may be missing: at first, after an outage, when live ones
// came faster than they were read, and every followCheck.
type following struct {
	c     *Client
	job   job.ID          // follow only this job; empty: all
	tell  func(Note) bool // false: the caller wants no more
	anew  func()          // the stream was made again
	made  time.Time       // of the stream
	sure  uint64          // all events up to this sequence were passed on
	told  map[uint64]bool // sequences after sure that were passed on
	first bool            // nothing was read so far
	live  chan *nats.Msg
}

func (c *Client) following(id job.ID, after uint64) *following {
	return &following{
		c: c, job: id, sure: after, told: map[uint64]bool{}, first: true, anew: func() {}, live: make(chan *nats.Msg, followRoom),
	}
}

func (f *following) run(ctx context.Context) error {
	err := f.follow(ctx)
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

func (f *following) follow(ctx context.Context) error {
	if err := f.stored(ctx); err != nil { // before live ones would have to wait for it
		return err
	}
	changes := f.c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer f.c.nc.RemoveStatusListener(changes)
	sub, err := f.c.nc.ChanSubscribe(names.EventSubject(f.c.tenant, cmp.Or(f.job, "*"), "*"), f.live)
	if err != nil {
		return fmt.Errorf("follow events of tenant %s: %w", f.c.tenant, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	check := time.NewTicker(followCheck)
	defer check.Stop()
	for dropped := 0; ; {
		if err := f.stored(ctx); err != nil {
			return err
		}
		for whole := true; whole; {
			var err error
			if whole, err = f.next(ctx, changes, check.C); err != nil {
				return err
			}
			if n, err := sub.Dropped(); err == nil && n != dropped {
				dropped, whole = n, false
			}
		}
	}
}

// next waits for one event, or for what asks to read the stored ones again: whole is false then.
func (f *following) next(ctx context.Context, changes <-chan nats.Status, check <-chan time.Time) (whole bool, err error) {
	select {
	case msg := <-f.live:
		return true, f.hear(msg)
	case status := <-changes:
		if status == nats.CLOSED {
			return false, fmt.Errorf("follow events of tenant %s: %w", f.c.tenant, nats.ErrConnectionClosed)
		}
		return false, nil
	case <-check:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// stored passes on what is stored and was not passed on yet. It fails only as long as it has read nothing.
func (f *following) stored(ctx context.Context) error {
	for {
		page, err := f.c.Events(ctx, EventsRequest{Job: f.job, After: f.sure})
		_, wrong := errors.AsType[*BadRequest](err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (f.first || wrong || f.c.nc.IsClosed()):
			return err
		case err != nil:
			pause(ctx, retryPause)
			continue
		}
		if !page.Made.Equal(f.made) && !f.made.IsZero() {
			f.made, f.sure, f.told = page.Made, 0, map[uint64]bool{}
			f.drain()
			f.anew()
			continue
		}
		f.made, f.first = page.Made, false
		for i := range page.Events {
			n := page.Events[i].note()
			if !f.told[n.Sequence] && !f.tell(n) {
				return errStopped
			}
		}
		f.sure = page.Next
		if page.End {
			f.forget()
			return nil
		}
	}
}

// drain drops the live events that came before it was noticed that the stream was made again: the sequences of the former stream
// mean nothing now, and the events of the new one are read as pages.
func (f *following) drain() {
	for {
		select {
		case <-f.live:
		default:
			return
		}
	}
}

// forget drops the sequences that sure covers.
func (f *following) forget() {
	for sequence := range f.told {
		if sequence <= f.sure {
			delete(f.told, sequence)
		}
	}
}

// hear passes a live event on. One without a sequence was not stored, and is ignored.
func (f *following) hear(msg *nats.Msg) error {
	n := Note{Subject: msg.Subject, Body: msg.Data, Sequence: names.AddedUint(msg.Header, names.StoredHeader)}
	if n.Sequence == 0 {
		return nil
	}
	n.Time, _ = time.Parse(time.RFC3339Nano, names.Added(msg.Header, "Nats-Time-Stamp"))
	if n.Sequence <= f.sure || f.told[n.Sequence] {
		return nil
	}
	f.told[n.Sequence] = true
	if !f.tell(n) {
		return errStopped
	}
	return nil
}

// SequenceAt gives the sequence behind which the tenant's events since a time begin, for Follow. It takes some twenty calls.
func (c *Client) SequenceAt(ctx context.Context, since time.Time) (uint64, error) {
	newest, err := c.Jobs(ctx, JobsRequest{Limit: 1})
	if err != nil || len(newest.Jobs) == 0 {
		return 0, err
	}
	low, high := uint64(0), newest.Jobs[0].Last.Sequence
	if newest.Jobs[0].Last.Time.Before(since) {
		return high, nil
	}
	for low < high {
		middle := low + (high-low)/2
		page, err := c.Events(ctx, EventsRequest{After: middle, Limit: 1})
		if err != nil {
			return 0, err
		}
		if len(page.Events) > 0 && page.Events[0].Time.Before(since) {
			low = page.Events[0].Sequence
		} else {
			high = middle
		}
	}
	return high, nil
}

// Note is any stored event: of a job, a block or a host.
type Note struct {
	Subject  string
	Header   nats.Header
	Body     []byte
	Sequence uint64
	Time     time.Time
	Pending  uint64 // how many stored ones follow at this moment
}

// Event decodes the event of a job. It is false for any other event, and for a message that is no event of its job.
func (n *Note) Event() (Event, bool) {
	tenant, id, kind, ok := names.SplitEventSubject(n.Subject)
	if !ok || !id.Valid() {
		return Event{}, false
	}
	e, named, _ := job.DecodeStored(tenant, id, kind, n.Body) // values that cannot be are left out
	return e, named
}

func (e *EventNote) note() Note {
	return Note{Subject: e.Subject, Body: e.Event, Sequence: e.Sequence, Time: e.Time}
}
