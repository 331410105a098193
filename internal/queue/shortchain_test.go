package queue_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// More jobs than one request reads, of several tenants, which were under way at the same time. The chain of some is not read by it.
func TestChainsOfManyJobsAreReadTogether(t *testing.T) {
	t.Parallel()
	ctx, nc := t.Context(), connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	const jobs = 100
	var ends []queue.JobEnd
	want, last := make([]string, jobs+1), make([]uint64, jobs)
	add := func(i int, kinds ...job.EventKind) {
		for _, kind := range kinds {
			e := jetstream.Event{EventKind: kind, Job: ends[i].Job, Tenant: ends[i].Tenant, Priority: 5}
			last[i] = must(q.Append(ctx, &e, last[i], "test", ""))
			want[i] += " " + string(kind)
		}
	}
	for i := range jobs {
		ends = append(ends, queue.JobEnd{Tenant: job.Tenant(fmt.Sprint("t", i%3)), Job: job.ID(fmt.Sprint("j", i/3))})
		add(i, job.Queued)
	}
	for i := range jobs {
		if i == 70 {
			add(i, job.Started, job.Failed, job.Retrying, job.Started)
		}
		add(i, job.Completed)
	}
	want[70] = ""
	ends = append(ends, queue.JobEnd{Tenant: "t0", Job: "unknown"})
	var got []string
	for i, chain := range q.ShortChains(ctx, ends) {
		kinds := ""
		for l := range chain {
			kinds += " " + string(chain[l].EventKind)
			if chain[l].Job != ends[i].Job || chain[l].Tenant != ends[i].Tenant {
				t.Errorf("%v has an event of %s of %s", ends[i], chain[l].Job, chain[l].Tenant)
			}
		}
		got = append(got, kinds)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if whole := must(q.Chain(ctx, ends[70].Tenant, ends[70].Job)); len(whole) != 6 {
		t.Errorf("the chain that is not read so has %d events", len(whole))
	}
}
