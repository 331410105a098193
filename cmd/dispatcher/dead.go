package main

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// deadCmd is about dead letters.
type deadCmd struct {
	List    deadListCmd    `cmd:"" default:"withargs" help:"List dead letters; dispatcher dead does the same."`
	Show    deadShowCmd    `cmd:"" help:"Show one dead job with every attempt."`
	Requeue deadRequeueCmd `cmd:"" help:"Publish dead jobs again, as <id>-r1, -r2, …"`
	Purge   deadPurgeCmd   `cmd:"" help:"Delete dead letters."`
}

// deadFilter chooses among dead letters; an empty field fits all.
type deadFilter struct {
	Tenant string     `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only dead letters of this tenant."`
	Job    string     `placeholder:"ID" help:"Only this job."`
	Hash   hashPrefix `placeholder:"HEX" help:"Only of this workflow; its first 8 digits suffice."`
	Kind   kindName   `placeholder:"KIND" help:"Only with this kind of last failure, as execution_error."`
	Reason string     `placeholder:"REASON" help:"Only dead for this reason, as attempts_exhausted."`
	Since  since      `placeholder:"DURATION|TIME" help:"Only those that died since, as 24h or 2026-12-01T08:00:00Z."`
}

// Validate refuses a name that no tenant has.
func (f *deadFilter) Validate() error {
	if f.Tenant != "" && !job.Tenant(f.Tenant).Valid() {
		return fmt.Errorf("--tenant %q is not a tenant name; give 1 to 64 of A-Z a-z 0-9 _ -", f.Tenant)
	}
	return nil
}

// narrow reports whether the filter says anything at all.
func (f *deadFilter) narrow() bool { return *f != deadFilter{} }

type deadListCmd struct {
	client
	deadFilter
	Group bool `help:"One row for all that died in the same way, by exception, class and message without numbers."`
	JSON  bool `help:"Print one JSON object a line: the dead events, or the groups."`
}

// Help is shown after the flags.
func (*deadListCmd) Help() string {
	return `Examples:
  dispatcher dead
  dispatcher dead --group
  dispatcher dead list --tenant acme --since 24h --kind out_of_memory
  dispatcher dead requeue --hash 3f2a9c1d --yes`
}

// Run lists.
func (d *deadListCmd) Run(ctx context.Context, c *daemon.Console) error {
	letters, now, err := d.letters(ctx, c, &d.deadFilter)
	if err != nil {
		return err
	}
	if d.Group {
		return d.tellGroups(c, letters, now)
	}
	if d.JSON {
		for i := range letters {
			if err := c.JSON(eventJSON{Kind: job.Dead, Event: &letters[i].event}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(letters) == 0 {
		c.Say("no dead letter matches")
		return nil
	}
	rows := [][]string{{"DIED", "JOB", "WORKFLOW", "REASON", "KIND", "ATTEMPTS", "HOST", "MESSAGE"}}
	for i := range letters {
		e := &letters[i].event
		rows = append(rows, []string{
			daemon.Ago(e.Time, now), jobRef{tenant: letters[i].Tenant, id: letters[i].Job}.word(), e.Hash.Short(), string(letters[i].Reason),
			string(e.Kind), count(len(e.Attempts)), e.Host, daemon.Short(daemon.FirstLine(e.Message), 80),
		})
	}
	return c.Table(rows)
}

type deadShowCmd struct {
	tenantFlags
	Job  string `arg:"" help:"Id of the job, or tenant/id."`
	Body bool   `help:"Print only the job as it was published."`
}

// Help is shown after the flags.
func (*deadShowCmd) Help() string {
	return `Examples:
  dispatcher dead show acme/order-17
  dispatcher dead show acme/order-17 --body > job.json`
}

// Run shows the newest letter of the job.
func (d *deadShowCmd) Run(ctx context.Context, c *daemon.Console) error {
	ref, err := d.ref(d.Job)
	if err != nil {
		return err
	}
	letters, now, err := d.letters(ctx, c, &deadFilter{Tenant: string(ref.tenant), Job: string(ref.id)})
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return fmt.Errorf("tenant %s has no dead letter of job %s; `dispatcher dead` lists them", ref.tenant, ref.id)
	}
	last := &letters[len(letters)-1]
	if d.Body && last.own {
		return fmt.Errorf("--body prints the job as it was published, which only an operator may read; use the credentials of an operator for job %s", ref.id)
	}
	if d.Body {
		return c.Verbatim(last.Body)
	}
	return last.show(c, now)
}
