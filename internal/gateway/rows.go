package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Rows are the jobs of one tenant: all that have not ended, and those that ended last.
//
// A gateway must not answer that a job is neither queued nor ended when the client has been told its id, perhaps by another gateway a
// millisecond ago. So before an answer, refresh makes sure that everything is read that was stored when the request came:
//
//  1. It reads the jobs of COMFY_JOBS that it has not seen. Whatever was submitted through any gateway, and has not ended, is there.
//  2. Then it reads the sequence of the tenant's last event, and waits until that event is among those that follow has read. A job
//     that had ended before step 1, and so was no longer in COMFY_JOBS, has all its events by then, since a job is removed from there
//     after its last event is stored.
//
// In the other order a job that ends between the two steps would be missed. Both steps ask the streams' leaders. So gateways need
// not know of each other, and one that has just started gives the same answers as the others.
type Rows struct {
	q      *queue.Queue
	tenant job.Tenant
	told   func(*Row) // of every change, with the lock held; nil: of none

	scanning sync.Mutex // held while jobs are read; guards the two below
	scanned  uint64     // sequence in COMFY_JOBS up to which the jobs were read
	jobsMade time.Time  // when COMFY_JOBS was created

	mu      sync.Mutex // guards all below
	open    map[job.ID]*Row
	ended   map[job.ID]*Row
	order   []job.ID // of those that have ended, in the order of their ends
	made    time.Time
	read    uint64    // sequence of the last event that was read
	since   time.Time // when that was stored
	changed chan struct{}
	looked  time.Time // when jobs without an event were looked for last
}

const (
	// mostEnded is how many jobs that have ended a gateway lists, as many as ComfyUI keeps in its history.
	mostEnded = 10_000

	refreshTimeout = 15 * time.Second
)

func newRows(q *queue.Queue, tenant job.Tenant) *Rows {
	return &Rows{q: q, tenant: tenant, open: map[job.ID]*Row{}, ended: map[job.ID]*Row{}, changed: make(chan struct{})}
}

// Row is a job by its id; false when the tenant has none of this id.
func (r *Rows) Row(id job.ID) (Row, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row := r.open[id]; row != nil {
		return *row, true
	}
	if row := r.ended[id]; row != nil {
		return *row, true
	}
	return Row{}, false
}

// Unfinished are the jobs that have not ended, in the order in which ComfyUI would run them.
func (r *Rows) Unfinished() []Row {
	r.mu.Lock()
	rows := make([]Row, 0, len(r.open))
	for _, row := range r.open {
		rows = append(rows, *row)
	}
	r.mu.Unlock()
	slices.SortFunc(rows, func(a, b Row) int {
		switch x, y := a.order(), b.order(); {
		case x < y:
			return -1
		case x > y:
			return 1
		case a.Job < b.Job:
			return -1
		}
		return 1
	})
	return rows
}

// Ended are the jobs that have ended, in the order of their ends.
func (r *Rows) Ended() []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := make([]Row, 0, len(r.order))
	for _, id := range r.order {
		rows = append(rows, *r.ended[id])
	}
	return rows
}

// Rows are all jobs: those that have ended, in the order of their ends, and then the others.
func (r *Rows) Rows() []Row { return append(r.Ended(), r.Unfinished()...) }

// remaining is how many jobs have not ended.
func (r *Rows) remaining() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// Changed is a channel that is closed at the next change of any row. Get it before reading the rows, so that no change is missed.
func (r *Rows) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// refresh returns when the rows have everything that was stored when it was called.
func (r *Rows) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	r.expire()
	if err := r.scan(ctx); err != nil {
		return err
	}
	if err := r.lookAgain(ctx); err != nil {
		return err
	}
	last, err := r.q.LastTenantEvent(ctx, r.tenant)
	if err != nil {
		return err
	}
	for {
		changed := r.Changed()
		if r.upTo() >= last {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for events up to %d: %w", last, ctx.Err())
		}
	}
}

func (r *Rows) upTo() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read
}

// scan reads the jobs that were stored since it was called last.
func (r *Rows) scan(ctx context.Context) error {
	r.scanning.Lock()
	defer r.scanning.Unlock()
	if made := r.q.Created(); !made.Equal(r.jobsMade) { // another stream has other sequences
		r.scanned, r.jobsMade = 0, made
	}
	for {
		m, found, err := r.q.NextStored(ctx, r.tenant, nil, r.scanned)
		if err != nil || !found {
			return err
		}
		r.scanned = m.Sequence
		if id := job.ID(m.JobIDHeader); id != "" {
			if _, known := r.Row(id); known {
				continue
			}
		}
		if row, is := storedRow(&m); is {
			r.add(&row)
		}
	}
}

// add adds a job that has no event yet, unless it is known.
func (r *Rows) add(row *Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[row.Job] == nil && r.ended[row.Job] == nil {
		r.put(row)
	}
}

// put replaces a row; r.mu must be held.
func (r *Rows) put(row *Row) {
	if row.Ended() {
		delete(r.open, row.Job)
		if r.ended[row.Job] == nil {
			r.order = append(r.order, row.Job)
		}
		r.ended[row.Job] = row
		r.forget(row.Time)
	} else {
		r.open[row.Job] = row
	}
	if r.told != nil {
		r.told(row)
	}
	r.signal()
}

func (r *Rows) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// expire removes jobs whose events are no longer stored.
func (r *Rows) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(r.q.Now())
}

// forget removes ended jobs beyond the most that are listed, and those whose events are no longer stored; r.mu must be held.
func (r *Rows) forget(now time.Time) {
	for len(r.order) > 0 {
		first := r.ended[r.order[0]]
		age := r.q.EventsAge()
		if len(r.order) <= mostEnded && (age == 0 || now.Sub(first.Time) < age) {
			return
		}
		delete(r.ended, r.order[0])
		r.order = r.order[1:]
	}
}

// follow reads the tenant's events until ctx ends.
func (r *Rows) follow(ctx context.Context, log *slog.Logger) {
	followAgain(ctx, log.With("tenant", r.tenant), "the events of a tenant", func() error { return r.followOnce(ctx) })
}

func (r *Rows) followOnce(ctx context.Context) error {
	state, err := r.q.EventsState(ctx)
	if err != nil {
		return err
	}
	for note, err := range r.q.TenantNotes(ctx, r.tenant, r.begin(state.Made)) {
		if err != nil {
			return err
		}
		r.note(&note)
	}
	return errors.New("the events have ended")
}

// begin gives the time from which on events must be read. When the stream was created again, which gives it other sequences, all
// are read, and the rows begin anew with them.
func (r *Rows) begin(made time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !made.Equal(r.made) {
		r.made, r.read, r.since = made, 0, time.Time{}
	}
	return r.since
}

// note adds an event.
func (r *Rows) note(n *jetstream.Note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Sequence <= r.read {
		return
	}
	r.read, r.since = n.Sequence, n.Time
	e, is := n.Event()
	if !is || e.Tenant != r.tenant {
		r.signal()
		return
	}
	var before Row
	if row := r.open[e.Job]; row != nil {
		before = *row
	} else if row := r.ended[e.Job]; row != nil {
		before = *row
	}
	after := before.with(&e, n.Sequence, n.Time)
	r.put(&after)
}
