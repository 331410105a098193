package main

import (
	"context"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// letter is a dead letter with the event that tells why.
type letter struct {
	queue.DeadLetter
	event jetstream.Event
	own   bool // from a call of its tenant, which gets no bodies
}

func (l *letter) priority() job.Priority {
	if l.own {
		return l.event.Priority
	}
	return l.Priority()
}

// letters finds matching dead letters, oldest first, and NATS' time. With a tenant's credentials it asks the dispatchers for
// that tenant's; else it reads the stream, which has those of all tenants.
func (f *client) letters(ctx context.Context, c *daemon.Console, which *deadFilter) ([]letter, time.Time, error) {
	if f.OwnTenant() != "" {
		a, client, err := f.asTenant(ctx, c, which.Tenant)
		if err != nil {
			return nil, time.Time{}, err
		}
		defer a.close()
		found, err := which.ask(ctx, client)
		return found, client.Now(), err
	}
	q, done, err := f.open(ctx, c)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer done()
	found, err := which.find(ctx, q)
	return found, q.Now(), err
}

// ask finds the tenant's matching letters through the dispatchers.
func (f *deadFilter) ask(ctx context.Context, client *jetstream.Client) ([]letter, error) {
	request := jetstream.DeadRequest{Job: job.ID(f.Job), Hash: workflow.Hash(f.Hash), Kind: failure.Kind(f.Kind), Reason: failure.Reason(f.Reason)}
	if since := f.Since.before(client.Now()); !since.IsZero() {
		request.Since = since.Format(time.RFC3339Nano)
	}
	var found []letter
	err := eachPage(func() (jetstream.DeadAnswer, error) { return client.Dead(ctx, request) }, func(page *jetstream.DeadAnswer) bool {
		for _, e := range page.Dead {
			e.EventKind = job.Dead
			found = append(found, letter{
				DeadLetter: queue.DeadLetter{Tenant: e.Tenant, Job: e.Job, Reason: failure.Reason(e.Reason), Time: e.Time, Event: e}, event: e, own: true,
			})
		}
		return following(&request.After, page.Next)
	})
	return found, err
}

// find reads the matching letters in the stream, oldest first.
func (f *deadFilter) find(ctx context.Context, q *queue.Queue) ([]letter, error) {
	var all []queue.DeadLetter
	err := q.DeadLetters(ctx, jetstream.Tenant(f.Tenant), f.Since.before(q.Now()), func(l queue.DeadLetter) bool {
		if (f.Job == "" || f.Job == string(l.Job)) && (f.Reason == "" || f.Reason == string(l.Reason)) {
			all = append(all, l)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	fitting := make([]letter, 0, len(all))
	for i := range all {
		e, err := deadEvent(ctx, q, &all[i])
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(e.Hash), string(f.Hash)) && (f.Kind == "" || failure.Kind(f.Kind) == e.Kind) {
			fitting = append(fitting, letter{DeadLetter: all[i], event: e})
		}
	}
	return fitting, nil
}

// deadEvent is the event in the job's chain, and once that has been deleted, the copy in the letter.
func deadEvent(ctx context.Context, q *queue.Queue, l *queue.DeadLetter) (jetstream.Event, error) {
	link, found, err := q.LastOf(ctx, l.Tenant, l.Job, job.Dead)
	if err != nil || found {
		return link.Event, err
	}
	return l.Event, nil
}
