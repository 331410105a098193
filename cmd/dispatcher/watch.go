package main

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// watchCmd shows stored events as they come.
type watchCmd struct {
	client
	Tenant string        `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only events of this tenant's jobs."`
	Since  time.Duration `placeholder:"DURATION" unset:"now" range:"0s.." help:"Begin with the events of this long ago."`
	All    bool          `help:"Begin with the oldest event that is kept."`
	Blocks bool          `help:"Only events of blocks and hosts."`
	JSON   bool          `help:"One JSON object a line: subject, event, and the event's own fields."`
}

// Help is shown after the flags.
func (*watchCmd) Help() string {
	return `A line has the time, the job (or the workflow's hash), what happened, on which host, and why.

Examples:
  dispatcher watch
  dispatcher watch --tenant acme --since 10m
  dispatcher watch --blocks
  dispatcher watch --json | jq -r 'select(.event == "dead") | .job'`
}

// Validate refuses a tenant together with what is not a tenant's.
func (w *watchCmd) Validate() error {
	if w.Blocks && w.Tenant != "" {
		return fmt.Errorf("--blocks is about hosts, which belong to no tenant; leave out --blocks or --tenant %s", w.Tenant)
	}
	return nil
}

// Run shows events until it is stopped.
func (w *watchCmd) Run(ctx context.Context, c *daemon.Console) error {
	var tenant job.Tenant // empty: all
	if w.Tenant != "" || w.OwnTenant() != "" {
		var err error
		if tenant, err = w.named(w.Tenant); err != nil {
			return err
		}
	}
	if w.Blocks && tenant != "" {
		return fmt.Errorf("--blocks is about hosts, which the credentials of tenant %s do not show; leave it out", tenant)
	}
	a, err := w.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	p := printer{c: c, colours: daemon.Colourful(c.Out), json: w.JSON}
	for note, err := range w.notes(stop, c, a, tenant) {
		if err == nil {
			err = p.print(&note)
		}
		if err != nil {
			return daemon.UnlessStopped(stop, err)
		}
	}
	return nil
}
