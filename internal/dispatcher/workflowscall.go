package dispatcher

import (
	"context"
	"fmt"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) apiWorkflows(ctx context.Context, r jetstream.WorkflowsRequest) (jetstream.WorkflowsAnswer, error) {
	return d.workflowsFor(ctx, r, ofOperator)
}

func (d *Dispatcher) tenantWorkflows(ctx context.Context, tenant job.Tenant, r jetstream.WorkflowsRequest) (jetstream.WorkflowsAnswer, error) {
	r.Tenant = tenant
	return d.workflowsFor(ctx, r, ofTenant)
}

// workflowsFor lists workflows with what the stored events say, and to operators with what the fleet can do with them now.
func (d *Dispatcher) workflowsFor(ctx context.Context, r jetstream.WorkflowsRequest, to view) (answer jetstream.WorkflowsAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	if strings.Trim(string(r.Hash), "0123456789abcdef") != "" {
		return answer, badHash(r.Hash)
	}
	if err := d.history.caughtUp(ctx); err != nil {
		return answer, err
	}
	d.history.mu.RLock()
	found, since := d.history.fold.Workflows(r.Tenant, r.Hash, r.Before, p.rows+1, d.clock()), d.history.fold.Since()
	d.history.mu.RUnlock()
	rows := make([]jetstream.WorkflowRow, len(found))
	for i := range found {
		w := &found[i]
		rows[i] = jetstream.WorkflowRow{Hash: w.Hash, Title: w.Title, Counts: w.Counts.States(), RanFor: job.Duration(w.RanFor), Last: w.Last, PerHour: w.Hourly}
	}
	if err := d.addOutputs(ctx, rows, found); err != nil {
		return answer, err
	}
	if to == ofOperator {
		if err := d.addReach(ctx, rows); err != nil {
			return answer, err
		}
	}
	answer.Since = since
	if answer.Workflows, err = takeFirst(p, rows); len(answer.Workflows) < len(rows) && err == nil {
		answer.Next = answer.Workflows[len(answer.Workflows)-1].Last.Sequence
	}
	return answer, err
}

// addOutputs adds the first stored file of the job of each workflow that was completed last.
func (d *Dispatcher) addOutputs(ctx context.Context, rows []jetstream.WorkflowRow, found []job.WorkflowRow) error {
	return atOnce(ctx, len(rows), func(ctx context.Context, i int) error {
		done := found[i].Done
		if done.Job == "" {
			return nil
		}
		link, stored, err := d.q.LastOf(ctx, done.Tenant, done.Job, job.Completed)
		if err != nil || !stored {
			return err
		}
		for k := range link.Outputs {
			if object := link.Outputs[k].Object; object != "" {
				rows[i].Output, rows[i].Thumb = object, link.Outputs[k].Thumb
				break
			}
		}
		return nil
	})
}

// addReach adds on how many hosts each workflow can run.
func (d *Dispatcher) addReach(ctx context.Context, rows []jetstream.WorkflowRow) error {
	return d.answerInSlices(ctx, func(pause func() bool) {
		for i := range rows {
			rows[i].Capable, rows[i].Online, rows[i].Blocked = d.loop.fleet.Reach(rows[i].Hash)
			for range 4 { // since it takes as long as several steps
				if !pause() {
					return
				}
			}
		}
	})
}

func badHash(hash workflow.Hash) error {
	return &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no hash, nor the beginning of one: hex digits, small letters", hash)}
}
