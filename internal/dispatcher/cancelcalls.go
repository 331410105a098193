package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) apiCancel(ctx context.Context, r jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
	return d.cancel(ctx, r, operatorBy(r.By))
}

// cancel ends a job, or a page of those in a lane, or of all that a tenant has.
func (d *Dispatcher) cancel(ctx context.Context, r jetstream.CancelRequest, by string) (answer jetstream.CancelAnswer, err error) {
	if err := checkCancel(&r); err != nil {
		return answer, err
	}
	r.By = ""
	record := queue.AuditRecord{Call: "cancel", By: by, Tenant: r.Tenant}
	if r.Job == "" {
		all := &bulkAudit{d: d, record: record, request: &r}
		answer.Count, answer.Next, err = d.cancelSome(ctx, &r, all)
		all.end(ctx, answer.Count, err)
		return answer, err
	}
	defer func() {
		record.Count = answer.Count
		d.audit(ctx, record, &r, err)
	}()
	e, now, err := d.q.End(ctx, r.Tenant, r.Job, queue.Cancelling{By: by, Force: r.Force, Priority: job.Usual})
	if errors.Is(err, queue.ErrNoJob) {
		return answer, noJob(r.Tenant, r.Job)
	}
	if err != nil {
		return answer, err
	}
	answer = jetstream.CancelAnswer{Job: r.Job, State: e.EventKind, Event: &e}
	if now {
		answer.Count = 1
	}
	return answer, nil
}

func checkCancel(r *jetstream.CancelRequest) error {
	ways := 0
	for _, said := range []bool{r.Job != "", r.Lane != nil, r.All} {
		if said {
			ways++
		}
	}
	switch {
	case ways != 1:
		return &jetstream.BadRequest{Message: `give "job":"…", or "lane":0 to 9 for what waits in a lane, or "all":true for everything of the tenant that waits; one of them`}
	case r.Lane != nil && !r.Lane.Valid():
		return &jetstream.BadRequest{Message: fmt.Sprintf("lane %d is none: a lane is a priority, 0 to 9", *r.Lane)}
	case r.Job != "":
		return checkJob(r.Tenant, r.Job)
	case !r.Tenant.Valid():
		return &jetstream.BadRequest{Message: `give {"tenant":"…"}, whose jobs are meant: 1 to 64 of A-Z a-z 0-9 _ -`}
	}
	return nil
}

// cancelBatch is how many jobs are read before they are cancelled, some at a time.
const cancelBatch = 32

// cancelSome ends jobs in the order in which COMFY_JOBS has them, where every unfinished job is, whether it was pulled or not,
// and gives where to go on. Which of them run is seen in their chains, so that one that begins meanwhile is spared.
func (d *Dispatcher) cancelSome(ctx context.Context, r *jetstream.CancelRequest, all *bulkAudit) (count int, next uint64, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return 0, 0, err
	}
	until := d.clock().Add(answerTime)
	for at := r.After; ; {
		batch, last, more, err := d.jobsAfter(ctx, r, at, min(cancelBatch, p.rows-count), until)
		if err != nil {
			return count, 0, cancelledThen(count, err)
		}
		ended := make([]bool, len(batch))
		err = atOnce(ctx, len(batch), func(ctx context.Context, i int) (err error) {
			ended[i], err = d.cancelOne(ctx, r, &batch[i], all)
			return err
		})
		for _, is := range ended {
			if is {
				count++
			}
		}
		switch at = last; {
		case err != nil:
			return count, 0, cancelledThen(count, err)
		case !more:
			return count, 0, nil
		case count >= p.rows || !d.clock().Before(until):
			return count, at, nil
		}
	}
}

// cancelOne ends one of several jobs, all of which are in the stream.
func (d *Dispatcher) cancelOne(ctx context.Context, r *jetstream.CancelRequest, j *unfinished, all *bulkAudit) (bool, error) {
	c := queue.Cancelling{By: all.record.By, Force: true, Stored: true, Spare: !r.Running, Priority: j.priority}
	if !all.hasBegun() {
		last, _, err := d.q.Last(ctx, r.Tenant, j.id)
		if err != nil || c.Leaves(last.EventKind) {
			return false, err
		}
		if err := all.begin(ctx); err != nil {
			return false, err
		}
	}
	_, ended, err := d.q.End(ctx, r.Tenant, j.id, c)
	return ended, err
}

func cancelledThen(count int, err error) error {
	return fmt.Errorf("%d jobs were cancelled, then: %w; the call can be repeated", count, err)
}

// unfinished is a job that is stored in COMFY_JOBS, without its body.
type unfinished struct {
	id       job.ID
	priority job.Priority
}

// jobsAfter reads the jobs after a sequence in the stream, at most so many, and until a time. A message that is no job is
// left out: the dispatcher that pulls it ends it.
func (d *Dispatcher) jobsAfter(ctx context.Context, r *jetstream.CancelRequest, after uint64, most int, until time.Time,
) (found []unfinished, last uint64, more bool, err error) {
	for last = after; len(found) < most && d.clock().Before(until); {
		m, there, err := d.q.NextStored(ctx, r.Tenant, r.Lane, last)
		if err != nil || !there {
			return found, last, false, err
		}
		last = m.Sequence
		if err := d.answers.compute(ctx, func() {
			if j, err := job.Parse(m); err == nil {
				found = append(found, unfinished{j.ID, j.Priority})
			}
		}); err != nil {
			return found, last, false, err
		}
	}
	return found, last, true, nil
}
