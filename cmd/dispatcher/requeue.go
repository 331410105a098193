package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// deadMany are the flags of what is done to many letters at once.
type deadMany struct {
	client
	deadFilter
	Jobs []string `arg:"" optional:"" name:"job" help:"Ids of jobs, or tenant/id; none means all that fit the flags."`
	All  bool     `help:"All dead letters there are."`
	Yes  bool     `short:"y" help:"Do not ask."`
}

// chosen finds the letters that the arguments and flags mean; nothing said means nothing.
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
			return nil, fmt.Errorf("tenant %s has no dead letter of job %s that fits; `dispatcher dead` lists them", ref.tenant, ref.id)
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

type deadRequeueCmd struct {
	deadMany
	Again     bool   `help:"Also those that were requeued before."`
	ExtraData string `placeholder:"FILE|none" help:"JSON object for the jobs that had an extra_data, which letters do not keep; - is standard input, none runs them without."`
}

// Help is shown after the flags.
func (*deadRequeueCmd) Help() string {
	return `Prints the new ids. A dead job stays dead: what is published again is a new job with the next free number behind
its id, in the lane of the old one. A letter that was requeued before is left out, so an interrupted command can be
repeated.

Examples:
  dispatcher dead requeue acme/order-17
  dispatcher dead requeue --hash 3f2a9c1d --since 24h --yes
  echo '{"api_key_comfy_org":"…"}' | dispatcher dead requeue acme/order-18 --extra-data -`
}

// Run publishes the letters again.
func (d *deadRequeueCmd) Run(ctx context.Context, c *daemon.Console) error {
	extra, err := d.extraData(c)
	if err != nil {
		return err
	}
	if d.OwnTenant() != "" {
		return d.requeueOwn(ctx, c, extra)
	}
	q, done, err := d.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	letters, err := d.chosen(ctx, q)
	if err != nil {
		return err
	}
	before := len(letters)
	if !d.Again {
		if letters, err = fresh(ctx, q, letters); err != nil {
			return err
		}
	}
	if skipped := before - len(letters); skipped > 0 {
		c.Say("%s requeued before and left out; --again takes them too", daemon.Plural(skipped, "letter"))
	}
	if len(letters) == 0 {
		c.Say("no dead letter fits")
		return nil
	}
	if err := c.Confirm("requeue "+daemon.Plural(len(letters), "job"), d.Yes || len(letters) == 1); err != nil {
		return err
	}
	return d.requeue(ctx, c, q, letters, extra)
}

// extraData reads --extra-data; nil when it was not given.
func (d *deadRequeueCmd) extraData(c *daemon.Console) (json.RawMessage, error) {
	switch d.ExtraData {
	case "":
		return nil, nil
	case "none":
		return json.RawMessage("{}"), nil
	}
	body, err := readFile(c, d.ExtraData)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, fmt.Errorf("--extra-data %s: it is no JSON object", d.ExtraData)
	}
	return bytes.TrimSpace(body), nil
}

// fresh leaves out letters whose job has a requeue already, and all but the newest of a letter that was stored twice.
func fresh(ctx context.Context, q *queue.Queue, letters []letter) ([]letter, error) {
	newest := map[jobRef]int{}
	for i := range letters {
		newest[jobRef{tenant: letters[i].Tenant, id: letters[i].Job}] = i
	}
	var kept []letter
	for _, i := range slices.Sorted(maps.Values(newest)) {
		done, err := q.Requeued(ctx, &letters[i].DeadLetter)
		if err != nil {
			return nil, err
		}
		if !done {
			kept = append(kept, letters[i])
		}
	}
	return kept, nil
}

