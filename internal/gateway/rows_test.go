package gateway_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const aGraph = `{"1":{"class_type":"EmptyImage","inputs":{}}}`

// openQueue starts NATS in the process, with no dispatcher, so that only the test writes events.
func openQueue(t *testing.T) *queue.Queue {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		nc.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func TestRowsHaveAJobFromItsPublishToItsEnd(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	mine, other := gateway.FollowRows(ctx, q, "acme"), gateway.FollowRows(ctx, q, "acme")
	theirs := gateway.FollowRows(ctx, q, "bolt")
	var last uint64
	for _, step := range []struct {
		kind job.EventKind // empty: the job is published
		want string
	}{
		{"", "stored"}, {job.Queued, "queued"}, {job.Waiting, "waiting"}, {job.Started, "started 1 begun"}, {job.Failed, "failed 1 begun"},
		{job.Retrying, "retrying 1 begun"}, {job.Started, "started 2 begun"}, {job.Completed, "completed 2 begun ended"},
	} {
		if step.kind == "" {
			if _, err := q.Submit(ctx, job.Lane{Tenant: "acme", Priority: 5}, job.Spec{ID: "one", Workflow: []byte(aGraph)}); err != nil {
				t.Fatal(err)
			}
		} else {
			e := job.Event{EventKind: step.kind, Job: "one", Tenant: "acme", Priority: 5, Host: "a"}
			if step.kind == job.Started {
				e.Attempt = 1
				if last > 4 {
					e.Attempt = 2
				}
			}
			var err error
			if last, err = q.Append(ctx, &e, last, "test", ""); err != nil {
				t.Fatal(err)
			}
		}
		for name, rows := range map[string]*gateway.Rows{"mine": mine, "other": other} {
			if diff := cmp.Diff([]string{step.want}, gateway.States(ctx, t, rows)); diff != "" {
				t.Errorf("%s after %q: %s", name, step.kind, diff)
			}
		}
	}
	if got := gateway.States(ctx, t, theirs); len(got) != 0 {
		t.Errorf("another tenant sees %v", got)
	}
	late := gateway.FollowRows(ctx, q, "acme") // as after a restart
	if diff := cmp.Diff([]string{"completed 2 begun ended"}, gateway.States(ctx, t, late)); diff != "" {
		t.Error(diff)
	}
	row, err := gateway.FindForgotten(ctx, q, late, "one")
	if err != nil || row == nil || row.State != job.Completed || row.Attempt != 2 || row.Mark != last {
		t.Errorf("a job that is listed no longer is %+v, %v", row, err)
	}
	if row, err := gateway.FindForgotten(ctx, q, theirs, "one"); err != nil || row != nil {
		t.Errorf("another tenant finds %+v, %v", row, err)
	}
}

func TestASecondPublishOfAnOldIDIsNotListedForEver(t *testing.T) {
	t.Parallel()
	q := openQueue(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rows := gateway.FollowRows(ctx, q, "acme")
	e := job.Event{EventKind: job.Cancelled, Job: "one", Tenant: "acme", Priority: 5}
	if _, err := q.Append(ctx, &e, 0, "test", ""); err != nil {
		t.Fatal(err)
	}
	want(ctx, t, rows, "cancelled ended")
	gateway.ForgetEnded(rows)
	receipt, err := q.Submit(ctx, job.Lane{Tenant: "acme", Priority: 5}, job.Spec{ID: "one", Workflow: []byte(aGraph)})
	if err != nil {
		t.Fatal(err)
	}
	want(ctx, t, rows, "stored")
	gateway.Age(rows, time.Minute)
	want(ctx, t, rows, "stored") // it is, so a dispatcher may come
	if err := q.Erase(ctx, receipt.Sequence); err != nil {
		t.Fatal(err)
	}
	gateway.Age(rows, time.Minute)
	want(ctx, t, rows, "cancelled ended")
}

func want(ctx context.Context, t *testing.T, rows *gateway.Rows, states ...string) {
	t.Helper()
	if diff := cmp.Diff(states, gateway.States(ctx, t, rows)); diff != "" {
		t.Error(diff)
	}
}
