package queue_test

import (
	"iter"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAnEventIsStoredWithItsHeaders(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	for _, step := range []struct {
		id     job.ID
		kind   job.EventKind
		source string
		lease  queue.Lease
	}{{"a", job.Failed, "agent/gpu-1", "$JS.ACK.a"}, {"b", job.Queued, "dispatcher/d", ""}, {"c", job.Failed, "agent/gpu-2", "$JS.ACK.c"}} {
		e := job.Event{EventKind: step.kind, Job: step.id, Tenant: "acme", Time: time.Now()}
		if _, err := q.Append(t.Context(), &e, 0, step.source, step.lease); err != nil {
			t.Fatal(err)
		}
		next, stop := iter.Pull2(q.Notes(t.Context(), "comfy.events.jobs.acme."+string(step.id)+".*", time.Time{}))
		note, err, _ := next()
		stop()
		if err != nil {
			t.Fatal(err)
		}
		h := note.Header
		if h.Get("ce-source") != step.source || h.Get("ce-subject") != "acme/"+string(step.id) || h.Get("ce-type") != "comfy.job."+string(step.kind) {
			t.Errorf("the event of job %s has the headers %v", step.id, h)
		}
		if _, has := h[names.LeaseHeader]; has != (step.lease != "") || h.Get(names.LeaseHeader) != string(step.lease) {
			t.Errorf("the event of job %s has the lease %q, want %q", step.id, h.Get(names.LeaseHeader), step.lease)
		}
	}
}
