package jetstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A tenant's program, which needs no NATS permissions but those for its own subjects: it submits a job, cancels it and asks for its
// status. Errors are left out.
func ExampleClient() {
	nc, stop := answering()
	defer stop()

	ctx := context.Background()
	acme := jetstream.NewClient(nc, "acme")
	r, _ := acme.Submit(ctx, 5, jetstream.Spec{ID: "cat-1", Workflow: []byte(workflow)})
	answer, _ := acme.Cancel(ctx, jetstream.CancelRequest{Job: r.Job, Force: true, By: "ann"})
	fmt.Println(answer.Job, answer.State, "by", answer.Event.By)
	status, _ := acme.Status(ctx, r.Job)
	fmt.Println(status.State, "after", len(status.Events), "event")

	// Output:
	// cat-1 cancelled by ann
	// cancelled after 1 event
}

// All waiting jobs of a tenant are cancelled, page by page.
func ExampleClient_Cancel() {
	nc, stop := answering()
	defer stop()

	ctx := context.Background()
	acme := jetstream.NewClient(nc, "acme")
	for n := range 5 {
		_, _ = acme.Submit(ctx, 5, jetstream.Spec{ID: jetstream.ID(fmt.Sprint("cat-", n)), Workflow: []byte(workflow)})
	}
	for request := (jetstream.CancelRequest{All: true, Limit: 2}); ; {
		answer, _ := acme.Cancel(ctx, request)
		fmt.Println(answer.Count, "cancelled")
		if request.After = answer.Next; answer.Next == 0 {
			break
		}
	}

	// Output:
	// 2 cancelled
	// 2 cancelled
	// 1 cancelled
}

// The outputs of a job that has completed are written into a folder. Errors are left out.
func ExampleClient_OpenFile() {
	ctx := context.Background()
	nc, _ := nats.Connect(nats.DefaultURL)
	defer nc.Close()
	acme := jetstream.NewClient(nc, "acme")
	status, _ := acme.Status(ctx, "cat-1")
	if status.State != jetstream.JobCompleted {
		return
	}
	for n, output := range status.Event.Outputs {
		if output.Object == "" { // a short text, in output.Text
			continue
		}
		body, _, _ := acme.OpenFile(ctx, output.Object, 0)
		file, _ := os.Create(filepath.Join("pictures", fmt.Sprint(n, path.Ext(output.Filename))))
		_, _ = io.Copy(file, body) // its last read fails when the bytes do not match the file's digest
		_ = file.Close()
		_ = body.Close()
	}
}

// answering starts NATS and a minimal stand-in for a dispatcher that answers status and cancel. test/integration uses the real one.
func answering() (*nats.Conn, func()) {
	url, stopFleet := fleet(0)
	nc := must(nats.Connect(url))
	ctx, cancel := context.WithCancel(context.Background())
	q := must(queue.Open(ctx, nc, queue.Config{}))
	var running sync.WaitGroup
	running.Go(func() {
		_ = q.ServeAPI(ctx, queue.API{Version: "1.0.0", TenantCalls: map[string]queue.TenantEndpoint{
			"status": queue.TenantJSON(func(ctx context.Context, tenant job.Tenant, r jetstream.StatusRequest) (s jetstream.JobStatus, err error) {
				for _, link := range must(q.Chain(ctx, tenant, r.Job)) {
					s.State, s.Event, s.Events = link.EventKind, link.Event, append(s.Events, queue.RowOf(&link))
				}
				return s, nil
			}),
			"cancel": queue.TenantJSON(func(ctx context.Context, tenant job.Tenant, r jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
				return cancelled(ctx, q, tenant, r)
			}),
		}})
	})
	awaitCalls(nc, 2)
	return nc, func() {
		cancel()
		running.Wait()
		q.Close()
		nc.Close()
		stopFleet()
	}
}

// awaitCalls returns when a service with n calls answers.
func awaitCalls(nc *nats.Conn, n int) {
	var info struct{ Endpoints []any }
	for len(info.Endpoints) < n {
		if msg, err := nc.Request("$SRV.INFO.comfy-dispatcher", nil, time.Minute); err == nil {
			must(0, json.Unmarshal(msg.Data, &info))
		}
	}
}

func cancelled(ctx context.Context, q *queue.Queue, tenant job.Tenant, r jetstream.CancelRequest) (a jetstream.CancelAnswer, err error) {
	how := queue.Cancelling{By: r.By, Force: true, Priority: job.Usual}
	if r.Job != "" {
		e, _, err := q.End(ctx, tenant, r.Job, how)
		return jetstream.CancelAnswer{Job: r.Job, State: e.EventKind, Event: &e, Count: 1}, err
	}
	for a.Count < r.Limit {
		m, found, err := q.NextStored(ctx, tenant, r.Lane, r.After)
		if err != nil || !found {
			a.Next = 0
			return a, err
		}
		r.After = m.Sequence
		must(0, func() error { _, _, err := q.End(ctx, tenant, job.ID(m.JobIDHeader), how); return err }())
		a.Count, a.Next = a.Count+1, m.Sequence
	}
	return a, nil
}
