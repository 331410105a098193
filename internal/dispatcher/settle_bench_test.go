package dispatcher_test

import (
	"context"
	"fmt"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// BenchmarkSettle settles the first failures of jobs, which get a strike and a block each and are tried again, on NATS in
// this process over sockets.
func BenchmarkSettle(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // as the commands
	url := filesOn(b)
	q := openQueue(b, url)
	fail(b, q, jetstream.NewClient(connectTo(b, url), "acme"), b.N)
	d, err := dispatcher.New(q, dispatcher.Config{})
	if err != nil {
		b.Fatal(err)
	}
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if err := d.SettleSome(b.Context(), b.N); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "failures/s")
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/1e3/float64(b.N), "cpu-µs/failure")
}

// fail publishes jobs, and has the first attempt of each fail, all on different hosts.
func fail(b *testing.B, q *queue.Queue, c *jetstream.Client, jobs int) {
	b.Helper()
	var failing errgroup.Group
	failing.SetLimit(256)
	for i := range jobs {
		failing.Go(func() error {
			_, err := c.Submit(b.Context(), job.Usual, job.Spec{ID: job.ID(fmt.Sprint("job-", i)), Workflow: graph(1)})
			return err
		})
	}
	if err := failing.Wait(); err != nil {
		b.Fatal(err)
	}
	puller, err := q.Puller(job.Usual, func(d queue.Delivery) {
		failing.Go(func() error { return failOne(b.Context(), q, d) })
	})
	if err != nil {
		b.Fatal(err)
	}
	defer puller.Close()
	for came := 0; came < jobs; {
		n, err := puller.Pull(b.Context(), min(jobs-came, 256), time.Second)
		if err != nil {
			b.Fatal(err)
		}
		came += n
	}
	if err := failing.Wait(); err != nil {
		b.Fatal(err)
	}
}

// failOne has a job begin on a host of its own, and fail there.
func failOne(ctx context.Context, q *queue.Queue, d queue.Delivery) error {
	j, err := job.Parse(d.Message)
	if err != nil {
		return err
	}
	last, counted := uint64(0), true
	for _, kind := range []job.EventKind{job.Queued, job.Started, job.Failed} {
		e, lease := j.NewEvent(kind, time.Now()), queue.Lease("")
		if e.Sequence = j.Sequence; kind != job.Queued {
			e.Sequence, e.Host, e.Attempt = 0, fmt.Sprint("gpu-", j.Sequence), 1
		}
		if kind == job.Failed {
			e.Kind, e.Message, e.Counted, lease = failure.ExecutionError, "boom", &counted, d.Lease
		}
		if last, err = q.Append(ctx, &e, last, "bench", lease); err != nil {
			return err
		}
	}
	return nil
}
