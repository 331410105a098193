package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// tenantsCmd is about shares.
type tenantsCmd struct {
	List tenantsListCmd `cmd:"" default:"withargs" help:"List tenants with settings of their own; dispatcher tenants does the same."`
	Set  tenantsSetCmd  `cmd:"" help:"Change a tenant's weight or caps."`
}

type tenantsListCmd struct {
	client
	JSON bool `help:"Print a JSON object, tenant to settings."`
}

// Run lists.
func (t *tenantsListCmd) Run(ctx context.Context, c *daemon.Console) error {
	answer, err := t.tenants(ctx, c, queue.TenantsRequest{})
	if err != nil {
		return err
	}
	if t.JSON {
		return c.JSON(answer.Tenants)
	}
	return tellTenants(c, answer)
}

// tenants changes settings as the request says, and gives those that answer it.
func (f *client) tenants(ctx context.Context, c *daemon.Console, request queue.TenantsRequest) (queue.TenantsAnswer, error) {
	all := queue.TenantsAnswer{Tenants: map[job.Tenant]queue.TenantSettings{}}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return all, err
	}
	defer done()
	request.By = by()
	return all, eachPage(asking[queue.TenantsAnswer](ctx, q, "tenants", &request), func(page *queue.TenantsAnswer) bool {
		maps.Copy(all.Tenants, page.Tenants)
		return following(&request.After, page.Next)
	})
}

func tellTenants(c *daemon.Console, answer queue.TenantsAnswer) error {
	if len(answer.Tenants) == 0 {
		c.Say("no tenant has settings of its own: all have weight 1 and the caps of `dispatcher run`")
		return nil
	}
	rows := [][]string{{"TENANT", "WEIGHT", "MAX RUNNING", "MAX PRIORITY", "MAX UNFINISHED", "MAX BYTES", "MAX FILE BYTES"}}
	for _, name := range slices.Sorted(maps.Keys(answer.Tenants)) {
		s := answer.Tenants[name]
		highest := "default"
		if s.MaxPriority != nil {
			highest = fmt.Sprint(*s.MaxPriority)
		}
		rows = append(rows, []string{string(name), fmt.Sprint(s.Weight), capWord(s.MaxRunning), highest, capWord(s.MaxUnfinished), sizeWord(s.MaxBytes), sizeWord(s.MaxFileBytes)})
	}
	return c.Table(rows)
}

func sizeWord(most int64) string {
	if most > 0 {
		return daemon.Size(most).String()
	}
	return "default"
}

func capWord(most int) string {
	if most > 0 {
		return fmt.Sprint(most)
	}
	return "no cap"
}

type tenantsSetCmd struct {
	client
	Tenant     string   `arg:"" help:"Name of the tenant."`
	Weight     *float64 `placeholder:"X" range:"0.001..1000000" help:"Its share of the hosts beside other tenants; 1 is usual."`
	MaxRunning *int     `placeholder:"N" range:"0.." help:"Jobs that run at once on all hosts together; 0 is no cap."`

	MaxPriority   *job.Priority `placeholder:"N" range:"0..9" help:"Its highest priority; a higher one counts as this."`
	MaxUnfinished *int          `placeholder:"N" range:"0.." help:"Jobs that have not ended; those beyond are dead with the reason over_quota. 0 is no cap."`
	MaxBytes      *daemon.Size  `placeholder:"SIZE" help:"Bytes of jobs that have not ended, such as 200MiB; 0 is half of the size of COMFY_JOBS."`
	MaxFileBytes  *daemon.Size  `placeholder:"SIZE" help:"Bytes of its files in COMFY_INPUTS; 0 is a quarter of the size of COMFY_INPUTS."`
}

// Help is shown after the flags.
func (*tenantsSetCmd) Help() string {
	return `Examples:
  dispatcher tenants set acme --weight 2
  dispatcher tenants set acme --max-running 4
  dispatcher tenants set acme --max-priority 7
  dispatcher tenants set acme --max-unfinished 5000 --max-bytes 200MiB
  dispatcher tenants set acme --max-file-bytes 20GiB`
}

// Validate refuses a wrong name and a command that changes nothing.
func (t *tenantsSetCmd) Validate() error {
	switch {
	case !job.Tenant(t.Tenant).Valid():
		return fmt.Errorf("%q is not a tenant name; give 1 to 64 of A-Z a-z 0-9 _ -", t.Tenant)
	case t.Weight == nil && t.MaxRunning == nil && t.MaxPriority == nil && t.MaxUnfinished == nil && t.MaxBytes == nil && t.MaxFileBytes == nil:
		return errors.New("nothing is to be changed; give --weight, --max-running, --max-priority, --max-unfinished, --max-bytes or --max-file-bytes")
	}
	return nil
}

// Run changes settings.
func (t *tenantsSetCmd) Run(ctx context.Context, c *daemon.Console) error {
	answer, err := t.tenants(ctx, c, queue.TenantsRequest{
		Tenant: job.Tenant(t.Tenant), Weight: t.Weight, MaxRunning: t.MaxRunning, MaxPriority: t.MaxPriority,
		MaxUnfinished: t.MaxUnfinished, MaxBytes: (*int64)(t.MaxBytes), MaxFileBytes: (*int64)(t.MaxFileBytes),
	})
	if err != nil {
		return err
	}
	return tellTenants(c, answer)
}