// meant is what the arguments and flags say to the dispatchers, once for each tenant or job of these letters: those that
// have come since they were looked for are not among them.
func (d *deadMany) meant(letters []letter) []queue.PurgeRequest {
	parts := map[jobRef]uint64{} // the last letter of each
	for i := range letters {
		part := jobRef{tenant: letters[i].Tenant}
		if len(d.Jobs) > 0 {
			part.id = letters[i].Job
		}
		parts[part] = max(parts[part], letters[i].Sequence)
	}
	requests := make([]queue.PurgeRequest, 0, len(parts))
	for part, last := range parts {
		requests = append(requests, queue.PurgeRequest{
			Tenant: part.tenant, Job: cmp.Or(part.id, job.ID(d.Job)), Hash: workflow.Hash(d.Hash), Kind: failure.Kind(d.Kind), Reason: failure.Reason(d.Reason),
			Since: d.sinceText(), UpTo: last, By: by(),
		})
	}
	slices.SortFunc(requests, func(a, b queue.PurgeRequest) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Job, b.Job))
	})
	return requests
}

// requeue has the dispatchers publish the letters again, a page at a time.
func (d *deadRequeueCmd) requeue(ctx context.Context, c *daemon.Console, q *queue.Queue, letters []letter, extra json.RawMessage) error {
	done, needy := 0, 0
	for _, r := range d.meant(letters) {
		request := jetstream.RequeueRequest{
			Tenant: r.Tenant, Job: r.Job, Hash: r.Hash, Kind: r.Kind, Reason: r.Reason, Since: r.Since, UpTo: r.UpTo, By: r.By, Again: d.Again, ExtraData: extra,
		}
		for {
			var page jetstream.RequeueAnswer
			if err := q.Call(ctx, "requeue", request, &page); err != nil && done > 0 {
				return fmt.Errorf("%d of %d requeued, then: %w; the command can be repeated", done, len(letters), err)
			} else if err != nil {
				return err
			}
			for _, dead := range slices.Sorted(maps.Keys(page.Jobs)) {
				c.Print("%s", jobRef{tenant: r.Tenant, id: page.Jobs[dead]}.word())
			}
			for _, id := range page.NeedExtraData {
				c.Say("%s left out: it had an extra_data, which letters do not keep", jobRef{tenant: r.Tenant, id: id}.word())
			}
			done, needy = done+page.Count, needy+len(page.NeedExtraData)
			if request.After = page.Next; page.Next == 0 {
				break
			}
		}
	}
	if others := len(letters) - done - needy; others > 0 {
		c.Say("%s left out: it was requeued meanwhile, or refused when it came; a job that is named runs all the same", daemon.Plural(others, "letter"))
	}
	c.Say("%s requeued", daemon.Plural(done, "job"))
	return needsExtraData(needy)
}

// needsExtraData is the error of letters that were left out since they need what they do not keep.
func needsExtraData(left int) error {
	if left == 0 {
		return nil
	}
	return fmt.Errorf("%s left out; give --extra-data FILE with what they need, or --extra-data none to run them without", daemon.Plural(left, "job"))
}

type deadPurgeCmd struct{ deadMany }

// Help is shown after the flags.
func (*deadPurgeCmd) Help() string {
	return `The letters are gone for ever. The events of the jobs stay until their time is over.

Examples:
  dispatcher dead purge acme/order-17 --yes
  dispatcher dead purge --reason invalid_job --yes`
}

// Run deletes the letters.
func (d *deadPurgeCmd) Run(ctx context.Context, c *daemon.Console) error {
	q, done, err := d.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	letters, err := d.chosen(ctx, q)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		c.Say("no dead letter fits")
		return nil
	}
	if err := c.Confirm("delete "+daemon.Plural(len(letters), "dead letter")+" for ever", d.Yes); err != nil {
		return err
	}
	deleted := 0
	for _, request := range d.meant(letters) {
		for {
			var page queue.PurgeAnswer
			if err := q.Call(ctx, "purge", request, &page); err != nil && deleted > 0 {
				return fmt.Errorf("%s deleted, then: %w; the command can be repeated", daemon.Plural(deleted, "dead letter"), err)
			} else if err != nil {
				return err
			}
			deleted += page.Count
			if request.After = page.Next; page.Next == 0 {
				break
			}
		}
	}
	c.Print("%s deleted", daemon.Plural(deleted, "dead letter"))
	return nil
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
