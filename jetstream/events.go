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

// Jobs lists the tenant's jobs, the one with the newest event first. A page may be short, or empty, although more follow: ask again
// with Next as Before until Next is 0.
func (c *Client) Jobs(ctx context.Context, r JobsRequest) (JobsAnswer, error) {
	return answerTo[JobsAnswer](ctx, c, "jobs", r)
}

// Events gives a page of the stored events of the tenant's jobs, oldest first. Next is the After of the next request, also at the
// end, so a program that keeps it misses no event that is still stored.
func (c *Client) Events(ctx context.Context, r EventsRequest) (EventsAnswer, error) {
	return answerTo[EventsAnswer](ctx, c, "events", r)
}

// Follow gives the events of the tenant's jobs that are stored after a sequence (0: all of them), and then further ones as they are
// stored. Each comes once, and those of one job come in order, also across outages of NATS and of dispatchers. It ends with ctx,
// whose error is then the last item, or with an error of the first call, such as that no dispatcher is running. When COMFY_EVENTS
// was deleted and created again, all events of the new stream are given. The notes have no Header and no Pending.
func (c *Client) Follow(ctx context.Context, after uint64) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		f := c.following("", after)
		f.yield = func(n Note) bool { return yield(n, nil) }
		if err := f.run(ctx); err != nil {
			yield(Note{}, err)
		}
	}
}

// errStopped ends the reading of events when the caller wants no more.
var errStopped = errors.New("the caller wants no more events")

func noTenant(t Tenant) error {
	return &BadRequest{Message: fmt.Sprintf("%.80q is no tenant name: use 1 to 64 of A-Z a-z 0-9 _ -", t)}
}

const (
	liveBuffer  = 8192             // live events that wait to be given
	followCheck = 30 * time.Second // after which pages are read again: a live event may be lost without a sign
)

// following gives events live, and reads pages whenever some may be missing: at the beginning, after an outage, when live events
// overflowed their buffer, and every followCheck.
type following struct {
	c       *Client
	job     ID              // only events of this job; empty: of all
	yield   func(Note) bool // gives an event; false: the caller wants no more
	restart func()          // called when the stream was created again
	made    time.Time       // when the stream was created
	sure    uint64          // all events up to this sequence were given
	given   map[uint64]bool // sequences after it that were given
	first   bool            // no page was read so far
	live    chan *nats.Msg
}

func (c *Client) following(id ID, after uint64) *following {
	return &following{
		c: c, job: id, sure: after, given: map[uint64]bool{}, first: true, restart: func() {}, live: make(chan *nats.Msg, liveBuffer),
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
	if err := f.stored(ctx); err != nil { // before the subscription, so that live events do not fill their buffer meanwhile
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

// next gives one live event; whole is false when the stored events must be read again instead.
func (f *following) next(ctx context.Context, changes <-chan nats.Status, check <-chan time.Time) (whole bool, err error) {
	select {
	case msg := <-f.live:
		return true, f.receive(msg)
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

// stored gives the stored events that were not given yet. An error ends it only before the first page; later it tries again.
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
			f.made, f.sure, f.given = page.Made, 0, map[uint64]bool{}
			f.dropLive()
			f.restart()
			continue
		}
		f.made, f.first = page.Made, false
		for i := range page.Events {
			n := page.Events[i].note()
			if !f.given[n.Sequence] && !f.yield(n) {
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

// dropLive drops the live events that wait when the stream turns out to have been created again: the sequences of the old stream
// mean nothing in the new one, and the events of the new one are read in pages.
func (f *following) dropLive() {
	for {
		select {
		case <-f.live:
		default:
			return
		}
	}
}

// forget removes the sequences that f.sure covers.
func (f *following) forget() {
	for sequence := range f.given {
		if sequence <= f.sure {
			delete(f.given, sequence)
		}
	}
}

// receive gives a live event. A message without a stored sequence, which is then 0, was published directly, is not stored, and is
// ignored.
func (f *following) receive(msg *nats.Msg) error {
	n := Note{Subject: msg.Subject, Body: msg.Data, Sequence: names.AddedUint(msg.Header, names.StoredHeader)}
	if n.Sequence <= f.sure || f.given[n.Sequence] {
		return nil
	}
	n.Time, _ = time.Parse(time.RFC3339Nano, names.Added(msg.Header, "Nats-Time-Stamp"))
	f.given[n.Sequence] = true
	if !f.yield(n) {
		return errStopped
	}
	return nil
}

// SequenceAt gives the sequence after which the tenant's events since a time are stored, for Follow and for Events' After. It
// searches by halves, which takes some twenty calls.
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
	Pending  uint64 // how many stored events follow at this moment
}

// Event decodes the note as the event of a job; false when it is none, such as the event of a host or a message that another
// program has published.
func (n *Note) Event() (Event, bool) {
	tenant, id, kind, ok := names.SplitEventSubject(n.Subject)
	if !ok || !id.Valid() {
		return Event{}, false
	}
	e, named, _ := job.DecodeStored(tenant, id, kind, n.Body) // with an impossible value it has its kind, tenant and job alone
	return e, named
}

func (e *EventNote) note() Note {
	return Note{Subject: e.Subject, Body: e.Event, Sequence: e.Sequence, Time: e.Time}
}
