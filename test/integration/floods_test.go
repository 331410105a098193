package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// floodTime is how long acme submits jobs while bolt floods, once for each flood; COMFYHERD_FLOOD says another, of whole seconds.
const (
	floodTime = time.Second
	floodPace = 20 * time.Millisecond // between two jobs of acme
	flooders  = 4                     // that bolt has at once
	floodMost = 1000                  // things that each does in one floodTime
)

// TestAFloodKeepsNobodyElsesJobsFromRunning has bolt do one thing as fast as it can, while acme submits a job now and then.
// How long acme's jobs take from their publish to their start is printed; that they all complete is promised.
//
//	COMFYHERD_FLOOD=10s go test ./test/integration -run AFlood -v
func TestAFloodKeepsNobodyElsesJobsFromRunning(t *testing.T) { //nolint:paralleltest // it loads the machine, and measures
	lasts := floodTime
	if set := os.Getenv("COMFYHERD_FLOOD"); set != "" {
		var err error
		if lasts, err = time.ParseDuration(set); err != nil {
			t.Fatal(err)
		}
	}
	usual := job.Usual
	f := start(t, setup{
		dispatchers: 1, config: dispatcher.Config{MaxPriority: &usual}, foreign: true,
		hosts: []comfysim.Config{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}},
	})
	body := func(edit func(*job.Spec)) []byte {
		spec := job.Spec{Workflow: picture(2)}
		edit(&spec)
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	later := time.Now().Add(24 * 365 * time.Hour)
	usually := body(func(*job.Spec) {})
	due := body(func(s *job.Spec) { s.RunAt = &later })
	large := append(bytes.Repeat([]byte(" "), 1<<20-len(due)), due...)
	without := f.underFlood("none", lasts, nil)
	for _, flood := range []struct {
		name string
		do   func(nc *nats.Conn, n int) error
	}{
		{"calls", func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.api.queue", nil) }},
		{"invalid bodies", func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.jobs.bolt.5", []byte("no job")) }},
		{"jobs for later", func(nc *nats.Conn, n int) error { return ask(nc, fmt.Sprintf("comfy.jobs.bolt.%d", n%10), due) }},
		{"jobs of priority 9", func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.jobs.bolt.9", usually) }},
		{"large jobs", func(nc *nats.Conn, n int) error {
			if n >= 200*int(lasts/floodTime) { // a disk has its limits, which are not what is measured here
				return ask(nc, "comfy.api.queue", nil)
			}
			return ask(nc, fmt.Sprintf("comfy.jobs.bolt.%d", n%10), large)
		}},
	} {
		took := f.underFlood(flood.name, lasts, flood.do)
		t.Logf("  p99 of acme's jobs rises by %v", (took - without).Round(time.Millisecond))
		if err := ask(f.nc, "$JS.API.STREAM.PURGE.COMFY_JOBS", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// ask makes a request whose answer only has to come.
func ask(nc *nats.Conn, subject string, body []byte) error {
	_, err := nc.Request(subject, body, patience)
	return err
}

// underFlood submits acme's jobs while bolt floods, waits until all have completed and gives the p99 from publish to start.
func (f *fleet) underFlood(name string, lasts time.Duration, flood func(nc *nats.Conn, n int) error) time.Duration {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.context())
	defer stop()
	watch := f.watchJobs("acme")
	var flooding sync.WaitGroup
	done := make([]int, flooders)
	for k := range flooders {
		if flood == nil {
			break
		}
		nc, q := f.connect()
		flooding.Go(func() {
			defer nc.Close()
			defer q.Close()
			for ; ctx.Err() == nil && done[k] < floodMost*int(lasts/floodTime); done[k]++ {
				if err := flood(nc, k+flooders*done[k]); err != nil {
					f.t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	sent := map[job.ID]time.Time{}
	pace := time.NewTicker(floodPace)
	defer pace.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-pace.C {
		at := time.Now()
		sent[f.submit("acme", job.Spec{Workflow: picture(1)}).Job] = at
	}
	stop() // what it has left behind is still there
	flooding.Wait()
	times := watch.completed(sent)
	slices.Sort(times)
	sum := 0
	for _, n := range done {
		sum += n
	}
	p99 := times[min(len(times)*99/100, len(times)-1)]
	f.t.Logf("flood of %-20s %6d in %v: %3d jobs of acme, publish to start p50 %v, p99 %v", name+":", sum, lasts, len(times),
		times[len(times)/2].Round(100*time.Microsecond), p99.Round(100*time.Microsecond))
	return p99
}

// jobWatch hears the events of a tenant on a connection of its own.
type jobWatch struct {
	f      *fleet
	mu     sync.Mutex // guards all below
	starts map[job.ID]time.Time
	ends   map[job.ID]string
}

func (f *fleet) watchJobs(tenant job.Tenant) *jobWatch {
	f.t.Helper()
	w := &jobWatch{f: f, starts: map[job.ID]time.Time{}, ends: map[job.ID]string{}}
	nc, err := nats.Connect(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	_, err = nc.Subscribe("comfy.events.jobs."+string(tenant)+".>", func(msg *nats.Msg) {
		token := strings.Split(msg.Subject, ".")
		id, kind := job.ID(token[4]), token[5]
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case kind == string(job.Started):
			w.starts[id] = time.Now()
		case job.EventKind(kind).Terminal():
			w.ends[id] = kind
		}
	})
	if err = errors.Join(err, nc.Flush()); err != nil {
		f.t.Fatal(err)
	}
	return w
}

// completed waits until all jobs have, and gives the time that each took from when it was sent to its start.
func (w *jobWatch) completed(sent map[job.ID]time.Time) []time.Duration {
	w.f.t.Helper()
	var times []time.Duration
	w.f.eventually("all jobs of acme have ended", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for id := range sent {
			if w.ends[id] == "" {
				return false
			}
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, at := range sent {
		if w.ends[id] != string(job.Completed) {
			w.f.t.Errorf("job %s of acme is %s", id, w.ends[id])
		}
		times = append(times, w.starts[id].Sub(at))
	}
	return times
}
