package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// submitCmd publishes workflows.
type submitCmd struct {
	tenantFlags
	jobFlags
	waiting

	Files    []string `arg:"" name:"file" help:"Workflow in API format, POST /prompt body, or envelope; - is standard input."`
	Priority int      `default:"5" placeholder:"N" range:"0..9" help:"Priority; 9 runs first, 0 last."`
	ID       string   `name:"id" placeholder:"ID" unset:"random" help:"Id of the job; several get -1, -2, … after it. The same id twice runs once."`
	Count    int      `default:"1" placeholder:"N" range:"1.." help:"Submit each file so many times; seeds of -1 give different pictures."`
	Wait     bool     `short:"w" help:"Wait until the jobs have ended; --out implies it."`
}

// Help is shown after the flags.
func (*submitCmd) Help() string {
	return `Prints the id of each job, or with --out the paths of the files; messages go to standard error. A workflow in UI
format or with errors is refused before anything is sent.

Exit codes: 0 done (with --wait: all completed), 1 the command failed, 2 a job died, 3 a job was cancelled,
4 --timeout is over, 130 interrupted while waiting. When several apply, it is the first of 1 130 4 2 3.

Examples:
  dispatcher submit workflow_api.json --wait --out pictures
  dispatcher submit workflow_api.json --set '6.inputs.text=a cat' --set 3.inputs.seed=-1 --count 4
  dispatcher submit img2img.json --input 10.image=cat.png --prefer gpu=4090 --priority 7 --tenant acme
  dispatcher submit nightly.json --in 8h --expires-in 12h
  jq '.["3"].inputs.steps = 8' workflow_api.json | dispatcher submit - --wait`
}

// Run submits, and waits with --wait or --out.
func (s *submitCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant, err := s.whose()
	if err != nil {
		return err
	}
	specs, err := s.specs(c, tenant)
	if err != nil {
		return err
	}
	if s.Out != "" {
		if err := daemon.Writable(s.Out); err != nil {
			return fmt.Errorf("--out %s: %w; nothing was submitted", s.Out, err)
		}
	}
	a, err := s.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	ids, err := s.publish(stop, c, a, tenant, specs)
	if err != nil {
		return stoppedBefore(stop, c, len(ids), err)
	}
	if !s.Wait && s.Out == "" {
		return nil
	}
	w := waiter{client: a.of(tenant), c: c, waiting: s.waiting}
	return w.wait(stop, ids)
}

// Validate refuses flags that make no sense together.
func (s *submitCmd) Validate() error {
	if s.Timeout > 0 && !s.Wait && s.Out == "" {
		return errors.New("--timeout limits the wait; add --wait")
	}
	return s.jobFlags.Validate()
}

// publish stores the input files, then the jobs, and prints their ids. It returns what was submitted before an error.
func (s *submitCmd) publish(ctx context.Context, c *daemon.Console, a *asker, tenant job.Tenant, specs []jetstream.Spec) ([]job.ID, error) {
	client := a.of(tenant)
	inputs, err := s.store(ctx, a, client)
	if err != nil {
		return nil, err
	}
	if s.In > 0 {
		s.askTime(ctx, c, client)
	}
	ids := make([]job.ID, 0, len(specs))
	for _, spec := range specs {
		if s.In > 0 {
			at := client.Now().Add(s.In).UTC() // of NATS' clock, by which the dispatchers go
			spec.RunAt = &at
		}
		spec.Inputs = append(spec.Inputs[:len(spec.Inputs):len(spec.Inputs)], inputs...)
		r, err := s.submit(ctx, c, client, spec)
		if err != nil {
			return ids, err
		}
		ids = append(ids, r.Job)
		if s.Out == "" {
			c.Print("%s", r.Job)
		}
	}
	return ids, nil
}

// submit publishes a job; one that is too large for a message of NATS as a file, which the job names.
func (s *submitCmd) submit(ctx context.Context, c *daemon.Console, client *jetstream.Client, spec jetstream.Spec) (jetstream.Receipt, error) {
	spec.ID = cmp.Or(spec.ID, jetstream.NewID())
	receipt, err := client.Submit(ctx, jetstream.Priority(s.Priority), spec)
	if !errors.Is(err, jetstream.ErrTooLarge) {
		return receipt, err
	}
	named, stored := client.ByReference(ctx, spec)
	if stored != nil {
		return receipt, errors.Join(err, stored)
	}
	c.Say("note: job %s is too large for a message of NATS and is stored as the file %s", spec.ID, named.WorkflowFile)
	return client.Submit(ctx, jetstream.Priority(s.Priority), named)
}

// timeWait is how long --in waits for the answer that carries NATS' time.
const timeWait = 5 * time.Second

// askTime has the client receive one answer, from which it takes NATS' time. A job is submitted without it as well, since it waits
// for a dispatcher anyway.
func (s *submitCmd) askTime(ctx context.Context, c *daemon.Console, client *jetstream.Client) {
	ctx, cancel := context.WithTimeout(ctx, timeWait)
	defer cancel()
	if _, err := client.Queue(ctx); err != nil {
		c.Say("note: no dispatcher answers and gives the time of NATS, so that --in=%s counts from this machine's clock", s.In)
	}
}

func stoppedBefore(ctx context.Context, c *daemon.Console, submitted int, err error) error {
	if ctx.Err() == nil {
		if submitted > 0 {
			err = fmt.Errorf("%s submitted, then: %w", daemon.Plural(submitted, "job"), err)
		}
		return err
	}
	c.Say("dispatcher: interrupted; %s submitted, which will run", daemon.Plural(submitted, "job"))
	return daemon.ExitInterrupted
}
