package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// workflowsCmd lists workflows.
type workflowsCmd struct {
	client
	Tenant string     `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only workflows of this tenant's jobs."`
	Hash   hashPrefix `placeholder:"HEX" help:"Only workflows whose hash begins with this."`
	Limit  int        `short:"n" default:"50" placeholder:"N" range:"0.." help:"At most so many, newest first; 0 is all."`
	JSON   bool       `help:"Print one JSON object a line."`
}

// Help is shown after the flags.
func (*workflowsCmd) Help() string {
	return `The workflow with the newest event comes first. JOBS, DONE and DEAD count the jobs whose events are kept; RUN is how long the
last ones ran; HOSTS, which an operator gets, are the online hosts that can run it.

Examples:
  dispatcher workflows
  dispatcher workflows --tenant acme --limit 0 --json | jq -r '[.hash,.title] | @tsv'`
}

// Run lists, a page at a time.
func (w *workflowsCmd) Run(ctx context.Context, c *daemon.Console) error {
	request := jetstream.WorkflowsRequest{Hash: workflow.Hash(w.Hash)}
	listWorkflows := listing[jetstream.WorkflowsAnswer, jetstream.WorkflowsRequest]{"workflows", (*jetstream.Client).Workflows, &request}
	ask, now, done, err := listWorkflows.asker(ctx, c, &w.client, w.Tenant)
	if err != nil {
		return err
	}
	defer done()
	left := w.Limit
	if left == 0 {
		left = math.MaxInt
	}
	rows, failed := [][]string{{"HASH", "WORKFLOW", "JOBS", "DONE", "DEAD", "RUN", "HOSTS", "BLOCKED", "LAST"}}, error(nil)
	request.Limit = min(left, pageOfJobs)
	err = eachPage(ask, func(page *jetstream.WorkflowsAnswer) bool {
		for i := range page.Workflows {
			if w.JSON && failed == nil {
				failed = c.JSON(&page.Workflows[i])
			}
			rows = append(rows, workflowCells(&page.Workflows[i], now()))
		}
		left -= len(page.Workflows)
		request.Limit = min(left, pageOfJobs)
		return following(&request.Before, page.Next) && left > 0 && failed == nil
	})
	switch {
	case err != nil || failed != nil || w.JSON:
		return cmp.Or(err, failed)
	case len(rows) == 1:
		c.Say("no job is known")
		return nil
	}
	return c.Table(rows)
}

func workflowCells(r *jetstream.WorkflowRow, now time.Time) []string {
	all := 0
	for _, n := range r.Counts {
		all += n
	}
	run, hosts := "", ""
	if r.RanFor > 0 {
		run = daemon.Span(time.Duration(r.RanFor))
	}
	if r.Online > 0 {
		hosts = fmt.Sprintf("%d of %d", r.Capable, r.Online)
	}
	return []string{
		r.Hash.Short(), daemon.Short(r.Title, 40), fmt.Sprint(all), count(r.Counts[job.Completed]), count(r.Counts[job.Dead]), run, hosts, count(r.Blocked),
		daemon.Ago(r.Last.Time, now),
	}
}
