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
	Jobs  []string `arg:"" optional:"" name:"job" help:"Ids of jobs, or tenant/id."`
	Lane  *int     `placeholder:"0-9" help:"All jobs of the tenant that wait in the lane of this priority."`
	All   bool     `help:"All jobs of the tenant that wait."`
	Yes   bool     `short:"y" help:"Do not ask."`
	Force bool     `help:"Also cancel an id that was never seen: a job that comes with it later ends at once."`
}

// Help is shown after the flags.
func (*cancelCmd) Help() string {
	return `Waiting jobs never start, running ones are stopped by id on their host. A job that has ended already stays as it
ended, which is told and is no error. --lane and --all leave running jobs alone.

Examples:
  dispatcher cancel order-17 order-18 --tenant acme
  dispatcher cancel --lane 0 --tenant acme --yes
  dispatcher cancel --all
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
		return k.waiting(ctx, c, a.of(tenant))
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
		return errors.New("cancel needs to know which; name jobs, or give --lane, or --all")
	case k.Lane != nil && !job.Priority(*k.Lane).Valid():
		return fmt.Errorf("--lane %d does not exist; use a priority of 0 (last) to 9 (first)", *k.Lane)
	case k.Force && len(k.Jobs) == 0:
		return errors.New("--force is about a job that is still to come; name it")
	}
	return nil
}

// waiting cancels what waits in a lane or in all of them.
func (k *cancelCmd) waiting(ctx context.Context, c *daemon.Console, client *jetstream.Client) error {
	what := fmt.Sprintf("all waiting jobs of tenant %s", client.Tenant())
	request := jetstream.CancelRequest{All: k.All, By: by()}
	if k.Lane != nil {
		p := job.Priority(*k.Lane)
		request.Lane = &p
		what = fmt.Sprintf("all waiting jobs of tenant %s, priority %d", client.Tenant(), p)
	}
	if err := c.Confirm("cancel "+what, k.Yes); err != nil {
		return err
	}
	for ended := 0; ; { // a page at a time
		answer, err := client.Cancel(ctx, request)
		if ended += answer.Count; err != nil && ended == 0 {
			return err
		} else if err != nil {
			return fmt.Errorf("%s cancelled, then: %w; the command can be repeated", daemon.Plural(ended, "job"), err)
		}
		if request.After = answer.Next; answer.Next == 0 {
			c.Print("%s cancelled", daemon.Plural(ended, "job"))
			return nil
		}
	}
}

func (k *cancelCmd) cancel(ctx context.Context, c *daemon.Console, a *asker, ref jobRef) error {
	client := a.of(ref.tenant)
	answer, err := client.Cancel(ctx, jetstream.CancelRequest{Job: ref.id, Force: k.Force, By: by()})
	if err != nil {
		answer, err = k.alone(ctx, a, ref, err)
	}
	_, missing := errors.AsType[*jetstream.NotFound](err)
	switch {
	case missing:
		return fmt.Errorf("tenant %s has no job %s; --tenant says whose it is, and --force cancels one that is still to come", ref.tenant, ref.id)
	case err != nil:
		return err
	case answer.Count > 0 || answer.Event == nil:
		c.Print("%s cancelled", ref.word())
	default:
		c.Print("%s was already %s %s", ref.word(), answer.State, daemon.Ago(answer.Event.Time, client.Now()))
	}
	return nil
}

// alone appends the end to the job's chain itself where no dispatcher runs.
func (k *cancelCmd) alone(ctx context.Context, a *asker, ref jobRef, asked error) (jetstream.CancelAnswer, error) {
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

// by is who gives an order, as events and conditions tell it.
func by() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return daemon.Printable(u.Username)
	}
	return "cli"
}
