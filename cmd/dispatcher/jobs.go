package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// jobsCmd lists jobs.
type jobsCmd struct {
	client
	Tenant string     `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only jobs of this tenant."`
	ID     string     `arg:"" optional:"" name:"id" help:"Only jobs whose ids begin with this."`
	State  string     `placeholder:"STATE" oneof:"queued,waiting,started,retrying,failed,completed,dead,cancelled" help:"Only jobs in this state."`
	Host   hostName   `placeholder:"NAME" help:"Only jobs that run, or ran last, on this host."`
	Hash   hashPrefix `placeholder:"HEX" help:"Only of this workflow; its first 8 digits suffice."`
	Kind   kindName   `placeholder:"KIND" help:"Only with this kind of last failure, as execution_error."`
	Reason string     `placeholder:"REASON" help:"Only those that wait or died for this reason, as all_blocked or attempts_exhausted."`
	Text   string     `placeholder:"TEXT" help:"Only those that have this in their name or metadata."`
	Limit  int        `short:"n" default:"50" placeholder:"N" range:"0.." help:"At most so many, newest first; 0 is all."`
	JSON   bool       `help:"Print one JSON object a line."`
}

// Help is shown after the flags.
func (*jobsCmd) Help() string {
	return `The job with the newest event comes first; AGE is the time since that event. A job is listed as long as its events are kept.
An operator who names no tenant gets the jobs of all; those of other tenants than default are written tenant/id.

Examples:
  dispatcher jobs
  dispatcher jobs --state dead --tenant acme
  dispatcher jobs order- --host gpu-1 --limit 0 --json | jq -r .job`
}

// Run lists, a page at a time.
func (j *jobsCmd) Run(ctx context.Context, c *daemon.Console) error {
	request, err := j.request()
	if err != nil {
		return err
	}
	listJobs := listing[jetstream.JobsAnswer, jetstream.JobsRequest]{"jobs", (*jetstream.Client).Jobs, &request}
	ask, now, done, err := listJobs.asker(ctx, c, &j.client, j.Tenant)
	if err != nil {
		return err
	}
	defer done()
	list := jobList{c: c, json: j.JSON, now: now, left: cmp.Or(j.Limit, math.MaxInt)}
	request.Limit = min(list.left, pageOfJobs)
	err = eachPage(ask, func(page *jetstream.JobsAnswer) bool {
		list.add(page)
		request.Before, request.Limit = page.Next, min(list.left, pageOfJobs)
		return list.more && list.left > 0 && list.failed == nil
	})
	if err != nil {
		return err
	}
	return list.end()
}

// pageOfJobs is how many are asked for at a time.
const pageOfJobs = 500

func (j *jobsCmd) request() (jetstream.JobsRequest, error) {
	r := jetstream.JobsRequest{
		State: job.EventKind(j.State), Hash: workflow.Hash(j.Hash), Kind: failure.Kind(j.Kind), Reason: j.Reason, Host: string(j.Host), Job: job.ID(j.ID), Text: j.Text,
	}
	if j.ID != "" && !r.Job.Valid() {
		return r, fmt.Errorf("%q is not the beginning of a job id; give A-Z a-z 0-9 _ -", j.ID)
	}
	return r, nil
}

// jobList prints jobs page by page.
type jobList struct {
	c    *daemon.Console
	json bool
	now  func() time.Time
	left int // jobs that are still wanted

	rows   [][]string
	more   bool  // other jobs follow
	failed error // of printing
}

func (l *jobList) add(page *jetstream.JobsAnswer) {
	l.left -= len(page.Jobs)
	l.more = page.Next != 0
	for i := range page.Jobs {
		if !l.json {
			l.rows = append(l.rows, jobCells(&page.Jobs[i], l.now()))
		} else if err := l.c.JSON(&page.Jobs[i]); err != nil {
			l.failed = err
			return
		}
	}
}

// end prints the table.
func (l *jobList) end() error {
	if l.json {
		return l.failed
	}
	if len(l.rows) == 0 {
		l.c.Say("no job matches")
		return nil
	}
	if err := l.c.Table(append([][]string{{"JOB", "STATE", "AGE", "HOST", "NAME", "WHY"}}, l.rows...)); err != nil {
		return err
	}
	if l.more {
		l.c.Say("there are more; --limit shows them")
	}
	return nil
}

func jobCells(r *jetstream.JobRow, now time.Time) []string {
	return []string{jobRef{tenant: r.Tenant, id: r.Job}.word(), string(r.State), daemon.Span(now.Sub(r.Last.Time)), r.Host, daemon.Short(cmp.Or(r.Name, r.Title), 32), jobWhy(r)}
}

// jobWhy says in a few words why a job is where it is.
func jobWhy(r *jetstream.JobRow) string {
	kind := daemon.Spaces(string(r.Kind))
	switch r.State {
	case job.Waiting:
		return daemon.HoldText(route.HoldReason(r.Reason))
	case job.Dead:
		return daemon.Joined(": ", daemon.Spaces(r.Reason), kind)
	case job.Failed, job.Retrying, job.Queued, job.Started:
		return cmp.Or(daemon.Joined(" after ", attemptText(r.Attempt), kind), "")
	case job.Completed, job.Cancelled:
	}
	return ""
}

func attemptText(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf("attempt %d", n)
}
