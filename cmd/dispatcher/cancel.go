package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// cancelCmd ends jobs.
type cancelCmd struct {
	tenantFlags
	Jobs    []string      `arg:"" optional:"" name:"job" help:"Ids of jobs, or tenant/id."`
	Lane    *job.Priority `placeholder:"N" range:"0..9" help:"All jobs of the tenant that wait in the lane of this priority."`
	All     bool          `help:"All jobs of the tenant that wait."`
	Running bool          `help:"With --lane or --all: also the jobs that run."`
	Yes     bool          `short:"y" help:"Do not ask."`
	Force   bool          `help:"Also cancel an id that does not exist: a job that is published with it later ends at once."`
}

// Help is shown after the flags.
func (*cancelCmd) Help() string {
	return `A waiting job never starts; a running one is stopped on its host. A job that has ended already stays as it
ended, which is printed and is no error. --lane and --all cancel running jobs only with --running.

Examples:
  dispatcher cancel order-17 order-18 --tenant acme
  dispatcher cancel --lane 0 --tenant acme --yes
  dispatcher cancel --all --running
  dispatcher cancel acme/order-19 --force`
}

// Run cancels all, and fails when any of them is not there.
func (k *cancelCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant, err := k.whose()
	if err != nil {
		return err
	}
	refs, err := k.refs(k.Jobs)
	if err != nil {
		return err
	}
	a, err := k.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	if len(refs) == 0 {
		return k.many(ctx, c, a.of(tenant))
	}
	var failed error
	for _, ref := range refs {
		failed = errors.Join(failed, k.cancel(ctx, c, a, ref))
	}
	return failed
}

// Validate refuses a command that does not say, or says twice, which jobs it means.
func (k *cancelCmd) Validate() error {
	ways := 0
	for _, given := range []bool{len(k.Jobs) > 0, k.Lane != nil, k.All} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("name the jobs, or give --lane, or --all")
	case k.Force && len(k.Jobs) == 0:
		return errors.New("--force is for a job that is still to come; name the job")
	case k.Running && len(k.Jobs) > 0:
		return errors.New("--running goes with --lane or --all; a job that is named is cancelled wherever it is")
	}
	return nil
}

// many cancels the jobs of a lane or of all lanes.
func (k *cancelCmd) many(ctx context.Context, c *daemon.Console, client *jetstream.Client) error {
	request := jetstream.CancelRequest{All: k.All, Lane: k.Lane, Running: k.Running, By: by()}
	what := "all waiting jobs"
	if k.Running {
		what = "all waiting and running jobs"
	}
	what += fmt.Sprintf(" of tenant %s", client.Tenant())
	if k.Lane != nil {
		what += fmt.Sprintf(", priority %d", *k.Lane)
	}
	if err := c.Confirm("cancel "+what, k.Yes); err != nil {
		return err
	}
	ended := 0
	ask := func() (jetstream.CancelAnswer, error) { return client.Cancel(ctx, request) }
	err := eachPage(ask, func(page *jetstream.CancelAnswer) bool {
		ended += page.Count
		return following(&request.After, page.Next)
	})
	if err != nil {
		return halfway(err, ended, "job", "cancelled")
	}
	c.Print("%s cancelled", daemon.Plural(ended, "job"))
	return nil
}

// halfway is the error of a command that has done its work for some of many before it failed.
func halfway(err error, done int, one, participle string) error {
	if done == 0 {
		return err
	}
	return fmt.Errorf("%s %s, then: %w; the command can be repeated", daemon.Plural(done, one), participle, err)
}

func (k *cancelCmd) cancel(ctx context.Context, c *daemon.Console, a *asker, ref jobRef) error {
	client := a.of(ref.tenant)
	answer, err := client.Cancel(ctx, jetstream.CancelRequest{Job: ref.id, Force: k.Force, By: by()})
	if err != nil {
		answer, err = k.withoutDispatcher(ctx, a, ref, err)
	}
	_, missing := errors.AsType[*jetstream.NotFound](err)
	switch {
	case missing:
		return fmt.Errorf("tenant %s has no job %s; name its tenant with --tenant, or give --force to cancel a job that is still to come", ref.tenant, ref.id)
	case err != nil:
		return err
	case answer.Count > 0 || answer.Event == nil:
		c.Print("%s cancelled", ref.word())
	default:
		c.Print("%s was already %s %s", ref.word(), answer.State, daemon.Ago(answer.Event.Time, client.Now()))
	}
	return nil
}

// withoutDispatcher appends the end to the job's chain itself where no dispatcher runs.
func (k *cancelCmd) withoutDispatcher(ctx context.Context, a *asker, ref jobRef, asked error) (jetstream.CancelAnswer, error) {
	var answer jetstream.CancelAnswer
	q, err := a.instead(ctx, asked)
	if err != nil {
		return answer, err
	}
	begun := q.Now()
	e, err := q.Cancel(ctx, ref.tenant, ref.id, by(), k.Force)
	if errors.Is(err, queue.ErrNoJob) {
		return answer, &jetstream.NotFound{Message: err.Error()}
	}
	if e.EventKind == job.Cancelled && !e.Time.Before(begun) {
		answer.Count = 1
	}
	answer.State, answer.Event = e.EventKind, &e
	return answer, err
}

// by is the name that events and conditions record for a call.
func by() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return daemon.Printable(u.Username)
	}
	return "cli"
}
