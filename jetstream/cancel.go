package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/job"
)

// ErrNoJob: there is no chain for this id; it was never seen, or longer ago than events are kept.
var ErrNoJob = errors.New("no such job")

// Cancel ends a job wherever it is: waiting, offered or running. It returns the terminal event of the chain, which
// is `cancelled` by this call or by an earlier one, or how the job ended before. With force a job that nobody has
// seen yet is cancelled beforehand; without, it is ErrNoJob.
func (q *Queue) Cancel(ctx context.Context, tenant job.Tenant, id job.ID, by string, force bool) (Event, error) {
	for {
		last, found, err := q.Last(ctx, tenant, id)
		if err != nil {
			return Event{}, err
		}
		if !found && !force {
			return Event{}, fmt.Errorf("cancel job %s of tenant %s: %w", id, tenant, ErrNoJob)
		}
		if last.EventKind.Terminal() {
			return last.Event, nil
		}
		e := Event{
			EventKind: job.Cancelled, Job: id, Tenant: tenant, Priority: last.Priority, Hash: last.Hash, Host: last.Host,
			Attempt: last.Attempt, Time: q.Now(), Metadata: last.Metadata, RequeueOf: last.RequeueOf, By: by,
		}
		if !found {
			e.Priority = job.Usual
		}
		_, err = q.Append(ctx, &e, last.ChainSequence, "comfyherd/cancel", "")
		if !errors.Is(err, ErrOvertaken) {
			return e, err
		}
	}
}
