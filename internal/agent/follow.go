package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// followAfter is how long a run must last before its job's chain is followed. Most of what others do to a chain
// while a shorter one runs is met when the run appends its next event; a cancel comes by cancelLoop at once.
const followAfter = 250 * time.Millisecond

// cancelLoop hears every cancel in the system, which are few, and ends the run that it concerns.
func (h *host) cancelLoop(ctx context.Context) error {
	return h.q.FollowCancels(ctx, func(e job.Event) {
		for _, r := range h.admission.all() {
			if r.tenant == e.Tenant && r.job == e.Job {
				r.apply(e)
			}
		}
	})
}

// follows has the runs whose chains are not followed yet. One timer serves them all: most end before it does.
type follows struct {
	mu      sync.Mutex // guards all below, and what a run says of who hears for it
	pending []*run
	due     bool // the timer runs
}

// follow hears the events of a run's job from followAfter on, until unfollow. What was stored before is read from the
// chain.
func (h *host) follow(ctx context.Context, r *run) {
	f := &h.follows
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, r)
	if !f.due {
		f.due = true
		time.AfterFunc(followAfter, func() { h.followLasting(ctx) })
	}
}

// followLasting begins to follow the runs that have lasted for followAfter.
func (h *host) followLasting(ctx context.Context) {
	f := &h.follows
	f.mu.Lock()
	defer f.mu.Unlock()
	next := followAfter
	f.pending = slices.DeleteFunc(f.pending, func(r *run) bool {
		if left := followAfter - time.Since(r.since); left > 0 {
			next = min(next, left)
			return false
		}
		var hearing context.Context
		hearing, r.stopFollowing = context.WithCancel(ctx)
		r.following.Go(func() { h.listen(hearing, r) })
		return true
	})
	if f.due = len(f.pending) > 0; f.due {
		time.AfterFunc(next, func() { h.followLasting(ctx) })
	}
}

func (h *host) listen(ctx context.Context, r *run) {
	unfollow, err := h.q.FollowJob(r.tenant, r.job, r.apply)
	if err != nil {
		h.log.Warn("cannot follow a job; its cancel is heard all the same", "job", r.key, "error", err)
		return
	}
	defer unfollow()
	h.review(ctx, r)
	<-ctx.Done()
}

// unfollow waits for what is under way.
func (h *host) unfollow(r *run) {
	if h.follows.drop(r) {
		return
	}
	r.stopFollowing()
	r.following.Wait()
}

// drop reports whether the run was not followed yet.
func (f *follows) drop(r *run) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return removeRun(&f.pending, r)
}
