package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// stayPause is the time between two jobs that are submitted when the story is over, so that the page has something to show.
const stayPause = 1500 * time.Millisecond

// stay keeps the fleet up and submits a job from time to time, until ctx ends.
func (d *demo) stay(ctx context.Context) error {
	d.out.say("")
	d.out.say("The fleet stays up, and its page at %s, until Ctrl-C.", d.address)
	pause := time.NewTicker(stayPause)
	defer pause.Stop()
	tenants := []job.Tenant{"acme", "bolt", "coral"}
	for n := len(d.jobs) + 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.fleet.broken:
			return err
		case <-pause.C:
		}
		name := []string{portrait, poster}[n%2]
		raw, _ := d.stage.workflow(name, n)
		spec := job.Spec{ID: job.ID(fmt.Sprintf("job-%02d", n)), Workflow: raw}
		if _, err := d.fleet.q.Submit(ctx, job.Lane{Tenant: tenants[n%len(tenants)], Priority: job.Usual}, spec); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("submit %s: %w", spec.ID, err)
		}
	}
}
