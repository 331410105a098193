package job_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestWhatWasCancelledUnseenIsCountedWhileItsEventIsStored(t *testing.T) {
	t.Parallel()
	f := job.NewFold(4)
	for i, step := range []struct {
		tenant job.Tenant
		id     job.ID
		kind   job.EventKind
		reason string
		want   int // of acme
	}{
		{"acme", "a", job.Cancelled, "unseen", 1},
		{"bolt", "a", job.Cancelled, "unseen", 1},
		{"acme", "b", job.Queued, "", 1},
		{"acme", "b", job.Cancelled, "", 1},       // it was there
		{"acme", "c", job.Dead, "unseen", 1},      // a word that is none of dead's
		{"acme", "d", job.Cancelled, "unseen", 1}, // and a is dropped
		{"acme", "e", job.Cancelled, "unseen", 2}, // and bolt's a
		{"acme", "e", job.Completed, "", 1},       // by whoever writes an event after an end
	} {
		f.Add(&job.StoredEvent{
			Tenant: step.tenant, Job: step.id, Kind: step.kind, Sequence: uint64(i + 1), Time: time.Unix(int64(i), 0), Readable: true,
			Brief: job.Brief{Priority: job.Usual, Reason: step.reason},
		})
		if got := f.Unseen("acme"); got != step.want {
			t.Errorf("after event %d: %d, want %d", i+1, got, step.want)
		}
	}
	if bolt := f.Unseen("bolt"); bolt != 0 {
		t.Errorf("bolt: %d", bolt)
	}
	f.Forget(job.Mark{Sequence: 7}) // d's event is not stored any more
	if got := f.Unseen("acme"); got != 0 {
		t.Errorf("after the oldest were forgotten: %d", got)
	}
}
