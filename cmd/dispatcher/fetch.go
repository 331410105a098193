package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetchCmd gets the files of jobs that have completed.
type fetchCmd struct {
	tenantFlags
	Jobs []string `arg:"" name:"job" help:"Ids of completed jobs, or tenant/id."`
	Out  string   `short:"o" default:"." placeholder:"DIR" help:"Write the files to DIR/<job>/<file>."`
}

// Help is shown after the flags.
func (*fetchCmd) Help() string {
	return `Prints the paths of the files. A file that is complete is not downloaded again, and an interrupted download continues, so
the command may be repeated. Files are kept for a limited time.

Examples:
  dispatcher fetch order-17 --out pictures
  dispatcher jobs --state completed --limit 10 --json | jq -r .job | xargs dispatcher fetch --out pictures`
}

// Run downloads the files of every job, and fails when any of them cannot be downloaded.
func (f *fetchCmd) Run(ctx context.Context, c *daemon.Console) error {
	refs, err := f.refs(f.Jobs)
	if err != nil {
		return err
	}
	if err := daemon.Writable(f.Out); err != nil {
		return fmt.Errorf("--out %s: %w", f.Out, err)
	}
	a, err := f.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	show := &plainDisplay{c: c}
	var failed error
	for _, ref := range refs {
		if err := f.fetch(stop, a.of(ref.tenant), ref, show); err != nil {
			if stop.Err() != nil {
				c.Say("dispatcher: interrupted; run the same command again to continue")
				return daemon.ExitInterrupted
			}
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (f *fetchCmd) fetch(ctx context.Context, client *jetstream.Client, ref jobRef, show display) error {
	status, err := client.Status(ctx, ref.id)
	switch _, missing := errors.AsType[*jetstream.NotFound](err); {
	case missing:
		return ref.missing()
	case err != nil:
		return err
	case status.State == job.Dead || status.State == job.Cancelled:
		return fmt.Errorf("job %s has no files: it is %s; `dispatcher status %[1]s` says why", ref.word(), status.State)
	case status.State != job.Completed:
		return fmt.Errorf("job %s has no files: it is %s; `dispatcher wait %[1]s --out %s` waits for them", ref.word(), status.State, f.Out)
	}
	return fetch(ctx, client, f.Out, &status.Event, show)
}

// fetch writes the files of a completed job to <out>/<job>/<file> and prints their paths. After an error it continues with
// the other files, and returns the first one.
func fetch(ctx context.Context, client *jetstream.Client, out string, e *jetstream.Event, show display) error {
	s := daemon.Saver{Folder: out, Open: func(ctx context.Context, object string, offset int64) (io.ReadCloser, error) {
		body, _, err := client.OpenFile(ctx, object, offset)
		return body, err
	}}
	taken := map[string]bool{}
	var failed error
	for i := range e.Outputs {
		o := &e.Outputs[i]
		if o.Object == "" && !daemon.IsText(o) {
			show.say(fmt.Sprintf("%s: %s was left on host %s", e.Job, o.Filename, e.Host))
			continue
		}
		path := s.Path(e.Job, o, taken)
		if err := s.Save(ctx, o, path); err != nil {
			show.say(fmt.Sprintf("%s: %v", e.Job, err))
			if failed == nil {
				failed = fmt.Errorf("%w; files are kept for a limited time: `dispatcher fetch %s --out %s` tries again", err, jobRef{tenant: e.Tenant, id: e.Job}.word(), out)
			}
			continue
		}
		show.result(path)
	}
	return failed
}
