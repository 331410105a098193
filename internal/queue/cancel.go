package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// ErrNoJob: the job has no events: it was never submitted, or its events are older than EventsAge.
var ErrNoJob = errors.New("no such job")

// Cancel ends a job wherever it is: waiting, offered or running. It returns the terminal event of the chain, which
// is `cancelled` by this call or by an earlier one, or how the job ended before. With force a job without events is cancelled
// before it is submitted; without force it is ErrNoJob.
func (q *Queue) Cancel(ctx context.Context, tenant job.Tenant, id job.ID, by string, force bool) (jetstream.Event, error) {
	e, _, err := q.End(ctx, tenant, id, Cancelling{By: by, Force: force, Priority: job.Usual})
	return e, err
}

// Cancelling says who cancels a job, and in which states the job is not cancelled.
type Cancelling struct {
	By       string
	Force    bool         // also cancel a job without events
	Stored   bool         // the job is stored in COMFY_JOBS, so its id is not made up
	Spare    bool         // do not cancel a job that runs
	Priority job.Priority // for the event of a job without events
}

// Leaves reports whether a job in this state is left as it is.
func (c *Cancelling) Leaves(state job.EventKind) bool {
	return state.Terminal() || c.Spare && state == job.Started
}

// End is Cancel that also reports whether this call has ended the job. Of a job that was spared it gives the last event, which is
// not terminal.
func (q *Queue) End(ctx context.Context, tenant job.Tenant, id job.ID, c Cancelling) (e jetstream.Event, ended bool, err error) {
	err = RetryConflict(ctx, fmt.Sprintf("cancel job %s of tenant %s", id, tenant), func() (bool, error) {
		last, found, err := q.Last(ctx, tenant, id)
		if err != nil {
			return false, err
		}
		if !found && !c.Force {
			return false, fmt.Errorf("cancel job %s of tenant %s: %w", id, tenant, ErrNoJob)
		}
		if c.Leaves(last.EventKind) {
			e = last.Event
			return true, nil
		}
		e = jetstream.Event{
			EventKind: job.Cancelled, Job: id, Tenant: tenant, Priority: last.Priority, Hash: last.Hash, Host: last.Host,
			Attempt: last.Attempt, Time: q.Now(), Name: last.Name, Metadata: last.Metadata, RequeueOf: last.RequeueOf, Webhook: last.Webhook,
			Traceparent: last.Traceparent, By: c.By,
		}
		if !found {
			e.Priority = c.Priority
			if !c.Stored {
				e.Reason = job.Unseen
			}
		}
		_, err = q.Append(ctx, &e, last.ChainSequence, "comfyherd/cancel", "")
		if errors.Is(err, ErrOvertaken) {
			return false, nil
		}
		ended = err == nil
		return ended, err
	})
	return e, ended, err
}
