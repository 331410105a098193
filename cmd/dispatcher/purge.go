package main

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

type deadPurgeCmd struct{ deadMany }

// Help is shown after the flags.
func (*deadPurgeCmd) Help() string {
	return `The letters cannot be restored. The events of the jobs stay as long as events are kept.

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
		c.Say("no dead letter matches")
		return nil
	}
	if err := c.Confirm("delete "+daemon.Plural(len(letters), "dead letter")+" for ever", d.Yes); err != nil {
		return err
	}
	deleted := 0
	for _, request := range d.requests(letters) {
		err := eachPage(asking[queue.PurgeAnswer](ctx, q, "purge", &request), func(page *queue.PurgeAnswer) bool {
			deleted += page.Count
			return following(&request.After, page.Next)
		})
		if err != nil {
			return halfway(err, deleted, "dead letter", "deleted")
		}
	}
	c.Print("%s deleted", daemon.Plural(deleted, "dead letter"))
	return nil
}
