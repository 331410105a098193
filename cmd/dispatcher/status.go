package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// statusCmd tells what a job's chain says.
type statusCmd struct {
	tenantFlags
	Job  string `arg:"" help:"Id of the job, or tenant/id."`
	JSON bool   `help:"Print one JSON object: job, tenant, state, position, of, eta, events."`
}

// Help is shown after the flags.
func (*statusCmd) Help() string {
	return `Examples:
  dispatcher status 0c1ab9c2-6d7f-4a55-9c2f-2f6f3c1b7a10
  dispatcher status acme/order-17 --json | jq -r .state`
}

// statusAnswer is what --json prints.
type statusAnswer struct {
	Job      job.ID        `json:"job"`
	Tenant   job.Tenant    `json:"tenant"`
	State    job.EventKind `json:"state"`
	Position int           `json:"position,omitempty"` // of a job that waits
	Of       int           `json:"of,omitempty"`
	ETA      *time.Time    `json:"eta,omitempty"`
	Events   []eventJSON   `json:"events"`
}

// eventJSON is an event with its kind among its fields.
type eventJSON struct {
	Kind job.EventKind `json:"event"`
	*job.Event
}

// Run prints the story.
func (s *statusCmd) Run(ctx context.Context, c *daemon.Console) error {
	ref, err := s.ref(s.Job)
	if err != nil {
		return err
	}
	a, err := s.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	client := a.of(ref.tenant)
	status, err := client.Status(ctx, ref.id)
	if err != nil {
		status, err = alone(ctx, c, a, ref, err)
	}
	if _, missing := errors.AsType[*jetstream.NotFound](err); missing {
		return ref.missing()
	}
	if err != nil {
		return err
	}
	answer := answerOf(&status)
	if s.JSON {
		return c.JSON(answer)
	}
	return answer.tell(c, client.Now())
}

// alone reads the job's chain itself where no dispatcher runs. The job's place in the queue is missing then: only dispatchers know
// it.
func alone(ctx context.Context, c *daemon.Console, a *asker, ref jobRef, asked error) (jetstream.JobStatus, error) {
	status := jetstream.JobStatus{Job: ref.id, Tenant: ref.tenant}
	q, err := a.instead(ctx, asked)
	if err != nil {
		return status, err
	}
	chain, err := q.Chain(ctx, ref.tenant, ref.id)
	if err != nil {
		return status, err
	}
	if len(chain) == 0 {
		return status, &jetstream.NotFound{}
	}
	for i := range chain {
		status.Events = append(status.Events, queue.RowOf(&chain[i]))
	}
	status.State = chain[len(chain)-1].EventKind
	if !status.State.Terminal() {
		c.Say("dispatcher: %v", asked)
	}
	return status, nil
}

func answerOf(s *jetstream.JobStatus) *statusAnswer {
	answer := &statusAnswer{Job: s.Job, Tenant: s.Tenant, State: s.State, Position: s.Position, Of: s.Of, ETA: s.ETA}
	for i := range s.Events {
		answer.Events = append(answer.Events, eventJSON{Kind: s.Events[i].Event.EventKind, Event: &s.Events[i].Event})
	}
	return answer
}

func (a *statusAnswer) tell(c *daemon.Console, now time.Time) error {
	first, last := a.Events[0].Event, a.Events[len(a.Events)-1].Event
	c.Print("job %s of tenant %s, priority %d, workflow %s", a.Job, a.Tenant, first.Priority, first.Hash.Short())
	rows := [][]string{{"AFTER", "WHAT", "HOST", "WHY"}}
	for i := range a.Events {
		e := a.Events[i].Event
		rows = append(rows, []string{daemon.Span(e.Time.Sub(first.Time)), string(e.EventKind), e.Host, daemon.EventDetails(e, e.Time)})
	}
	if err := c.Table(rows); err != nil {
		return err
	}
	c.Print("%s", a.now(last, now))
	if len(last.Attempts) > 0 {
		c.Print("attempts:")
		if err := attempts(c, last); err != nil {
			return err
		}
	}
	if err := hostsSay(c, last.Hosts); err != nil {
		return err
	}
	return outputs(c, last)
}

// now is where the job is at this moment.
func (a *statusAnswer) now(last *job.Event, now time.Time) string {
	text := fmt.Sprintf("%s %s", last.EventKind, daemon.Ago(last.Time, now))
	switch {
	case last.EventKind == job.Started:
		text = fmt.Sprintf("running on %s for %s", last.Host, daemon.Span(now.Sub(last.Time)))
	case !last.EventKind.Terminal() && a.Position > 0:
		text = fmt.Sprintf("waiting, place %d of %d", a.Position, a.Of)
		if a.ETA != nil {
			text += ", about to start " + daemon.In(*a.ETA, now)
		}
	}
	return text
}
