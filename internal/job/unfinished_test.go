package job_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// What a tenant's unfinished jobs are together follows every event, also of jobs that end, come twice, or are dropped.
func TestUnfinishedIsWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	f := job.NewFold(4)
	for i, step := range []struct {
		tenant job.Tenant
		id     job.ID
		kind   job.EventKind
		bytes  int64
		want   job.Unfinished // of acme
	}{
		{"acme", "a", job.Queued, 100, job.Unfinished{Jobs: 1, Bytes: 100}},
		{"bolt", "a", job.Queued, 7, job.Unfinished{Jobs: 1, Bytes: 100}},
		{"acme", "b", job.Queued, 50, job.Unfinished{Jobs: 2, Bytes: 150}},
		{"acme", "a", job.Started, 0, job.Unfinished{Jobs: 2, Bytes: 150}},
		{"acme", "a", job.Completed, 0, job.Unfinished{Jobs: 1, Bytes: 50}},
		{"acme", "c", job.Dead, 0, job.Unfinished{Jobs: 1, Bytes: 50}}, // refused
		{"acme", "d", job.Queued, 1 << 40, job.Unfinished{Jobs: 2, Bytes: 50 + 1<<32 - 1}},
		{"acme", "b", job.Cancelled, 0, job.Unfinished{Jobs: 1, Bytes: 1<<32 - 1}},
		{"acme", "e", job.Waiting, 0, job.Unfinished{Jobs: 2, Bytes: 1<<32 - 1}}, // its first event is gone
		{"acme", "f", job.Queued, 1, job.Unfinished{Jobs: 3, Bytes: 1 << 32}},
		{"acme", "g", job.Queued, 1, job.Unfinished{Jobs: 4, Bytes: 1<<32 + 1}},
	} {
		f.Add(&job.StoredEvent{
			Tenant: step.tenant, Job: step.id, Kind: step.kind, Sequence: uint64(i + 1), Time: time.Unix(int64(i), 0), Readable: true,
			Brief: job.Brief{Priority: job.Usual, Bytes: step.bytes},
		})
		if got := f.Unfinished("acme"); got != step.want {
			t.Errorf("after event %d: %+v, want %+v", i+1, got, step.want)
		}
	}
	f.Forget(job.Mark{Sequence: 8}) // d's event is not stored any more
	if got, want := f.Unfinished("acme"), (job.Unfinished{Jobs: 3, Bytes: 2}); got != want {
		t.Errorf("after the oldest were forgotten: %+v, want %+v", got, want)
	}
	if got := f.Unfinished("nobody"); got != (job.Unfinished{}) {
		t.Errorf("of nobody: %+v", got)
	}
}
