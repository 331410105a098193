package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// submitCmd publishes workflows.
type submitCmd struct {
	tenantFlags
	wishes
	waiting

	Files    []string `arg:"" name:"file" help:"Workflow in API format, POST /prompt body, or envelope; - is standard input."`
	Priority int      `default:"5" placeholder:"N" range:"0..9" help:"Priority; 9 runs first, 0 last."`
	ID       string   `name:"id" placeholder:"ID" unset:"random" help:"Id of the job; several get -1, -2, … behind it. The same id twice runs once."`
	Count    int      `default:"1" placeholder:"N" range:"1.." help:"Submit each file this often; a seed of -1 makes each picture another."`
	Wait     bool     `short:"w" help:"Wait until the jobs have ended; --out implies it."`
}

// Help is shown after the flags.
func (*submitCmd) Help() string {
	return `Prints the id of each job. UI-format and broken workflows are refused before anything is sent.
With --out it prints the paths of the files instead. What happens on the way goes to standard error.

Exit codes: 0 done (with --wait: all completed), 1 the command failed, 2 a job died, 3 a job was cancelled,
4 --timeout is over, 130 interrupted while waiting. Of several the first in the order 1 130 4 2 3 counts.

Examples:
  dispatcher submit workflow_api.json --wait --out pictures
  dispatcher submit workflow_api.json --set '6.inputs.text=a cat' --set 3.inputs.seed=-1 --count 4
  dispatcher submit img2img.json --input 10.image=cat.png --prefer gpu=4090 --priority 7 --tenant acme
  dispatcher submit nightly.json --in 8h --expires-in 12h
  jq '.["3"].inputs.steps = 8' workflow_api.json | dispatcher submit - --wait`
}

// Run submits, and waits when it was asked to.
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
		return errors.New("--timeout bounds the wait; add --wait")
	}
	return s.wishes.Validate()
}

// specs reads every file before anything is sent, so that a bad one stops the whole.
func (s *submitCmd) specs(c *daemon.Console, tenant job.Tenant) ([]jetstream.Spec, error) {
	var specs []jetstream.Spec
	for _, name := range s.Files {
		body, err := readFile(c, name)
		if err != nil {
			return nil, err
		}
		spec, err := s.spec(body, tenant)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if s.ID != "" {
			spec.ID = job.ID(s.ID)
		}
		for range s.Count {
			specs = append(specs, spec)
		}
	}
	if err := number(specs, s.Count > 1 || s.ID != "" && len(specs) > 1); err != nil {
		return nil, err
	}
	return specs, nil
}

// number tells several jobs of one id apart.
func number(specs []jetstream.Spec, several bool) error {
	seen := map[job.ID]int{}
	for i := range specs {
		id := specs[i].ID
		if id == "" {
			continue
		}
		if several {
			seen[id]++
			specs[i].ID = job.ID(fmt.Sprintf("%s-%d", id, seen[id]))
		}
		if id = specs[i].ID; !id.Valid() || id.Ours() {
			return fmt.Errorf("%q is no id for a job; use 1 to 120 of A-Z a-z 0-9 _ -, not beginning with j-", id)
		}
	}
	return nil
}

const maxFile = 64 << 20 // beyond any message that NATS takes

func readFile(c *daemon.Console, name string) ([]byte, error) {
	from := c.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%w; give a workflow that was exported with Workflow → Export (API)", err)
		}
		defer file.Close()
		from = file
	}
	body, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("%s is a folder; give the files in it", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(body) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s; is it a workflow? Pictures are given with --input", name, daemon.Size(maxFile).String())
	}
	return body, nil
}

// publish stores the input files, then the jobs, and prints their ids. It returns what was submitted before an error.
func (s *submitCmd) publish(ctx context.Context, c *daemon.Console, a *asker, tenant job.Tenant, specs []jetstream.Spec) ([]job.ID, error) {
	client := a.of(tenant)
	inputs, err := s.store(ctx, a, client)
	if err != nil {
		return nil, err
	}
	ids := make([]job.ID, 0, len(specs))
	for _, spec := range specs {
		if s.In > 0 {
			at := client.Now().Add(s.In).UTC() // of NATS' clock, by which the dispatchers go
			spec.RunAt = &at
		}
		spec.Inputs = append(spec.Inputs[:len(spec.Inputs):len(spec.Inputs)], inputs...)
		r, err := client.Submit(ctx, jetstream.Priority(s.Priority), spec)
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

func stoppedBefore(ctx context.Context, c *daemon.Console, submitted int, err error) error {
	if ctx.Err() == nil {
		if submitted > 0 {
			err = fmt.Errorf("%s submitted, then: %w", daemon.Plural(submitted, "job"), err)
		}
		return err
	}
	c.Say("dispatcher: interrupted; %s submitted, which go on", daemon.Plural(submitted, "job"))
	return daemon.ExitInterrupted
}
