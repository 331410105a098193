package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// cancelCmd ends jobs.
type cancelCmd struct {
	client
	tenantFlag
	Jobs  []string `arg:"" name:"job" help:"Ids of jobs, or tenant/id."`
	Force bool     `help:"Also cancel an id that was never seen: a job that comes with it later ends at once."`
}

// Help is shown after the flags.
func (*cancelCmd) Help() string {
	return `Waiting jobs never start, running ones are stopped by id on their host. A job that has ended already stays as it
ended, which is told and is no error.

Examples:
  dispatcher cancel order-17 order-18 --tenant acme
  dispatcher cancel acme/order-19 --force`
}

// Run cancels all, and fails when any of them is not there.
func (k *cancelCmd) Run(ctx context.Context, c *console) error {
	refs := make([]jobRef, 0, len(k.Jobs))
	for _, text := range k.Jobs {
		ref, err := k.ref(text)
		if err != nil {
			return err
		}
		refs = append(refs, ref)
	}
	q, done, err := k.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	var failed error
	for _, ref := range refs {
		failed = errors.Join(failed, k.cancel(ctx, c, q, ref))
	}
	return failed
}

func (k *cancelCmd) cancel(ctx context.Context, c *console, q *jetstream.Queue, ref jobRef) error {
	asked := q.Now()
	e, err := q.Cancel(ctx, ref.tenant, ref.id, by(), k.Force)
	switch {
	case errors.Is(err, jetstream.ErrNoJob):
		return fmt.Errorf("tenant %s has no job %s; --tenant says whose it is, and --force cancels one that is still to come", ref.tenant, ref.id)
	case err != nil:
		return err
	case e.EventKind == job.Cancelled && !e.Time.Before(asked):
		c.print("%s cancelled", ref.word())
	default:
		c.print("%s was already %s %s", ref.word(), e.EventKind, ago(e.Time, q.Now()))
	}
	return nil
}

// by is who gives an order, as events and conditions tell it.
func by() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return clean(u.Username)
	}
	return "cli"
}
