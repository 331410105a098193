package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	newestBatch = 1000
	newestReads = 20 // batches that are read for one answer
)

// NewestEvents are the last stored events of a subject since a time, at most so many, oldest first. Of a subject with very many events
// since then they are the last ones of the first 20 000.
func (q *Queue) NewestEvents(ctx context.Context, subject string, since time.Time, most int) ([]jetstream.Note, error) {
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	var found []jetstream.Note
	want := batchGet{Since: &since, Subject: subject, Batch: newestBatch}
	for range newestReads {
		last := uint64(0)
		complete, err := q.gets(ctx, answers, names.EventsStream, want, func(msg *nats.Msg) error {
			n := noteOf(msg)
			found, last = append(found, n), n.Sequence
			return nil
		})
		if found = found[max(0, len(found)-most):]; err != nil || complete || last == 0 {
			return found, wrap(err, "read the events of %s", subject)
		}
		want.Since, want.Sequence = nil, last+1
	}
	return found, nil
}
