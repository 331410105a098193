package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// deadMany are the flags of what is done to many letters at once.
type deadMany struct {
	client
	deadFilter
	Jobs []string `arg:"" optional:"" name:"job" help:"Ids of jobs, or tenant/id; none means all that match the flags."`
	All  bool     `help:"All dead letters."`
	Yes  bool     `short:"y" help:"Do not ask."`
}

// chosen finds the letters that the arguments and flags name.
func (d *deadMany) chosen(ctx context.Context, q *queue.Queue) ([]letter, error) {
	d.Since = since{at: moment{d.Since.before(q.Now())}} // the same for the dispatchers, later
	if len(d.Jobs) == 0 {
		return d.find(ctx, q)
	}
	var letters []letter
	for _, text := range d.Jobs {
		ref, err := d.ref(text)
		if err != nil {
			return nil, err
		}
		one := d.deadFilter
		one.Tenant, one.Job = string(ref.tenant), string(ref.id)
		found, err := one.find(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("tenant %s has no dead letter of job %s that matches; `dispatcher dead` lists them", ref.tenant, ref.id)
		}
		letters = append(letters, found...)
	}
	return letters, nil
}

func (d *deadMany) ref(text string) (jobRef, error) {
	f := tenantFlags{client: d.client, Tenant: d.Tenant}
	return f.ref(text)
}

// sinceText is --since as a call has it.
func (d *deadMany) sinceText() string {
	if d.Since.at.IsZero() {
		return ""
	}
	return d.Since.at.Format(time.RFC3339Nano)
}

// Validate refuses a command that says nothing about which letters it means.
func (d *deadMany) Validate() error {
	if len(d.Jobs) == 0 && !d.narrow() && !d.All {
		return errors.New("name the jobs, or give --tenant, --hash, --kind, --reason or --since, or --all")
	}
	return d.deadFilter.Validate()
}

// requests are the calls that name exactly these letters, one for each tenant or job: UpTo leaves out letters that have come
// since they were found.
func (d *deadMany) requests(letters []letter) []queue.PurgeRequest {
	parts := map[jobRef]uint64{} // the last letter of each
	for i := range letters {
		part := jobRef{tenant: letters[i].Tenant}
		if len(d.Jobs) > 0 {
			part.id = letters[i].Job
		}
		parts[part] = max(parts[part], letters[i].Sequence)
	}
	all := make([]queue.PurgeRequest, 0, len(parts))
	for part, last := range parts {
		all = append(all, queue.PurgeRequest{
			Tenant: part.tenant, Job: cmp.Or(part.id, job.ID(d.Job)), Hash: workflow.Hash(d.Hash), Kind: failure.Kind(d.Kind), Reason: failure.Reason(d.Reason),
			Since: d.sinceText(), UpTo: last, By: by(),
		})
	}
	slices.SortFunc(all, func(a, b queue.PurgeRequest) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Job, b.Job))
	})
	return all
}
