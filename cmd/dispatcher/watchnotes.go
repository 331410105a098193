package main

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// notes gives the events that are asked for, until ctx ends: those of a tenant through the dispatchers, those of all from
// the stream. Without a dispatcher, and for a watcher, who may read but not call, a tenant's come from the stream too.
func (w *watchCmd) notes(ctx context.Context, c *daemon.Console, a *asker, tenant job.Tenant) iter.Seq2[jetstream.Note, error] {
	return func(yield func(jetstream.Note, error) bool) {
		subject := ""
		if tenant != "" {
			subject = "comfy.events.jobs." + string(tenant) + ".>"
		}
		if tenant != "" && !w.NoConsumers() {
			client := a.of(tenant)
			after, err := w.begin(ctx, client)
			if err == nil {
				client.Follow(ctx, after)(yield)
				return
			}
			if _, err := a.instead(ctx, err); err != nil {
				yield(jetstream.Note{}, err)
				return
			}
		}
		q, err := a.queue(ctx)
		if err != nil {
			yield(jetstream.Note{}, err)
			return
		}
		w.stored(ctx, c, q, subject)(yield)
	}
}

// begin is the sequence after which the events that are asked for begin.
func (w *watchCmd) begin(ctx context.Context, client *jetstream.Client) (uint64, error) {
	if w.All {
		_, err := client.Queue(ctx) // whether a dispatcher answers
		return 0, err
	}
	return client.SequenceAt(ctx, client.Now().Add(-w.Since))
}

// stored reads the stream. After a lost connection it goes on with the event after the last one.
func (w *watchCmd) stored(ctx context.Context, c *daemon.Console, q *queue.Queue, subject string) iter.Seq2[jetstream.Note, error] {
	return func(yield func(jetstream.Note, error) bool) {
		since := q.Now().Add(-w.Since)
		if w.All {
			since = time.Time{}
		}
		for last := uint64(0); ctx.Err() == nil; queue.Pause(ctx, time.Second) {
			for note, err := range q.Notes(ctx, subject, since) {
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					c.Say("dispatcher: %v; reading again", err)
					break
				}
				if note.Sequence <= last || !w.wanted(note.Subject) {
					continue
				}
				last, since = note.Sequence, note.Time
				if !yield(note, nil) {
					return
				}
			}
		}
	}
}

func (w *watchCmd) wanted(subject string) bool {
	return !w.Blocks || strings.HasPrefix(subject, "comfy.events.blocks.") || strings.HasPrefix(subject, "comfy.events.hosts.")
}
