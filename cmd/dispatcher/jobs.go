package main

import (
	"cmp"
	"context"
	"fmt"
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
	tenantFlags
	ID     string     `arg:"" optional:"" name:"id" help:"Only jobs whose ids begin with this."`
	State  string     `placeholder:"STATE" oneof:"queued,waiting,started,retrying,failed,completed,dead,cancelled" help:"Only jobs in this state."`
	Host   hostName   `placeholder:"NAME" help:"Only jobs that run, or ran last, on this host."`
	Hash   hashPrefix `placeholder:"HEX" help:"Only of this workflow; its first 8 digits suffice."`
	Kind   kindName   `placeholder:"KIND" help:"Only with this kind of last failure, as execution_error."`
	Reason string     `placeholder:"REASON" help:"Only those that wait or died for this reason, as all_blocked or attempts_exhausted."`
	Limit  int        `short:"n" default:"50" placeholder:"N" range:"0.." help:"At most so many, newest first; 0 is all."`
	JSON   bool       `help:"Print one JSON object a line."`
}

// Help is shown after the flags.
func (*jobsCmd) Help() string {
	return `Newest first: a job stands where its last event does. AGE is the time since that event. Jobs are listed as long as their
events are kept.

Examples:
  dispatcher jobs
  dispatcher jobs --state dead --tenant acme
  dispatcher jobs order- --host gpu-1 --limit 0 --json | jq -r .job`
}

// Run lists, a page at a time.
func (j *jobsCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant, err := j.whose()
	if err != nil {
		return err
	}
	request, err := j.request()
	if err != nil {
		return err
	}
	a, err := j.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	client := a.of(tenant)
	list := jobList{c: c, json: j.JSON, now: client.Now}
	for left := j.Limit; ; {
		request.Limit = min(left, pageOfJobs)
		if j.Limit == 0 {
			request.Limit = pageOfJobs
		}
		page, err := client.Jobs(ctx, request)
		if err != nil {
			return err
		}
		if err := list.add(page.Jobs); err != nil {
			return err
		}
		left -= len(page.Jobs)
		request.Before = page.Next
		if page.Next == 0 || j.Limit > 0 && left <= 0 {
			return list.end(page.Next > 0)
		}
	}
}

// pageOfJobs is how many are asked for at a time.
const pageOfJobs = 500

func (j *jobsCmd) request() (jetstream.JobsRequest, error) {
	r := jetstream.JobsRequest{
		State: job.EventKind(j.State), Hash: workflow.Hash(j.Hash), Kind: failure.Kind(j.Kind), Reason: j.Reason, Host: string(j.Host), Job: job.ID(j.ID),
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
	rows [][]string
}

func (l *jobList) add(jobs []jetstream.JobRow) error {
	for i := range jobs {
		if !l.json {
			l.rows = append(l.rows, jobCells(&jobs[i], l.now()))
		} else if err := l.c.JSON(&jobs[i]); err != nil {
			return err
		}
	}
	return nil
}

// end prints the table; more says that there are others.
func (l *jobList) end(more bool) error {
	if l.json {
		return nil
	}
	if len(l.rows) == 0 {
		l.c.Say("no job fits")
		return nil
	}
	if err := l.c.Table(append([][]string{{"JOB", "STATE", "AGE", "HOST", "WHY"}}, l.rows...)); err != nil {
		return err
	}
	if more {
		l.c.Say("there are more; --limit shows them")
	}
	return nil
}

func jobCells(r *jetstream.JobRow, now time.Time) []string {
	return []string{string(r.Job), string(r.State), daemon.Span(now.Sub(r.Last.Time)), r.Host, jobWhy(r)}
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
