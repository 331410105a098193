package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestACancelledJobSaysWhereItRanAndWhatItWas(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	started := jetstream.Event{
		EventKind: job.Started, Job: "one", Tenant: "acme", Priority: 7, Hash: aHash, Host: "gpu", Attempt: 2, Time: time.Now(),
		Metadata: []byte(`{"a":1}`), RequeueOf: "zero",
	}
	last := must(q.Append(ctx, &started, 0, "test", ""))
	spared, ended, err := q.End(ctx, "acme", "one", queue.Cancelling{By: "ann", Spare: true})
	if ended || err != nil || spared.EventKind != job.Started {
		t.Errorf("a running job that was to be spared: %+v, ended %t, %v", spared, ended, err)
	}
	want := started
	want.EventKind, want.By = job.Cancelled, "ann"
	got, ended, err := q.End(ctx, "acme", "one", queue.Cancelling{By: "ann"})
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(want, "Time")); diff != "" || !ended || err != nil {
		t.Errorf("ended %t, %v: %s", ended, err, diff)
	}
	again, ended, err := q.End(ctx, "acme", "one", queue.Cancelling{By: "bob"})
	if ended || err != nil || again.By != "ann" {
		t.Errorf("cancelled again: %+v, ended %t, %v", again, ended, err)
	}
	link, found, err := q.LastOf(ctx, "acme", "one", job.Started)
	if !found || err != nil || link.ChainSequence != last {
		t.Errorf("its last start: %+v, found %t, %v", link, found, err)
	}
	for _, id := range []job.ID{"", "a.b", "two"} {
		if link, found, err := q.LastOf(ctx, "acme", id, job.Started); found || err != nil || link.ChainSequence != 0 {
			t.Errorf("the last start of job %q: %+v, found %t, %v", id, link, found, err)
		}
	}
	if _, found, err := q.LastOf(ctx, "a.b", "one", job.Started); found || err != nil {
		t.Errorf("of a tenant that cannot be: found %t, %v", found, err)
	}
}

func TestAJobThatWasNeverSeenIsCancelledOnlyByForce(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	if e, err := q.Cancel(ctx, "acme", "one", "ann", false); err == nil || e.Job != "" {
		t.Errorf("without force: %+v, %v", e, err)
	}
	unseen := must(q.Cancel(ctx, "acme", "one", "ann", true))
	if unseen.Reason != job.Unseen || unseen.Priority != job.Usual {
		t.Errorf("with force: %+v", unseen)
	}
	stored, _, err := q.End(ctx, "acme", "two", queue.Cancelling{Force: true, Stored: true, Priority: 9})
	if err != nil || stored.Reason != "" || stored.Priority != 9 {
		t.Errorf("of a job that is stored and has no events: %+v, %v", stored, err)
	}
}
