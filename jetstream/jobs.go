package jetstream

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Status gives a job's state and its newest 500 events. A job that was never submitted, one whose events are older than EventsAge
// (72 h by default) and one of another tenant are a NotFound.
func (c *Client) Status(ctx context.Context, id ID) (JobStatus, error) {
	var s JobStatus
	err := c.call(ctx, "status", StatusRequest{Job: id}, &s)
	s.Event.EventKind = s.State
	return s, err
}

// Why says why a job does not run, or which hosts could run a workflow that was not submitted: of every host whether it may run it,
// and if not, why; 500 hosts at a time. The request's tenant may be empty. An unknown job is a NotFound, an invalid workflow a
// BadRequest.
func (c *Client) Why(ctx context.Context, r WhyRequest) (WhyAnswer, error) {
	return answerTo[WhyAnswer](ctx, c, "why", r)
}

// Cancel ends a job, or all jobs that wait in a lane, or all jobs of the tenant that wait. Of one job the answer says how it ended,
// by this call or before it. Several are ended a page at a time, at most 500 jobs in a few seconds: while the answer's Next is not 0,
// ask again with it as After. An unknown job is a NotFound unless Force is set.
func (c *Client) Cancel(ctx context.Context, r CancelRequest) (CancelAnswer, error) {
	var a CancelAnswer
	err := c.call(ctx, "cancel", r, &a)
	if a.Event != nil {
		a.Event.EventKind = a.State
	}
	return a, err
}

// Dead lists dead jobs by their dead events, oldest first, at most 500 at a time: while the answer's Next is not 0, ask again with
// it as After. A page may be empty although more follow.
func (c *Client) Dead(ctx context.Context, r DeadRequest) (DeadAnswer, error) {
	var a DeadAnswer
	err := c.call(ctx, "dead", r, &a)
	for i := range a.Dead {
		a.Dead[i].EventKind = job.Dead
	}
	return a, err
}

// Requeue publishes dead jobs again, each under the next free id <id>-r<n>, a page at a time as Dead does. A request without any
// condition is a BadRequest unless All is set. Jobs that were requeued before are left out unless Again is set, so without it a call
// may be repeated after an error.
func (c *Client) Requeue(ctx context.Context, r RequeueRequest) (RequeueAnswer, error) {
	return answerTo[RequeueAnswer](ctx, c, "requeue", r)
}

// Queue lists the tenant's lanes in which jobs wait or run, each with its share of the hosts' time and the position that a new job
// would get.
func (c *Client) Queue(ctx context.Context) (QueueAnswer, error) {
	return answerTo[QueueAnswer](ctx, c, "queue", QueueRequest{})
}

// Story gives all that is stored of a job: its state and newest events as Status does, and the job as it was published, without its
// extra_data, as long as it has not ended or its dead letter is kept.
func (c *Client) Story(ctx context.Context, id ID) (JobStory, error) {
	var s JobStory
	err := c.call(ctx, "job", StatusRequest{Job: id}, &s)
	s.Event.EventKind = s.State
	return s, err
}

// Waiting lists the tenant's jobs that wait, in the order in which they are expected to start, at most 500 at a time: while the
// answer's Next is not 0, ask again with it as After.
func (c *Client) Waiting(ctx context.Context, r WaitingRequest) (WaitingAnswer, error) {
	return answerTo[WaitingAnswer](ctx, c, "waiting", r)
}

// Workflows lists the workflows of the tenant's jobs, the one with the newest event first, at most 500 at a time: while the answer's
// Next is not 0, ask again with it as Before.
func (c *Client) Workflows(ctx context.Context, r WorkflowsRequest) (WorkflowsAnswer, error) {
	return answerTo[WorkflowsAnswer](ctx, c, "workflows", r)
}
