package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetched is how many jobs' files are fetched at a time.
const fetched = 8

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
	over   map[job.ID]bool // jobs whose end was told
	failed error           // the first error: a file that could not be written, or events that cannot be followed
}

// wait returns nil when all jobs completed, and otherwise an exit that says what became of them.
func (w *waiter) wait(stop context.Context, jobs []job.ID) error {
	w.ends, w.over = map[job.EventKind]int{}, map[job.ID]bool{}
	jobs = different(jobs)
	ctx, cancel := context.WithCancel(stop)
	if w.Timeout > 0 {
		ctx, cancel = context.WithTimeout(stop, w.Timeout)
	}
	defer cancel()
	show := newDisplay(w.c, w.Progress, w.client.Now)
	if _, err := w.client.Queue(ctx); errors.Is(err, nats.ErrNoResponders) {
		show.say("no dispatcher is running, and until one does all jobs wait; start one with `dispatcher run`")
	}
	w.follow(ctx, jobs, show)
	show.close()
	return w.verdict(stop, jobs)
}

// different leaves out what was published again under the id of another: it is the same job.
func different(jobs []job.ID) []job.ID {
	seen := map[job.ID]bool{}
	return slices.DeleteFunc(slices.Clone(jobs), func(id job.ID) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}

// follow tells the events of all jobs until each has ended. Files are fetched beside it.
func (w *waiter) follow(ctx context.Context, jobs []job.ID, show display) {
	live, quiet := context.WithCancel(ctx)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer quiet()
	listening.Go(func() { w.listen(live, jobs, show) })
	p := pursuit{w: w, show: show, told: map[job.ID]int{}, open: map[job.ID]bool{}, places: make(chan struct{}, fetched)}
	defer p.fetching.Wait()
	for _, id := range jobs {
		p.open[id] = true
	}
	for len(p.open) > 0 && ctx.Err() == nil {
		err := p.once(ctx)
		if err != nil && !comesBack(err) {
			w.fail(err)
			return
		}
		if err != nil {
			pause(ctx, time.Second)
		}
	}
}

// pursuit follows jobs over times without a dispatcher.
type pursuit struct {
	w        *waiter
	show     display
	told     map[job.ID]int // events of each job
	open     map[job.ID]bool
	fetching sync.WaitGroup
	places   chan struct{} // of files that are fetched at the same time
}

// once follows until all jobs have ended or the dispatchers cannot be asked. Each time begins with the jobs' first events.
func (p *pursuit) once(ctx context.Context) error {
	seen := map[job.ID]int{}
	for e, err := range p.w.client.FollowMany(ctx, slices.Collect(maps.Keys(p.open))) {
		if ctx.Err() != nil {
			return nil // the wait is over
		}
		if err != nil {
			return err
		}
		if seen[e.Job]++; seen[e.Job] <= p.told[e.Job] {
			continue
		}
		p.told[e.Job]++
		if e.EventKind.Terminal() {
			delete(p.open, e.Job)
		}
		p.tell(ctx, &e)
	}
	return nil
}

func (p *pursuit) tell(ctx context.Context, e *jetstream.Event) {
	if e.EventKind != job.Completed || p.w.Out == "" {
		p.w.happened(e, p.show)
		return
	}
	p.fetching.Go(func() {
		p.places <- struct{}{}
		defer func() { <-p.places }()
		if err := fetch(ctx, p.w.client, p.w.Out, e, p.show); err != nil {
			p.w.fail(err)
		}
		p.w.happened(e, p.show)
	})
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

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// verdict turns the ends of all jobs into the command's end.
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

// goOn says that the jobs do not end with the command.
func (w *waiter) goOn(stop context.Context, jobs []job.ID, open int) {
	why := fmt.Sprintf("waited %s", w.Timeout)
	if stop.Err() != nil {
		why = "interrupted"
	}
	one := jobRef{tenant: w.client.Tenant(), id: jobs[len(jobs)-1]}.word()
	w.c.Say("dispatcher: %s; %s not ended and will go on: `dispatcher status %s` looks, `dispatcher cancel %s` ends it",
		why, daemon.Plural(open, "job"), one, one)
}
