package queue_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// chainOf appends events of these kinds to a job's chain and gives its end.
func chainOf(tb testing.TB, q *queue.Queue, tenant job.Tenant, id job.ID, kinds ...job.EventKind) queue.JobEnd {
	tb.Helper()
	end := queue.JobEnd{Tenant: tenant, Job: id}
	for _, kind := range kinds {
		e := jetstream.Event{EventKind: kind, Job: id, Tenant: tenant, Priority: 5}
		end.Sequence = must(q.Append(tb.Context(), &e, end.Sequence, "test", ""))
	}
	return end
}

func TestTheEventsOfManyJobsAreReadFromTheirEnds(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	short := []job.EventKind{job.Queued, job.Started, job.Completed}
	long := []job.EventKind{job.Queued, job.Started, job.Failed, job.Retrying, job.Started, job.Failed, job.Dead}
	ends := []queue.JobEnd{
		chainOf(t, q, "acme", "short", short...),
		chainOf(t, q, "bolt", "short", short...),
		chainOf(t, q, "acme", "long", long...),
		chainOf(t, q, "acme", "one", job.Cancelled),
		{Tenant: "acme", Job: "unknown", Sequence: 1 << 40},
		chainOf(t, q, "acme", "other", short...),
		chainOf(t, q, "acme", "removed", short...),
		chainOf(t, q, "acme", "foreign", job.Queued, job.Started),
	}
	ends[5].Job = "another"
	ends = append(ends, queue.JobEnd{Tenant: "carl", Job: "short", Sequence: ends[0].Sequence})
	js := must(natsjs.New(nc))
	events := must(js.Stream(ctx, names.EventsStream))
	if err := events.DeleteMsg(ctx, ends[6].Sequence-1); err != nil {
		t.Fatal(err)
	}
	foreign := nats.NewMsg("comfy.append.jobs.acme.foreign.waiting") // it says that it follows the last event, and is none
	foreign.Header.Set(natsjs.ExpectedLastSubjSeqHeader, strconv.FormatUint(ends[7].Sequence, 10))
	foreign.Header.Set(natsjs.ExpectedLastSubjSeqSubjHeader, names.ChainSubject("acme", "foreign"))
	foreign.Data = []byte(`{"stream":"COMFY_JOBS","seq":3}`)
	end := jetstream.Event{EventKind: job.Completed, Job: "foreign", Tenant: "acme", Priority: 5}
	ends[7].Sequence = must(q.Append(ctx, &end, must(js.PublishMsg(ctx, foreign)).Sequence, "test", ""))
	want := [][]job.EventKind{short, short, long, {job.Cancelled}, nil, nil, nil, nil, nil}
	for i := range 100 {
		ends = append(ends, chainOf(t, q, "acme", job.ID(fmt.Sprint("many-", i)), short...))
		want = append(want, short)
	}
	got := make([][]job.EventKind, len(ends))
	for i, chain := range q.EndedChains(ctx, ends) {
		before := uint64(0)
		for _, link := range chain {
			got[i] = append(got[i], link.EventKind)
			if link.Job != ends[i].Job || link.Tenant != ends[i].Tenant || link.ChainSequence <= before || link.Stored.IsZero() {
				t.Errorf("%v has the event %+v", ends[i], link)
			}
			before = link.ChainSequence
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
