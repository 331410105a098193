package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetchedAtOnce is how many jobs' files are fetched at a time.
const fetchedAtOnce = 8

// waiting are the flags of a command that waits for jobs.
type waiting struct {
	Out      string        `short:"o" placeholder:"DIR" help:"Write the files of completed jobs to DIR/<job>/<file> and print their paths."`
	Timeout  time.Duration `placeholder:"DURATION" unset:"no limit" range:"0s.." help:"Wait at most this long; the jobs go on."`
	Progress bool          `help:"Print the progress of running jobs also where standard error is no terminal."`
}

// waiter follows a tenant's jobs to their ends.
type waiter struct {
	waiting
	client *jetstream.Client
	c      *daemon.Console

	mu     sync.Mutex // guards the fields below
	ends   map[job.EventKind]int
	over   map[job.ID]bool // jobs whose end was shown
	failed error           // the first: a file cannot be written, or events cannot be followed
}

// wait returns nil when all jobs completed, and otherwise an exit that says what became of them.
func (w *waiter) wait(stop context.Context, jobs []job.ID) error {
	w.ends, w.over = map[job.EventKind]int{}, map[job.ID]bool{}
	jobs = different(jobs)
	ctx := stop
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(stop, w.Timeout)
		defer cancel()
	}
	show := newDisplay(w.c, w.Progress, w.client.Now)
	if _, err := w.client.Queue(ctx); errors.Is(err, nats.ErrNoResponders) {
		show.say("no dispatcher is running, so all jobs wait; start one with `dispatcher run`")
	}
	w.follow(ctx, jobs, show)
	show.close()
	return w.verdict(stop, jobs)
}

// different leaves out repeated ids: what is published again under an id is the same job.
func different(jobs []job.ID) []job.ID {
	seen := map[job.ID]bool{}
	return slices.DeleteFunc(slices.Clone(jobs), func(id job.ID) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}

// follow shows the events of all jobs until each has ended. Files are fetched beside it.
func (w *waiter) follow(ctx context.Context, jobs []job.ID, show display) {
	live, quiet := context.WithCancel(ctx)
	var listening, fetching sync.WaitGroup
	defer listening.Wait()
	defer quiet()
	listening.Go(func() { w.listen(live, jobs, show) })
	defer fetching.Wait()
	places := make(chan struct{}, fetchedAtOnce)
	for e, err := range w.events(ctx, jobs) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.fail(err)
			return
		case e.EventKind != job.Completed || w.Out == "":
			w.happened(&e, show)
			continue
		}
		fetching.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if err := fetch(ctx, w.client, w.Out, &e, show); err != nil {
				w.fail(err)
			}
			w.happened(&e, show)
		})
	}
}

// events are those of the jobs. Until the first of them, it waits for a dispatcher, as FollowMany does after it.
func (w *waiter) events(ctx context.Context, jobs []job.ID) iter.Seq2[jetstream.Event, error] {
	return func(yield func(jetstream.Event, error) bool) {
		for again := true; again; {
			again = false
			for e, err := range w.client.FollowMany(ctx, jobs) {
				if err != nil && comesBack(err) && queue.Pause(ctx, time.Second) {
					again = true
					break
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// comesBack reports whether an error says only that no dispatcher can be asked at this moment.
func comesBack(err error) bool {
	_, stopping := errors.AsType[*jetstream.Stopping](err)
	_, many := errors.AsType[*jetstream.TooMany](err)
	return stopping || many || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// listen shows progress, which is a convenience: without it the events still come.
func (w *waiter) listen(ctx context.Context, jobs []job.ID, show display) {
	ours := map[job.ID]bool{}
	for _, id := range jobs {
		ours[id] = true
	}
	_ = w.client.FollowProgress(ctx, func(id job.ID, p jetstream.Progress) {
		if ours[id] && !w.isOver(id) {
			show.progress(id, p)
		}
	})
}

func (w *waiter) happened(e *jetstream.Event, show display) {
	if e.EventKind.Terminal() {
		w.ended(e)
	}
	show.event(e)
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

func (w *waiter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// verdict is the exit code that the ends of all jobs make.
func (w *waiter) verdict(stop context.Context, jobs []job.ID) error {
	open := len(jobs) - w.ends[job.Completed] - w.ends[job.Dead] - w.ends[job.Cancelled]
	if open > 0 && w.failed == nil {
		w.goOn(stop, jobs, open)
	}
	if len(jobs) > 1 {
		w.c.Say("%d completed, %d dead, %d cancelled, %d not ended", w.ends[job.Completed], w.ends[job.Dead], w.ends[job.Cancelled], open)
	}
	switch {
	case w.failed != nil:
		return w.failed
	case open > 0 && stop.Err() != nil:
		return daemon.ExitInterrupted
	case open > 0:
		return exitTimedOut
	case w.ends[job.Dead] > 0:
		return exitDied
	case w.ends[job.Cancelled] > 0:
		return exitCancelled
	}
	return nil
}

// goOn prints that the jobs do not end with the command.
func (w *waiter) goOn(stop context.Context, jobs []job.ID, open int) {
	why := fmt.Sprintf("waited %s", w.Timeout)
	if stop.Err() != nil {
		why = "interrupted"
	}
	one := jobRef{tenant: w.client.Tenant(), id: jobs[len(jobs)-1]}.word()
	w.c.Say("dispatcher: %s; %s not ended and will run on: see `dispatcher status %s`, or end it with `dispatcher cancel %s`",
		why, daemon.Plural(open, "job"), one, one)
}
