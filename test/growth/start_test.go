package growth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	startHashes = 200
	startLimit  = 15 * time.Second // for a million tickets
)

// TestADispatcherStartsBesideTickets measures how long a dispatcher takes until it is ready when START_TICKETS jobs wait, and demands of
// a million that it is 15 s at most.
func TestADispatcherStartsBesideTickets(t *testing.T) {
	t.Parallel()
	tickets := 2000
	if text := os.Getenv("START_TICKETS"); text != "" {
		var err error
		if tickets, err = strconv.Atoi(text); err != nil {
			t.Fatalf("START_TICKETS: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	url := startNATS(t)
	fillWaitingRoom(ctx, t, url, tickets)
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: url, Name: "start"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{LaneCap: tickets})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	metrics := prometheus.NewRegistry()
	d, err := dispatcher.New(q, dispatcher.Config{Name: "start", WaitingCap: 2 * tickets, Registerer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	over := make(chan error, 1)
	begun := time.Now()
	go func() { over <- d.Run(running, running) }()
	for ready, why := d.Ready(); !ready; ready, why = d.Ready() {
		if !queue.Pause(ctx, 5*time.Millisecond) {
			t.Fatal(why)
		}
	}
	took := time.Since(begun)
	for known := 0; known < tickets-readyTaken; known = waitingJobs(t, metrics) {
		if !queue.Pause(ctx, 20*time.Millisecond) {
			t.Fatalf("%d of %d tickets are known", known, tickets)
		}
	}
	stop()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tickets: ready after %s", tickets, took)
	if tickets >= 1_000_000 && took > startLimit {
		t.Errorf("beside %d tickets a dispatcher was ready after %s, want at most %s", tickets, took, startLimit)
	}
}

// readyTaken is how many jobs a dispatcher that is ready may have taken in hand, which then do not count as waiting.
const readyTaken = 640

// waitingJobs is a metric that the dispatcher updates once a second.
func waitingJobs(t *testing.T, metrics *prometheus.Registry) int {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "comfyherd_mirror_tickets" {
			return int(family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}

// fillWaitingRoom stores jobs, and a ticket for each of them.
func fillWaitingRoom(ctx context.Context, t *testing.T, url string, tickets int) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{LaneCap: tickets})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	js, err := nc.JetStream(nats.PublishAsyncMaxPending(4096), nats.PublishAsyncErrHandler(
		func(_ nats.JetStream, msg *nats.Msg, err error) { t.Errorf("publish to %s: %v", msg.Subject, err) }))
	if err != nil {
		t.Fatal(err)
	}
	send := func(msg *nats.Msg) {
		if _, err := js.PublishMsgAsync(msg, nats.StallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range tickets { // on one connection, so that the i-th has the sequence i+1
		send(&nats.Msg{Subject: "comfy.jobs.acme.5", Data: startBody(i), Header: nats.Header{names.JobIDHeader: {startID(i)}}})
	}
	for i := range tickets {
		x := queue.Ticket{
			Priority: 5, Tenant: "acme", Hash: parsed(t, i%startHashes).Graph.Hash(), Sequence: uint64(i) + 1, Job: job.ID(startID(i)),
			Lease:   queue.Lease(fmt.Sprintf("$JS.ACK.COMFY_JOBS.dispatch_5.1.%d.%d.1767225600000000000.0", i+1, i+1)),
			Attempt: 1, Size: 1048576, Received: time.Now().UTC(),
		}
		value, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		send(&nats.Msg{Subject: names.KeySubject(names.WaitingBucket, x.Key()), Data: value})
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

func startID(i int) string { return "s-" + strconv.Itoa(i) }

// startBody is a job of one of startHashes workflows.
func startBody(i int) []byte {
	return fmt.Appendf(nil, `{"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"model-%d.safetensors"}},`+
		`"9":{"class_type":"SaveImage","inputs":{"images":["4",0],"filename_prefix":"out"}}}`, i%startHashes)
}

func parsed(t *testing.T, i int) *job.Job {
	t.Helper()
	j, err := job.Parse(job.Message{Tenant: "acme", Priority: 5, Sequence: 1, JobIDHeader: startID(i), Body: startBody(i)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}
