package queue_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// buried stores the letter of job one and reads it.
func buried(t *testing.T, q *queue.Queue, m job.Message, reason failure.Reason) queue.DeadLetter {
	t.Helper()
	m.Tenant = "acme"
	e := jetstream.Event{EventKind: job.Dead, Job: "one", Tenant: "acme", Reason: string(reason), Time: time.Now()}
	must(q.Bury(t.Context(), &m, &e, 0))
	return letterOf(t, q)
}

func TestADeadJobIsRequeuedUnderTheNextFreeNumber(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	body := `{"workflow":` + smallWorkflow + `}`
	d := buried(t, q, job.Message{Priority: 7, Body: []byte(body)}, failure.AttemptsExhausted)
	if d.Truncated() || d.NeedsExtraData() || d.Priority() != 7 || d.Root() != "one" || must(q.Requeued(ctx, &d)) {
		t.Errorf("the letter is %+v", d)
	}
	taken := jetstream.Event{EventKind: job.Queued, Job: "one-r1", Tenant: "acme", Time: time.Now()}
	must(q.Append(ctx, &taken, 0, "test", ""))
	r := must(q.Requeue(ctx, &d, json.RawMessage(`{"api_key":"x"}`), nil)) // it had no extra_data, so this is ignored
	if r.Job != "one-r2" || r.Tenant != "acme" || r.Sequence == 0 {
		t.Errorf("requeued as %+v", r)
	}
	stored := must(q.Stored(ctx, r.Sequence))
	if stored.Priority != 7 || stored.RequeueOf != "one" || stored.JobIDHeader != "one-r2" || string(stored.Body) != body {
		t.Errorf("stored is %+v", stored)
	}
	if must(q.Requeued(ctx, &d)) {
		t.Error("it counts as requeued before the new job has an event that says so")
	}
	again := jetstream.Event{EventKind: job.Queued, Job: "one-r2", Tenant: "acme", RequeueOf: "one", Time: time.Now()}
	must(q.Append(ctx, &again, 0, "test", ""))
	if !must(q.Requeued(ctx, &d)) {
		t.Error("it does not count as requeued")
	}
	must(0, q.Purge(ctx, &d))
	must(0, q.DeadLetters(ctx, "", time.Time{}, func(d queue.DeadLetter) bool {
		t.Errorf("left after a purge: %+v", d)
		return true
	}))
}

func TestARequeueOfARequeueCountsOn(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	m := job.Message{Priority: 5, RequeueOf: "zero", Body: []byte(`{}`)}
	e := jetstream.Event{EventKind: job.Dead, Job: "zero-r3", Tenant: "acme", Reason: string(failure.AttemptsExhausted), Time: time.Now()}
	m.Tenant = "acme"
	must(q.Bury(t.Context(), &m, &e, 0))
	d := letterOf(t, q)
	if d.Root() != "zero" {
		t.Errorf("the root of %s is %s", d.Job, d.Root())
	}
	d.Header.Set("Comfy-Lane-Priority", "10")
	if d.Priority() != job.Usual {
		t.Errorf("the priority of a letter without a valid one is %d", d.Priority())
	}
}

func TestARefusedJobCannotBeRequeued(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	d := buried(t, q, job.Message{Body: make([]byte, 5000)}, failure.InvalidJob)
	if _, err := q.Requeue(t.Context(), &d, nil, nil); !d.Truncated() || len(d.Body) != 4096 || !errors.Is(err, queue.ErrTruncated) {
		t.Errorf("%d bytes are kept, and the requeue says %v", len(d.Body), err)
	}
}

func TestAJobThatHadAKeyIsRequeuedOnlyWithExtraData(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	d := buried(t, q, job.Message{Body: []byte(`{"workflow":` + smallWorkflow + `,"extra_data":{"api_key":"secret","b,c":1}}`)}, failure.AttemptsExhausted)
	if got := d.ExtraData(); len(got) != 2 || got[0] != "api_key" || got[1] != "b_c" || !d.NeedsExtraData() {
		t.Errorf("the letter names %q", got)
	}
	for extra, want := range map[string]error{"": queue.ErrExtraData, "[]": nil, "null": nil, "{": nil} {
		if r, err := q.Requeue(ctx, &d, json.RawMessage(extra), nil); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("with extra_data %q it was requeued as %+v: %v", extra, r, err)
		}
	}
	r := must(q.Requeue(ctx, &d, json.RawMessage(`{"api_key":"new"}`), nil))
	var spec struct {
		Extra map[string]string `json:"extra_data"`
	}
	must(0, json.Unmarshal(must(q.Stored(ctx, r.Sequence)).Body, &spec))
	if spec.Extra["api_key"] != "new" {
		t.Errorf("it was requeued with %v", spec.Extra)
	}
}
