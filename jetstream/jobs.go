package jetstream

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Status tells where a job stands, and its newest 500 events. A job that was never seen, or longer ago than events are
// kept, is a NotFound; so is one of another tenant.
func (c *Client) Status(ctx context.Context, id ID) (JobStatus, error) {
	var s JobStatus
	err := c.call(ctx, "status", StatusRequest{Job: id}, &s)
	s.Event.EventKind = s.State
	return s, err
}

// Why tells why a job does not run, or what would become of a workflow that is not submitted: of every host whether it
// may run it, and why not, 500 hosts at a time. The request's tenant is not needed. A job that is not there is a NotFound, a
// workflow that is none a BadRequest.
func (c *Client) Why(ctx context.Context, r WhyRequest) (WhyAnswer, error) {
	var a WhyAnswer
	return a, c.call(ctx, "why", r, &a)
}

// Cancel ends a job, or what waits in a lane, or everything that waits. Of one job it tells how that ended, by this call or
// before it. Several are ended a page at a time, at most 500 jobs and a few seconds long: while the answer has a Next, ask again
// with it as After. A job that is not there is a NotFound unless Force is set.
func (c *Client) Cancel(ctx context.Context, r CancelRequest) (CancelAnswer, error) {
	var a CancelAnswer
	err := c.call(ctx, "cancel", r, &a)
	if a.Event != nil {
		a.Event.EventKind = a.State
	}
	return a, err
}

// Dead lists dead jobs by their dead events, oldest first, at most 500 at a time: while the answer has a Next, ask again
// with it as After. A page may be empty and have a Next.
func (c *Client) Dead(ctx context.Context, r DeadRequest) (DeadAnswer, error) {
	var a DeadAnswer
	err := c.call(ctx, "dead", r, &a)
	for i := range a.Dead {
		a.Dead[i].EventKind = job.Dead
	}
	return a, err
}

// Requeue publishes dead jobs again, each with the next free number behind its id, a page at a time as Dead does. A request
// without any condition is a BadRequest unless it says All. One that was requeued before is left out unless Again is set, so a
// call may be repeated after an error.
func (c *Client) Requeue(ctx context.Context, r RequeueRequest) (RequeueAnswer, error) {
	var a RequeueAnswer
	return a, c.call(ctx, "requeue", r, &a)
}

// Queue lists the tenant's lanes in which jobs wait or run, with each one's share of the hosts' time and the place that a
// new job would have.
func (c *Client) Queue(ctx context.Context) (QueueAnswer, error) {
	var a QueueAnswer
	return a, c.call(ctx, "queue", QueueRequest{}, &a)
}
