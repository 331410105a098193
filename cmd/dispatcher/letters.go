package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// letters finds fitting dead letters, oldest first, and tells NATS' time: with a tenant's credentials its own by the
// dispatchers, else those of all tenants in the stream itself.
func (f *client) letters(ctx context.Context, c *daemon.Console, which *deadFilter) ([]letter, time.Time, error) {
	if f.OwnTenant() != "" {
		a, client, err := f.asTenant(ctx, c, which.Tenant)
		if err != nil {
			return nil, time.Time{}, err
		}
		defer a.close()
		found, err := which.ask(ctx, client)
		return found, client.Now(), err
	}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer done()
	found, err := which.find(ctx, q)
	return found, q.Now(), err
}

// ask has the dispatchers find the tenant's letters, a page at a time.
func (f *deadFilter) ask(ctx context.Context, client *jetstream.Client) ([]letter, error) {
	request := jetstream.DeadRequest{Job: job.ID(f.Job), Hash: workflow.Hash(f.Hash), Kind: failure.Kind(f.Kind), Reason: failure.Reason(f.Reason)}
	if since := f.Since.before(client.Now()); !since.IsZero() {
		request.Since = since.Format(time.RFC3339Nano)
	}
	var found []letter
	for {
		page, err := client.Dead(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Dead {
			e.EventKind = job.Dead
			found = append(found, letter{
				DeadLetter: queue.DeadLetter{Tenant: e.Tenant, Job: e.Job, Reason: failure.Reason(e.Reason), Time: e.Time, Event: e}, event: e, own: true,
			})
		}
		if page.Next == 0 {
			return found, nil
		}
		request.After = page.Next
	}
}

func (l *letter) priority() job.Priority {
	if l.own {
		return l.event.Priority
	}
	return l.Priority()
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
		c.Say("no dead letter fits")
		return nil
	}
	if err := c.Confirm("requeue "+daemon.Plural(len(letters), "job"), d.Yes || len(letters) == 1); err != nil {
		return err
	}
	requeued, needy := 0, 0
	for _, id := range letters {
		answer, err := client.Requeue(ctx, jetstream.RequeueRequest{Job: id, Again: d.Again, By: by(), ExtraData: extra})
		if err != nil {
			return fmt.Errorf("%d of %d requeued, then: %w; the command can be repeated", requeued, len(letters), err)
		}
		for _, fresh := range answer.Jobs {
			c.Print("%s", jobRef{tenant: client.Tenant(), id: fresh}.word())
		}
		requeued, needy = requeued+answer.Count, needy+len(answer.NeedExtraData)
	}
	if skipped := len(letters) - requeued - needy; skipped > 0 {
		c.Say("%s requeued before and left out; --again takes them too", daemon.Plural(skipped, "letter"))
	}
	c.Say("%s requeued", daemon.Plural(requeued, "job"))
	return needsExtraData(needy)
}

// chosenOwn are the jobs whose letters the arguments and flags mean, each once.
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
			return nil, errors.New("no dead letter of job " + ref.word() + " fits; `dispatcher dead` lists them")
		}
		ids = append(ids, ref.id)
	}
	return different(ids), nil
}
