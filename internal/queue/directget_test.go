package queue_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// A program that may make no consumer receives the same events in the same order, also those that are stored while it reads.
func TestEventsAreFollowedWithoutAConsumer(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	writer := openOn(t, url)
	reader := openWith(t, url, queue.Config{ReadOnly: true, NoConsumers: true})
	const stored, all = 600, 700 // more than two batches before it reads
	tell := func(i int) {
		e := &job.Event{EventKind: job.Queued, Tenant: "acme", Job: job.ID(fmt.Sprint("j", i)), Time: time.Now()}
		if _, err := writer.Append(t.Context(), e, 0, "test", ""); err != nil {
			t.Error(err)
		}
	}
	for i := range stored {
		tell(i)
	}
	var sequences []uint64
	for note, err := range reader.Notes(t.Context(), "comfy.events.jobs.acme.>", time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("comfy.events.jobs.acme.j%d.queued", len(sequences)); note.Subject != want || note.Time.IsZero() || len(note.Body) == 0 {
			t.Fatalf("%+v, want %s", note, want)
		}
		sequences = append(sequences, note.Sequence)
		if len(sequences) >= 300 && len(sequences) < 300+all-stored {
			tell(stored + len(sequences) - 300) // while history is read
		}
		if len(sequences) == all {
			break
		}
	}
	if len(sequences) != all || !slices.IsSorted(sequences) {
		t.Errorf("%d of %d events, or out of order: %v", len(sequences), all, sequences)
	}
}
