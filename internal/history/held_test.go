package history_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/history"
	"github.com/comfyherd/comfyherd/internal/job"
)

// What a tenant's unfinished jobs are together follows every event, also of jobs that end, come twice, or are dropped.
func TestHeldIsWhatIsUnfinished(t *testing.T) {
	t.Parallel()
	f := history.New(4)
	for i, step := range []struct {
		tenant job.Tenant
		id     job.ID
		kind   job.EventKind
		bytes  int64
		want   history.Held // of acme
	}{
		{"acme", "a", job.Queued, 100, history.Held{Jobs: 1, Bytes: 100}},
		{"bolt", "a", job.Queued, 7, history.Held{Jobs: 1, Bytes: 100}},
		{"acme", "b", job.Queued, 50, history.Held{Jobs: 2, Bytes: 150}},
		{"acme", "a", job.Started, 0, history.Held{Jobs: 2, Bytes: 150}},
		{"acme", "a", job.Completed, 0, history.Held{Jobs: 1, Bytes: 50}},
		{"acme", "c", job.Dead, 0, history.Held{Jobs: 1, Bytes: 50}}, // refused
		{"acme", "d", job.Queued, 1 << 40, history.Held{Jobs: 2, Bytes: 50 + 1<<32 - 1}},
		{"acme", "b", job.Cancelled, 0, history.Held{Jobs: 1, Bytes: 1<<32 - 1}},
		{"acme", "e", job.Waiting, 0, history.Held{Jobs: 2, Bytes: 1<<32 - 1}}, // its first event is gone
		{"acme", "f", job.Queued, 1, history.Held{Jobs: 3, Bytes: 1 << 32}},
		{"acme", "g", job.Queued, 1, history.Held{Jobs: 4, Bytes: 1<<32 + 1}},
	} {
		f.Add(&history.Event{
			Tenant: step.tenant, Job: step.id, Kind: step.kind, Sequence: uint64(i + 1), Time: time.Unix(int64(i), 0), Readable: true,
			Brief: job.Brief{Priority: job.Usual, Bytes: step.bytes},
		})
		if got := f.Held("acme"); got != step.want {
			t.Errorf("after event %d: %+v, want %+v", i+1, got, step.want)
		}
	}
	f.Forget(history.Moment{Sequence: 8}) // d's event is not stored any more
	if got, want := f.Held("acme"), (history.Held{Jobs: 3, Bytes: 2}); got != want {
		t.Errorf("after the oldest were forgotten: %+v, want %+v", got, want)
	}
	if got := f.Held("nobody"); got != (history.Held{}) {
		t.Errorf("of nobody: %+v", got)
	}
}
