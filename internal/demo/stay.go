package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// stayPause is the time between two jobs that are submitted when the story is over, so that the page has something to show.
const stayPause = 1500 * time.Millisecond

// stay keeps the fleet up and submits a job from time to time, until ctx ends.
func (d *demo) stay(ctx context.Context) error {
	next := len(d.jobs) + 1
	if d.o.Keep {
		if err := d.prepare(ctx, &next); err != nil {
			return daemon.UnlessStopped(ctx, err)
		}
	}
	d.out.say("")
	d.out.say("%s", d.staying())
	pause := time.NewTicker(stayPause)
	defer pause.Stop()
	tenants := []job.Tenant{"acme", "bolt", "coral"}
	for n := next; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.fleet.broken:
			return err
		case <-pause.C:
		}
		p := plannedJob{number: n, tenant: tenants[n%len(tenants)], workflow: []string{portrait, poster}[n%2]}
		if err := d.publish(ctx, &p); err != nil {
			return daemon.UnlessStopped(ctx, err)
		}
	}
}

func (d *demo) staying() string {
	if d.address == "" {
		return "The fleet stays up until Ctrl-C."
	}
	return fmt.Sprintf("The fleet stays up, and its page at %s, until Ctrl-C.", d.address)
}

// prepare brings about what there is to try, and prints the commands.
func (d *demo) prepare(ctx context.Context, next *int) error {
	waiting := plannedJob{number: *next, tenant: "bolt", workflow: poster, only: "gpu=h100"}
	lost := plannedJob{number: *next + 1, tenant: "coral", workflow: retouch}
	*next += 2
	if err := d.publish(ctx, &waiting); err != nil {
		return err
	}
	if !d.alone() {
		if err := d.leaveDead(ctx, &lost); err != nil {
			return err
		}
	}
	spec, _ := d.spec(&plannedJob{number: *next, tenant: "acme", workflow: portrait})
	*next++
	if d.o.Pictures == "" {
		var err error
		if d.o.Pictures, err = os.MkdirTemp("", "comfyherd-pictures-"); err != nil {
			return fmt.Errorf("make a folder for the pictures: %w", err)
		}
	}
	file := filepath.Join(d.o.Pictures, "portrait_api.json")
	if err := os.WriteFile(file, spec.Workflow, 0o600); err != nil {
		return fmt.Errorf("write a workflow to try: %w", err)
	}
	d.stage.damage()
	say := d.out.say
	say("")
	say("Try in another terminal:")
	say("")
	say("  export NATS_URL=%s", d.fleet.server.URL())
	say("  dispatcher submit %s --tenant acme --wait --out %s", file, d.o.Pictures)
	say("  dispatcher why %s --tenant bolt     # it may run on hosts with the label gpu=h100 only", waiting.id())
	say("  dispatcher blocks                   # that of the portraits, when one has failed within the last seconds")
	if !d.alone() {
		say("  dispatcher dead requeue coral/%s    # its photo was damaged, and is whole now", lost.id())
	}
	return nil
}

// leaveDead leaves a job that is dead because its photo was damaged, and repairs the photo, so that the job can be requeued.
func (d *demo) leaveDead(ctx context.Context, p *plannedJob) error {
	if err := d.put(ctx, false); err != nil {
		return err
	}
	if err := d.publish(ctx, p); err != nil {
		return err
	}
	for e, err := range d.fleet.client(p.tenant).FollowMany(ctx, []job.ID{p.id()}) {
		if err != nil {
			return fmt.Errorf("follow %s: %w", p.id(), err)
		}
		if e.EventKind.Terminal() {
			break
		}
	}
	return d.put(ctx, true)
}
