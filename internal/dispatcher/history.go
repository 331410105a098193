package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// jobHistory has a row for every job whose events are stored, for calls that list jobs. It reads the stream of events on a
// goroutine of its own, away from the loop, which needs none of it: every few seconds what is new, and at once when
// a call asks, which gets what was stored up to that moment. While there were no calls for some time and events come fast,
// none are read, since reading those of a job costs a tenth of the job: then the next call waits until they are read.
type jobHistory struct {
	q    eventsWire
	warn *slog.Logger
	wake chan struct{} // holds one

	mu     sync.RWMutex // guards all below
	fold   *job.Fold
	next   *pass     // the pass that begins next
	asked  int       // calls that wait for a pass
	called time.Time // when a call asked last
	state  queue.EventsState
	read   uint64 // sequence up to which the events are folded

	offline map[string]time.Time // hosts that have gone, and when

	tries lastTries
}

// eventsWire reads the stored events.
type eventsWire interface {
	EventsState(ctx context.Context) (queue.EventsState, error)
	ReadEvents(after uint64, tell func(jetstream.Note)) (eventReader, error)
	EventsPage(ctx context.Context, tenant job.Tenant, r jetstream.EventsRequest) (jetstream.EventsAnswer, error)
	Rows(asked int) int
}

type eventReader interface {
	Read(ctx context.Context, upTo uint64) (bool, error)
	Last() uint64
	Close()
}

// pass reads what was stored when it began.
type pass struct {
	done chan struct{}
	err  error // of a pass that is done
}

const (
	historyPause = 3 * time.Second // after which new events are read without a call
	historyRetry = 250 * time.Millisecond
	historyKeen  = 10 * time.Minute       // time after a call in which new events are always read
	historyCalm  = 1000                   // new events in historyPause that are read without a call
	historyLook  = 50_000                 // places in the order of events that one page may look at
	historySoon  = 300 * time.Millisecond // how long a call waits that can also use only the events read so far
	answerRoom   = time.Second            // part of a call's time that is kept for the answer that it failed
)

func newJobHistory(q eventsWire, rows int, log *slog.Logger) *jobHistory {
	return &jobHistory{q: q, warn: log, wake: make(chan struct{}, 1), fold: job.NewFold(rows), next: &pass{done: make(chan struct{})}, offline: map[string]time.Time{}}
}

// loop reads until ctx ends.
func (h *jobHistory) loop(ctx context.Context) error {
	var reader eventReader
	defer func() {
		if reader != nil {
			reader.Close()
		}
	}()
	failing := false
	for ctx.Err() == nil {
		p := h.begin()
		reader, p.err = h.catchUp(ctx, reader)
		close(p.done)
		if failed := p.err != nil && ctx.Err() == nil; failed != failing {
			if failing = failed; failing {
				h.warn.Warn("lists of jobs are out of date: their events cannot be read; it is tried again", "error", p.err)
			}
		}
		if p.err != nil {
			queue.Pause(ctx, historyRetry) // calls wait for the next pass
			continue
		}
		h.rest(ctx)
	}
	return ctx.Err()
}

func (h *jobHistory) begin() *pass {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.next
	h.next = &pass{done: make(chan struct{})}
	return p
}

// rest waits until its time is over or a call asks.
func (h *jobHistory) rest(ctx context.Context) {
	timer := time.NewTimer(historyPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.wake:
	case <-ctx.Done():
	}
}

// catchUp reads up to what is stored now. A stream that was made again, or that has lost its newest events, is read from
// its first.
func (h *jobHistory) catchUp(ctx context.Context, reader eventReader) (eventReader, error) {
	state, err := h.q.EventsState(ctx)
	if err != nil {
		return reader, err
	}
	fromFirst := reader == nil || !state.Made.Equal(h.made()) || state.Last < reader.Last()
	if fromFirst {
		if reader != nil {
			reader.Close()
		}
		h.forgetAll()
		if reader, err = h.q.ReadEvents(state.First.Sequence-1, h.take); err != nil {
			return nil, err
		}
	}
	busy := !fromFirst && h.grown(state) > historyCalm
	h.dropUnstored(state)
	if waited, keen := h.wanted(time.Now()); busy && !waited && !keen {
		return reader, nil
	}
	return reader, h.readOn(ctx, reader, state.Last)
}

// readOn reads up to a sequence. While no call waits for it the dispatcher's other work goes first: it reads slowly, and stops
// after a while to see how much is left to read.
func (h *jobHistory) readOn(ctx context.Context, reader eventReader, upTo uint64) error {
	for begun := time.Now(); ; {
		before := time.Now()
		there, err := reader.Read(ctx, upTo)
		if err != nil {
			return err
		}
		h.readUpTo(reader.Last())
		switch waited, keen := h.wanted(time.Now()); {
		case there, !waited && !keen && time.Since(begun) > historyPause:
			return nil
		case !waited:
			queue.Pause(ctx, time.Since(before))
		}
	}
}

// grown is how many events were stored since the last pass.
func (h *jobHistory) grown(now queue.EventsState) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Last - min(h.state.Last, now.Last)
}

func (h *jobHistory) made() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.Made
}

func (h *jobHistory) forgetAll() {
	h.tries.forgetAll()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fold, h.read, h.offline = h.fold.Anew(), 0, map[string]time.Time{}
}

// dropUnstored leaves out the jobs of which nothing is stored any more.
func (h *jobHistory) dropUnstored(state queue.EventsState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = state
	h.fold.Forget(state.First)
}

func (h *jobHistory) readUpTo(sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read = sequence
}

