package jetstream_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A program that submits a job and follows its events. FollowMany ends after the last event of the last job. Errors are left out.
func Example() {
	url, stop := fleet(1)
	defer stop()

	ctx := context.Background()
	nc, _ := nats.Connect(url)
	defer nc.Close()
	acme := jetstream.NewClient(nc, "acme")
	receipt, _ := acme.Submit(ctx, 5, jetstream.Spec{ID: "cat-1", Workflow: []byte(workflow)})
	for e, err := range acme.FollowMany(ctx, []jetstream.ID{receipt.Job}) {
		fmt.Println(e.Job, e.EventKind, e.Host, err)
	}

	// Output:
	// cat-1 queued  <nil>
	// cat-1 started gpu-1 <nil>
	// cat-1 completed gpu-1 <nil>
}

// A program that submits jobs and follows all of them on one subscription.
func ExampleClient_FollowMany() {
	url, stop := fleet(3)
	defer stop()

	ctx := context.Background()
	nc, _ := nats.Connect(url)
	defer nc.Close()
	acme := jetstream.NewClient(nc, "acme")
	var ids []jetstream.ID
	for n := range 3 {
		r, _ := acme.Submit(ctx, 5, jetstream.Spec{ID: jetstream.ID(fmt.Sprint("cat-", n)), Workflow: []byte(workflow)})
		ids = append(ids, r.Job)
	}
	for e, err := range acme.FollowMany(ctx, ids) {
		if err != nil || e.EventKind == jetstream.JobCompleted {
			fmt.Println(e.Job, e.EventKind, err)
		}
	}

	// Unordered output:
	// cat-0 completed <nil>
	// cat-1 completed <nil>
	// cat-2 completed <nil>
}

const workflow = `{
	"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
	"9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}}
}`

// fleet starts NATS and a minimal stand-in for dispatcher and agent: it takes deliveries of as many jobs as given, appends the
// events that a dispatcher and an agent append, acks them, and answers the call events. test/integration uses the real ones.
func fleet(jobs int) (url string, stop func()) {
	dir := must(os.MkdirTemp("", "comfyherd"))
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir}))
	nc := must(nats.Connect(server.URL()))
	ctx, cancel := context.WithCancel(context.Background())
	q := must(queue.Open(ctx, nc, queue.Config{}))
	var running, answers sync.WaitGroup
	if jobs > 0 {
		running.Go(func() { serve(ctx, q, jobs) })
		answers.Go(func() {
			_ = q.ServeAPI(ctx, queue.API{Version: "1.0.0", TenantCalls: map[string]queue.TenantEndpoint{"events": queue.TenantJSON(q.EventsPage)}})
		})
		awaitCalls(nc, 1)
	}
	return server.URL(), func() {
		running.Wait() // for its jobs
		cancel()
		answers.Wait()
		q.Close()
		nc.Close()
		must(0, server.Close())
		must(0, os.RemoveAll(dir))
	}
}

func serve(ctx context.Context, q *queue.Queue, jobs int) {
	puller := must(q.Puller(job.Usual, func(d queue.Delivery) {
		j := must(job.Parse(d.Message))
		last := uint64(0)
		for _, kind := range []job.EventKind{job.Queued, job.Started, job.Completed} {
			e := j.NewEvent(kind, d.Received)
			if kind != job.Queued {
				e.Host, e.Attempt = "gpu-1", 1
			}
			last = must(q.Append(ctx, &e, last, "example", ""))
		}
		must(0, q.FinishSoon(d.Lease))
	}))
	defer puller.Close()
	must(puller.Pull(ctx, jobs, time.Minute))
}
