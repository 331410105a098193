package main

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// waitCmd waits for jobs that were submitted before.
type waitCmd struct {
	tenantFlags
	waiting

	Jobs []string `arg:"" name:"job" help:"Ids of jobs of one tenant, or tenant/id."`
}

// Help is shown after the flags.
func (*waitCmd) Help() string {
	return `Prints the events of the jobs to standard error, from their first one on, until each job has ended. A job that was not
submitted yet is waited for. With --out it prints the paths of the files.

Exit codes are those of submit --wait: 0 all completed, 1 the command failed, 2 a job died, 3 a job was cancelled,
4 --timeout is over, 130 interrupted while waiting.

Examples:
  dispatcher wait order-17 order-18 --tenant acme
  dispatcher wait $(cat ids) --out pictures --timeout 1h`
}

// Run waits.
func (w *waitCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant, ids, err := w.ofOne(w.Jobs)
	if err != nil {
		return err
	}
	if w.Out != "" {
		if err := daemon.Writable(w.Out); err != nil {
			return fmt.Errorf("--out %s: %w", w.Out, err)
		}
	}
	a, err := w.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	waits := waiter{client: a.of(tenant), c: c, waiting: w.waiting}
	return waits.wait(stop, ids)
}

// ofOne reads ids of jobs that must be those of one tenant.
func (f *tenantFlags) ofOne(texts []string) (job.Tenant, []job.ID, error) {
	refs, err := f.refs(texts)
	if err != nil {
		return "", nil, err
	}
	ids := make([]job.ID, 0, len(refs))
	for _, ref := range refs {
		if ref.tenant != refs[0].tenant {
			return "", nil, fmt.Errorf("%s and %s are jobs of two tenants; wait for those of one tenant at a time", refs[0].word(), ref.word())
		}
		ids = append(ids, ref.id)
	}
	return refs[0].tenant, ids, nil
}
