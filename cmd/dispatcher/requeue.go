package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

type deadRequeueCmd struct {
	deadMany
	Again     bool   `help:"Also those that were requeued before."`
	ExtraData string `placeholder:"FILE|none" help:"JSON object for the jobs that had an extra_data, which letters do not keep; - is standard input, none runs them without."`
}

// Help is shown after the flags.
func (*deadRequeueCmd) Help() string {
	return `Prints the new ids. A dead job stays dead: what is published again is a new job with the next free number after
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
		c.Say("no dead letter matches")
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
		return nil, fmt.Errorf("--extra-data %s: it is not a JSON object; write it like {\"api_key_comfy_org\":\"…\"}", d.ExtraData)
	}
	return bytes.TrimSpace(body), nil
}

// fresh leaves out letters that were requeued before, and all but the newest of a letter that was stored twice.
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

// requeue has the dispatchers publish the letters again, a page at a time.
func (d *deadRequeueCmd) requeue(ctx context.Context, c *daemon.Console, q *queue.Queue, letters []letter, extra json.RawMessage) error {
	tally := requeueTally{c: c, chosen: len(letters)}
	for _, r := range d.requests(letters) {
		request := jetstream.RequeueRequest{
			Tenant: r.Tenant, Job: r.Job, Hash: r.Hash, Kind: r.Kind, Reason: r.Reason, Since: r.Since, UpTo: r.UpTo, By: r.By, Again: d.Again, ExtraData: extra,
		}
		err := eachPage(asking[jetstream.RequeueAnswer](ctx, q, "requeue", &request), func(page *jetstream.RequeueAnswer) bool {
			tally.add(r.Tenant, page)
			return following(&request.After, page.Next)
		})
		if err != nil {
			return tally.broken(err)
		}
	}
	return tally.end("requeued meanwhile, or refused when it came, and left out; a job that is named runs all the same")
}

// requeueOwn has the dispatchers publish a tenant's letters again.
func (d *deadRequeueCmd) requeueOwn(ctx context.Context, c *daemon.Console, extra json.RawMessage) error {
	a, client, err := d.asTenant(ctx, c, d.Tenant)
	if err != nil {
		return err
	}
	defer a.close()
	letters, err := d.chosenOwn(ctx, client)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		c.Say("no dead letter matches")
		return nil
	}
	if err := c.Confirm("requeue "+daemon.Plural(len(letters), "job"), d.Yes || len(letters) == 1); err != nil {
		return err
	}
	tally := requeueTally{c: c, chosen: len(letters)}
	for _, id := range letters {
		answer, err := client.Requeue(ctx, jetstream.RequeueRequest{Job: id, Again: d.Again, By: by(), ExtraData: extra})
		if err != nil {
			return tally.broken(err)
		}
		tally.add(client.Tenant(), &answer)
	}
	return tally.end("requeued before and left out; --again takes them too")
}

// requeueTally prints what was requeued, and counts it.
type requeueTally struct {
	c           *daemon.Console
	chosen      int
	done, needy int // needy: left out, since they need the extra_data that letters do not keep
}

func (t *requeueTally) add(tenant job.Tenant, page *jetstream.RequeueAnswer) {
	for _, dead := range slices.Sorted(maps.Keys(page.Jobs)) {
		t.c.Print("%s", jobRef{tenant: tenant, id: page.Jobs[dead]}.word())
	}
	for _, id := range page.NeedExtraData {
		t.c.Say("%s left out: it had an extra_data, which letters do not keep", jobRef{tenant: tenant, id: id}.word())
	}
	t.done, t.needy = t.done+page.Count, t.needy+len(page.NeedExtraData)
}

// broken is the error of a call that failed.
func (t *requeueTally) broken(err error) error {
	if t.done == 0 {
		return err
	}
	return fmt.Errorf("%d of %d requeued, then: %w; the command can be repeated", t.done, t.chosen, err)
}

// end prints the counts; why says what became of the letters that were neither requeued nor needy.
func (t *requeueTally) end(why string) error {
	if others := t.chosen - t.done - t.needy; others > 0 {
		t.c.Say("%s %s", daemon.Plural(others, "letter"), why)
	}
	t.c.Say("%s requeued", daemon.Plural(t.done, "job"))
	if t.needy == 0 {
		return nil
	}
	return fmt.Errorf("%s left out; give --extra-data FILE with what they need, or --extra-data none to run them without", daemon.Plural(t.needy, "job"))
}

// chosenOwn are the jobs whose letters the arguments and flags name, each once.
func (d *deadRequeueCmd) chosenOwn(ctx context.Context, client *jetstream.Client) ([]job.ID, error) {
	if len(d.Jobs) == 0 {
		letters, err := d.ask(ctx, client)
		ids := make([]job.ID, 0, len(letters))
		for i := range letters {
			ids = append(ids, letters[i].Job)
		}
		return different(ids), err
	}
	var ids []job.ID
	for _, text := range d.Jobs {
		ref, err := d.ref(text)
		if err != nil {
			return nil, err
		}
		one := d.deadFilter
		one.Job = string(ref.id)
		found, err := one.ask(ctx, client)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, errors.New("no dead letter of job " + ref.word() + " matches; `dispatcher dead` lists them")
		}
		ids = append(ids, ref.id)
	}
	return different(ids), nil
}
