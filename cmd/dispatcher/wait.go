package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetched is how many jobs' files are fetched at a time.
const fetched = 8

// waiter follows jobs to their ends.
type waiter struct {
	q        *jetstream.Queue
	c        *console
	out      string
	timeout  time.Duration
	progress bool

	mu     sync.Mutex // guards the fields below
	ends   map[job.EventKind]int
	over   map[job.ID]bool // jobs whose end was told
	failed error           // the first file that could not be written
}

// display shows what happens to jobs: live on a terminal, in plain lines elsewhere. Its methods may be called from
// any goroutine.
type display interface {
	happened(e *jetstream.Event)
	progressed(id jetstream.ID, p jetstream.Progress)
	say(text string)
	result(line string) // to standard output
	close()
}

// wait returns nil when all jobs completed, and otherwise an exit that says what became of them.
func (w *waiter) wait(stop context.Context, jobs []jetstream.Receipt) error {
	w.ends, w.over = map[job.EventKind]int{}, map[job.ID]bool{}
	jobs = different(jobs)
	ctx, cancel := context.WithCancel(stop)
	if w.timeout > 0 {
		ctx, cancel = context.WithTimeout(stop, w.timeout)
	}
	defer cancel()
	show := w.display()
	if err := w.q.Call(ctx, "tenants", struct{}{}, &struct{}{}); errors.Is(err, nats.ErrNoResponders) {
		show.say("no dispatcher is running, and until one does all jobs wait; start one with `dispatcher run`")
	}
	w.follow(ctx, jobs, show)
	show.close()
	return w.verdict(stop, jobs)
}

func (w *waiter) display() display {
	if isTerminal(w.c.err) {
		return newBars(w.c, w.q.Now)
	}
	return &lines{c: w.c, progress: w.progress, now: w.q.Now}
}

// different leaves out what was published again under the id of another: it is the same job.
func different(jobs []jetstream.Receipt) []jetstream.Receipt {
	seen := map[job.ID]bool{}
	return slices.DeleteFunc(slices.Clone(jobs), func(r jetstream.Receipt) bool {
		again := seen[r.Job]
		seen[r.Job] = true
		return again
	})
}

// follow tells the events of all jobs, on one subscription, until each has ended. Files are fetched beside it.
func (w *waiter) follow(ctx context.Context, jobs []jetstream.Receipt, show display) {
	live, quiet := context.WithCancel(ctx)
	var listening, fetching sync.WaitGroup
	defer listening.Wait()
	defer quiet()
	defer fetching.Wait()
	ids := make([]job.ID, 0, len(jobs))
	for _, r := range jobs {
		ids = append(ids, r.Job)
	}
	tenant := jobs[0].Tenant // of all
	listening.Go(func() { w.listen(live, tenant, ids, show) })
	places := make(chan struct{}, fetched)
	for e, err := range w.q.FollowMany(ctx, tenant, ids) {
		switch {
		case err != nil && ctx.Err() == nil:
			show.say(err.Error())
		case err != nil: // the wait is over
		case e.EventKind == job.Completed && w.out != "":
			fetching.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				w.fetch(ctx, &e, show)
				w.happened(&e, show)
			})
		default:
			w.happened(&e, show)
		}
	}
}

// listen shows progress, which is a convenience: without it the events still come.
func (w *waiter) listen(ctx context.Context, tenant job.Tenant, ids []job.ID, show display) {
	ours := map[job.ID]bool{}
	for _, id := range ids {
		ours[id] = true
	}
	_ = w.q.FollowAllProgress(ctx, tenant, func(id job.ID, p jetstream.Progress) {
		if ours[id] && !w.isOver(id) {
			show.progressed(id, p)
		}
	})
}

func (w *waiter) happened(e *jetstream.Event, show display) {
	if e.EventKind.Terminal() {
		w.ended(e)
	}
	show.happened(e)
}

func (w *waiter) ended(e *jetstream.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[e.EventKind]++
	w.over[e.Job] = true
}

func (w *waiter) isOver(id job.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over[id]
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// verdict turns the ends of all jobs into the command's end.
func (w *waiter) verdict(stop context.Context, jobs []jetstream.Receipt) error {
	open := len(jobs) - w.ends[job.Completed] - w.ends[job.Dead] - w.ends[job.Cancelled]
	if open > 0 {
		w.goOn(stop, jobs, open)
	}
	if len(jobs) > 1 {
		w.c.say("%d completed, %d dead, %d cancelled, %d not ended", w.ends[job.Completed], w.ends[job.Dead], w.ends[job.Cancelled], open)
	}
	switch {
	case w.failed != nil:
		return w.failed
	case open > 0 && stop.Err() != nil:
		return exitInterrupted
	case open > 0:
		return exitTimedOut
	case w.ends[job.Dead] > 0:
		return exitDied
	case w.ends[job.Cancelled] > 0:
		return exitCancelled
	}
	return nil
}

// goOn says that the jobs do not end with the command.
func (w *waiter) goOn(stop context.Context, jobs []jetstream.Receipt, open int) {
	why := fmt.Sprintf("waited %s", w.timeout)
	if stop.Err() != nil {
		why = "interrupted"
	}
	one := jobRef{tenant: jobs[len(jobs)-1].Tenant, id: jobs[len(jobs)-1].Job}.word()
	w.c.say("dispatcher: %s; %s not ended and will go on: `dispatcher status %s` looks, `dispatcher cancel %s` ends it",
		why, plural(open, "job"), one, one)
}
