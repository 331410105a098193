package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// JetStream sends its answer to a publish to the subject that the publisher names. In the chain of a job, of another tenant or of
// the future, it must not count as an event.
func TestAnAnswerOfJetStreamInAChainEndsNoJob(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	js := must(natsjs.New(nc))
	answer := func() uint64 {
		return must(js.Publish(ctx, "comfy.append.jobs.acme.one.cancelled", []byte(`{"stream":"COMFY_JOBS","seq":3}`))).Sequence
	}
	first := answer()
	link, found, err := q.Last(ctx, "acme", "one")
	if err != nil || found || link.ChainSequence != first {
		t.Errorf("before the job the chain ends with %+v, %t, %v", link, found, err)
	}
	if chain, err := q.Chain(ctx, "acme", "one"); err != nil || len(chain) != 0 {
		t.Errorf("the chain is %+v, %v", chain, err)
	}
	e := jetstream.Event{EventKind: job.Queued, Job: "one", Tenant: "acme", Priority: 5, Sequence: 1, Time: time.Now()}
	if _, err := q.Append(ctx, &e, link.ChainSequence, "test", ""); err != nil {
		t.Fatal(err)
	}
	second := answer()
	link, found, err = q.Last(ctx, "acme", "one")
	if err != nil || !found || link.EventKind != job.Queued || link.ChainSequence != second {
		t.Errorf("the chain ends with %+v, %t, %v", link, found, err)
	}
	if _, found, err := q.LastOf(ctx, "acme", "one", job.Cancelled); found || err != nil {
		t.Errorf("it was cancelled: %t, %v", found, err)
	}
	e.EventKind = job.Completed
	if _, err := q.Append(ctx, &e, link.ChainSequence, "test", ""); err != nil {
		t.Fatal(err)
	}
	var kinds []job.EventKind
	for e, err := range q.Follow(ctx, "acme", "one") {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.EventKind)
	}
	if diff := cmp.Diff([]job.EventKind{job.Queued, job.Completed}, kinds); diff != "" {
		t.Error(diff)
	}
	answer()
	if e, err := q.Cancel(ctx, "acme", "one", "test", false); err != nil || e.EventKind != job.Completed {
		t.Errorf("a cancel finds %s, %v", e.EventKind, err)
	}
}
