package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// followAfter is how long a run must last before its job's chain is followed. A shorter run finds most of what others
// append when it appends its own next event; cancels come through cancelLoop at once.
const followAfter = 250 * time.Millisecond

// cancelLoop receives every cancel in the system, which are few, and stops the run that it names.
func (h *host) cancelLoop(ctx context.Context) error {
	return h.q.FollowCancels(ctx, func(e job.Event) {
		for _, r := range h.admission.all() {
			if r.tenant == e.Tenant && r.job == e.Job {
				r.apply(e)
			}
		}
	})
}

// follows has the runs whose chains are not followed yet. They share one timer, since most end before it fires.
type follows struct {
	mu      sync.Mutex // guards all below, and following and stopFollowing of each run
	pending []*run
	due     bool // the timer runs
}

// follow receives the events of a run's job from followAfter on, until unfollow. Events from before are read from the chain.
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

// followLasting starts to follow the runs that have lasted for followAfter.
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
		h.log.Warn("cannot follow the events of a job; a cancel is received all the same", "job", r.key, "error", err)
		return
	}
	defer unfollow()
	h.review(ctx, r)
	<-ctx.Done()
}

// unfollow ends follow and waits for its goroutine.
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