// wanted reports whether a call waits for a pass, and whether one has asked not long ago.
func (h *jobHistory) wanted(now time.Time) (waited, keen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked > 0, !h.called.IsZero() && now.Sub(h.called) < historyKeen
}

// take folds an event in. Events of blocks concern no job and are left out.
func (h *jobHistory) take(n jetstream.Note) {
	if strings.HasPrefix(n.Subject, names.HostEventsPrefix) {
		h.takeHost(&n)
		return
	}
	if strings.HasPrefix(n.Subject, names.WebhookEventsPrefix) {
		h.tries.add(&n)
		return
	}
	tenant, id, kind, ok := names.JobOfEvent(n.Subject)
	if !ok {
		return
	}
	e := job.StoredEvent{Tenant: tenant, Job: id, Kind: kind, Sequence: n.Sequence, Time: n.Time}
	e.Brief, e.Readable = job.ReadBrief(kind, n.Body)
	if kind == job.Dead {
		if dead, err := job.DecodeEvent(kind, n.Body); err == nil {
			e.Dead = &dead
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fold.Add(&e)
}

// caughtUp waits until all is folded that was stored when it was called, as long as the call's time allows.
func (h *jobHistory) caughtUp(ctx context.Context) error {
	if deadline, ends := ctx.Deadline(); ends {
		early, cancel := context.WithDeadline(ctx, deadline.Add(-answerRoom))
		defer cancel()
		ctx = early
	}
	h.mu.Lock()
	h.asked++
	h.called = time.Now()
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.asked--
		h.mu.Unlock()
	}()
	var last error
	for {
		h.mu.Lock()
		p := h.next
		h.mu.Unlock()
		select {
		case h.wake <- struct{}{}:
		default:
		}
		select {
		case <-p.done:
			if p.err == nil {
				return nil
			}
			last = p.err
		case <-ctx.Done():
			return h.notYet(ctx.Err(), last)
		}
	}
}

// caughtUpSoon is caughtUp for an answer that is useful without the newest events too: it waits only a moment.
func (h *jobHistory) caughtUpSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, historySoon+answerRoom)
	defer cancel()
	return h.caughtUp(ctx)
}

// notYet is the error of a call whose events were not read in time. It says how far reading has come.
func (h *jobHistory) notYet(over, last error) error {
	if errors.Is(over, context.Canceled) {
		return over
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.state.First.Sequence
	done, all := int64(h.read)-int64(first)+1, int64(h.state.Last)-int64(first)+1
	text := fmt.Sprintf("this dispatcher is still reading the events, %d of %d so far: ask again", max(done, 0), max(all, 0))
	if last != nil {
		text += ": " + last.Error()
	}
	return &jetstream.Stopping{Message: text}
}

func (d *Dispatcher) apiJobs(ctx context.Context, r jetstream.JobsRequest) (jetstream.JobsAnswer, error) {
	return d.history.page(ctx, r)
}

// page answers a list of jobs.
func (h *jobHistory) page(ctx context.Context, r jetstream.JobsRequest) (jetstream.JobsAnswer, error) {
	if err := checkJobs(&r); err != nil {
		return jetstream.JobsAnswer{}, err
	}
	if err := h.caughtUp(ctx); err != nil {
		return jetstream.JobsAnswer{}, err
	}
	q := job.Query{
		Tenant: r.Tenant, State: r.State, Hash: r.Hash, Host: r.Host, Kind: r.Kind, Reason: r.Reason, Job: r.Job, Text: r.Text, Before: r.Before,
		Limit: h.q.Rows(r.Limit), Look: historyLook,
	}
	h.mu.RLock()
	page, since, counts := h.fold.Page(&q), h.fold.Since(), h.fold.Counts(r.Tenant)
	h.mu.RUnlock()
	answer := jetstream.JobsAnswer{
		Jobs: make([]jetstream.JobRow, len(page.Rows)), Next: page.Next, Since: since, Counts: counts.States(),
	}
	for i := range page.Rows {
		answer.Jobs[i] = jobRow(&page.Rows[i])
	}
	return answer, nil
}

// held counts what a tenant has unfinished, up to the event with the sequence upTo.
func (h *jobHistory) held(ctx context.Context, tenant job.Tenant) (held job.Unfinished, upTo uint64, err error) {
	if err := h.caughtUp(ctx); err != nil {
		return job.Unfinished{}, 0, err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.fold.Unfinished(tenant), h.fold.Last().Sequence, nil
}

func checkJobs(r *jetstream.JobsRequest) error {
	switch {
	case r.Tenant != "" && !r.Tenant.Valid():
		return &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no tenant: 1 to 64 of A-Z a-z 0-9 _ -", r.Tenant)}
	case r.Limit < 0:
		return &jetstream.BadRequest{Message: "limit is negative: give 1 to 500, or leave it out"}
	case r.State != "" && !slices.Contains(job.EventKinds(), r.State):
		return &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no state of a job: there are %v", r.State, job.EventKinds())}
	case strings.Trim(string(r.Hash), "0123456789abcdef") != "":
		return badHash(r.Hash)
	}
	return nil
}

func jobRow(r *job.Row) jetstream.JobRow {
	return jetstream.JobRow{
		Job: r.Job, Tenant: r.Tenant, State: r.State, Priority: r.Priority, Hash: r.Hash, Name: r.Name, Title: r.Title, Host: r.Host, Attempt: r.Attempt,
		MaxAttempts: r.MaxAttempts,
		Kind:        r.Kind, Reason: r.Reason, RequeueOf: r.RequeueOf, First: r.First, Last: r.Last,
	}
}
