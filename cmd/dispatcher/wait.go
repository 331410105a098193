package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// followed is how many jobs are followed at a time; the others are in the queue behind them anyway.
const followed = 16

// waiter follows jobs to their ends.
type waiter struct {
	q        *jetstream.Queue
	c        *console
	out      string
	timeout  time.Duration
	progress bool

	mu     sync.Mutex // guards the fields below
	ends   map[job.EventKind]int
	failed error // the first file that could not be written
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
	w.ends = map[job.EventKind]int{}
	ctx, cancel := context.WithCancel(stop)
	if w.timeout > 0 {
		ctx, cancel = context.WithTimeout(stop, w.timeout)
	}
	defer cancel()
	show := w.display()
	if err := w.q.Call(ctx, "tenants", struct{}{}, &struct{}{}); errors.Is(err, nats.ErrNoResponders) {
		show.say("no dispatcher is running, and until one does all jobs wait; start one with `dispatcher run`")
	}
	next := make(chan jetstream.Receipt)
	var workers sync.WaitGroup
	for range min(followed, len(jobs)) {
		workers.Go(func() {
			for r := range next {
				w.follow(ctx, r, show)
			}
		})
	}
	for _, r := range jobs {
		select {
		case next <- r:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	show.close()
	return w.verdict(stop, jobs)
}

func (w *waiter) display() display {
	if isTerminal(w.c.err) {
		return newBars(w.c, w.q.Now)
	}
	return &lines{c: w.c, progress: w.progress, now: w.q.Now}
}

// follow tells one job's events until its end, through any loss of the connection.
func (w *waiter) follow(ctx context.Context, r jetstream.Receipt, show display) {
	live, cancel := context.WithCancel(ctx)
	defer cancel()
	var listening sync.WaitGroup
	listening.Go(func() {
		// Progress is a convenience: without it the events still come.
		_ = w.q.FollowProgress(live, r.Tenant, r.Job, func(p jetstream.Progress) { show.progressed(r.Job, p) })
	})
	defer listening.Wait()
	defer cancel()
	for seen := 0; ctx.Err() == nil; {
		var err error
		if seen, err = w.tell(ctx, r, seen, show); err == nil {
			return
		}
		if ctx.Err() == nil {
			show.say(fmt.Sprintf("%s: %v; looking again", r.Job, err))
			pause(ctx, time.Second)
		}
	}
}

// tell tells the events after the first skip ones; a nil error says that the job has ended.
func (w *waiter) tell(ctx context.Context, r jetstream.Receipt, skip int, show display) (seen int, err error) {
	for e, err := range w.q.Follow(ctx, r.Tenant, r.Job) {
		if err != nil {
			return max(seen, skip), err
		}
		if seen++; seen <= skip {
			continue
		}
		if e.EventKind == job.Completed && w.out != "" {
			w.fetch(ctx, &e, show)
		}
		show.happened(&e)
		if e.EventKind.Terminal() {
			w.ended(e.EventKind)
			return seen, nil
		}
	}
	return max(seen, skip), errors.New("the events ended early")
}

func (w *waiter) ended(kind job.EventKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[kind]++
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
