package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// followAfter is how long a run must last before its job's chain is followed. Most of what others do to a chain
// while a shorter one runs is met when the run appends its next event; a cancel comes by cancelLoop at once.
const followAfter = 250 * time.Millisecond

// cancelLoop hears every cancel in the system, which are few, and ends the run that it concerns.
func (h *host) cancelLoop(ctx context.Context) error {
	return h.q.FollowCancels(ctx, func(e job.Event) {
		for _, r := range h.desk.all() {
			if r.tenant == e.Tenant && r.job == e.Job {
				r.hear(e)
			}
		}
	})
}

// follow hears the events of a run's job from followAfter on, until stop is called, which waits for what is under
// way. What was stored before is read from the chain.
func (h *host) follow(ctx context.Context, r *run) (stop func()) {
	hearing := make(chan context.CancelFunc, 1) // has how to end it once it began, and is closed when it has ended
	timer := time.AfterFunc(followAfter, func() {
		defer close(hearing)
		ctx, cancel := context.WithCancel(ctx)
		hearing <- cancel
		unfollow, err := h.q.FollowJob(r.tenant, r.job, r.hear)
		if err != nil {
			h.log.Warn("cannot follow a job; its cancel is heard all the same", "job", r.key, "error", err)
			return
		}
		defer unfollow()
		h.review(ctx, r)
		<-ctx.Done()
	})
	return func() {
		if timer.Stop() {
			return
		}
		(<-hearing)()
		<-hearing
	}
}
