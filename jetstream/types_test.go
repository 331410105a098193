package jetstream_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestEveryKindOfEventHasAName(t *testing.T) {
	t.Parallel()
	names := []jetstream.EventKind{
		jetstream.JobQueued, jetstream.JobWaiting, jetstream.JobStarted, jetstream.JobFailed, jetstream.JobRetrying, jetstream.JobCompleted,
		jetstream.JobDead, jetstream.JobCancelled,
	}
	if diff := cmp.Diff(job.EventKinds(), names); diff != "" {
		t.Errorf("the names differ from the closed set:\n%s", diff)
	}
}
