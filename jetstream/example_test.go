package jetstream_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/embedded"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A program that submits a job and follows its events. Errors are left out; Follow ends after the job's last event.
func Example() {
	url, stop := fleet()
	defer stop()

	ctx := context.Background()
	nc, _ := nats.Connect(url)
	defer nc.Close()
	q, _ := jetstream.Open(ctx, nc, jetstream.Config{})
	defer q.Close()
	r, _ := q.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: 5}, jetstream.Spec{ID: "cat-1", Workflow: []byte(workflow)})
	for e, err := range q.Follow(ctx, r.Tenant, r.Job) {
		fmt.Println(e.Job, e.EventKind, e.Host, err)
	}

	// Output:
	// cat-1 queued  <nil>
	// cat-1 started gpu-1 <nil>
	// cat-1 completed gpu-1 <nil>
}

const workflow = `{
	"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
	"9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}}
}`

// fleet starts NATS and the least that ends jobs: it takes one delivery, appends to its chain what a dispatcher and
// an agent append, and acks it. The real ones are driven by test/integration.
func fleet() (url string, stop func()) {
	dir := must(os.MkdirTemp("", "comfyherd"))
	server := must(embedded.Start(embedded.Config{Port: -1, StoreDir: dir}))
	nc := must(nats.Connect(server.URL()))
	ctx, cancel := context.WithCancel(context.Background())
	q := must(jetstream.Open(ctx, nc, jetstream.Config{}))
	var running sync.WaitGroup
	running.Go(func() { serve(ctx, q) })
	return server.URL(), func() {
		running.Wait() // for its one job
		cancel()
		q.Close()
		nc.Close()
		must(0, server.Close())
		must(0, os.RemoveAll(dir))
	}
}

func serve(ctx context.Context, q *jetstream.Queue) {
	puller := must(q.Puller(job.Usual, func(d jetstream.Delivery) {
		j := must(job.Parse(d.Message))
		last := uint64(0)
		for _, kind := range []job.EventKind{job.Queued, job.Started, job.Completed} {
			e := j.NewEvent(kind, d.Received)
			if kind != job.Queued {
				e.Host, e.Attempt = "gpu-1", 1
			}
			last = must(q.Append(ctx, &e, last, "example", ""))
		}
		must(0, q.Finish(ctx, d.Lease))
	}))
	defer puller.Close()
	must(puller.Pull(ctx, 1, time.Minute))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
