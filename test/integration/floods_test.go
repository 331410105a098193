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
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// floodTime is how long acme submits jobs while bolt floods, once for each flood; COMFYHERD_FLOOD says another, of whole seconds.
// With COMFYHERD_FLOOD_PACE each flooder rests for so long after each thing that it does.
const (
	floodTime = time.Second
	floodPace = 20 * time.Millisecond // between two jobs of acme
	flooders  = 4                     // that bolt has at once
	floodMost = 1000                  // things that each does in one floodTime
	floodRuns = 10 * time.Millisecond // that a host takes for a job, so that the hosts do not take all processors
)

// TestAFloodKeepsNobodyElsesJobsFromRunning has bolt do one thing as fast as it can, while acme submits a job now and then.
// How long acme's jobs take from their publish to their start is printed, and in which part of the way; that they all
// complete is promised. Each flood has a fleet of its own.
//
//	COMFYHERD_FLOOD=10s go test ./test/integration -run AFloodKeeps -v
func TestAFloodKeepsNobodyElsesJobsFromRunning(t *testing.T) { //nolint:paralleltest // it loads the machine, and measures
	lasts, rest := floodDuration(t, "COMFYHERD_FLOOD", floodTime), floodDuration(t, "COMFYHERD_FLOOD_PACE", 0)
	without := time.Duration(0)
	for _, flood := range floods(t) {
		t.Run(flood.name, func(t *testing.T) {
			usual, took := job.Usual, func(class string, _ map[string]any) time.Duration {
				if class == "EmptyImage" {
					return floodRuns
				}
				return 0
			}
			s := setup{dispatchers: 1, config: dispatcher.Config{MaxPriority: &usual}, foreign: true}
			for _, name := range []string{"a", "b", "c", "d"} {
				s.hosts = append(s.hosts, comfysim.Config{Name: name, JobTimeFor: took})
			}
			f := start(t, s)
			took99 := f.underFlood(lasts, rest, flood)
			if flood.do == nil {
				without = took99
			}
			t.Logf("p99 of acme's jobs rises by %v", (took99 - without).Round(time.Millisecond))
			if err := ask(f.nc, "$JS.API.STREAM.PURGE.COMFY_JOBS", nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func floodDuration(t *testing.T, variable string, usual time.Duration) time.Duration {
	t.Helper()
	set := os.Getenv(variable)
	if set == "" {
		return usual
	}
	d, err := time.ParseDuration(set)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// flood is what bolt does again and again.
type flood struct {
	name string
	most int // times in one floodTime, of all flooders: a disk has its limits, which are not what is measured here
	do   func(nc *nats.Conn, n int) error
}

// floods begin with none.
func floods(t *testing.T) []flood {
	t.Helper()
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
	lane := func(n int) string { return fmt.Sprintf("comfy.jobs.bolt.%d", n%10) }
	const most = flooders * floodMost
	return []flood{
		{"none", 0, nil},
		{"calls", most, func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.api.queue", nil) }},
		{"invalid bodies", most, func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.jobs.bolt.5", []byte("no job")) }},
		{"jobs for later", most, func(nc *nats.Conn, n int) error { return ask(nc, lane(n), due) }},
		{"jobs of priority 9", most, func(nc *nats.Conn, _ int) error { return ask(nc, "comfy.jobs.bolt.9", usually) }},
		{"large jobs", 200, func(nc *nats.Conn, n int) error { return ask(nc, lane(n), large) }},
	}
}

// ask makes a request whose answer only has to come.
func ask(nc *nats.Conn, subject string, body []byte) error {
	_, err := nc.Request(subject, body, testTimeout)
	return err
}

// underFlood submits acme's jobs while bolt floods, waits until all have completed and gives the p99 from publish to start.
func (f *fleet) underFlood(lasts, rest time.Duration, what flood) time.Duration {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.context())
	defer stop()
	watch := f.watchJobs("acme")
	var flooding sync.WaitGroup
	var done atomic.Int64
	for range flooders {
		if what.do == nil {
			break
		}
		nc, q := f.connect()
		flooding.Go(func() {
			defer nc.Close()
			defer q.Close()
			for ctx.Err() == nil {
				n := int(done.Add(1))
				if n > what.most*int(lasts/floodTime) {
					done.Add(-1)
					return
				}
				if err := what.do(nc, n); err != nil {
					f.t.Errorf("%s: %v", what.name, err)
					return
				}
				select { // no time, unless the pace is measured
				case <-time.After(rest):
				case <-ctx.Done():
				}
			}
		})
	}
	pace := time.NewTicker(floodPace)
	defer pace.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-pace.C {
		at := time.Now()
		watch.sent(f.submit("acme", job.Spec{Workflow: picture(1)}).Job, at, time.Now())
	}
	stop() // what it has left behind is still there
	flooding.Wait()
	stored, queued, started, all := watch.completed()
	f.t.Logf("flood of %-20s %6d in %v: %3d jobs of acme, publish to start p50 %v, p99 %v; until stored %v, %v; then queued %v, %v; then started %v, %v",
		what.name+":", done.Load(), lasts, len(all), share(all, 50), share(all, 99), share(stored, 50), share(stored, 99),
		share(queued, 50), share(queued, 99), share(started, 50), share(started, 99))
	return share(all, 99)
}

// share is the time that so many percent did not exceed.
func share(times []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)].Round(100 * time.Microsecond)
}

// jobWatch hears the events of a tenant on a connection of its own.
type jobWatch struct {
	f    *fleet
	mu   sync.Mutex // guards all below
	jobs map[job.ID]*jobTimes
}

// jobTimes are when things have happened to a job.
type jobTimes struct {
	sent, stored, queued, started time.Time
	end                           string
}

func (f *fleet) watchJobs(tenant job.Tenant) *jobWatch {
	f.t.Helper()
	w := &jobWatch{f: f, jobs: map[job.ID]*jobTimes{}}
	nc, err := nats.Connect(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	_, err = nc.Subscribe("comfy.events.jobs."+string(tenant)+".>", func(msg *nats.Msg) {
		token := strings.Split(msg.Subject, ".")
		kind := job.EventKind(token[5])
		w.change(job.ID(token[4]), func(x *jobTimes) {
			switch {
			case kind == job.Queued:
				x.queued = time.Now()
			case kind == job.Started:
				x.started = time.Now()
			case kind.Terminal():
				x.end = string(kind)
			}
		})
	})
	if err = errors.Join(err, nc.Flush()); err != nil {
		f.t.Fatal(err)
	}
	return w
}

func (w *jobWatch) change(id job.ID, change func(*jobTimes)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs[id] == nil {
		w.jobs[id] = &jobTimes{}
	}
	change(w.jobs[id])
}

// sent notes when a job was published and when NATS had stored it.
func (w *jobWatch) sent(id job.ID, at, stored time.Time) {
	w.change(id, func(x *jobTimes) { x.sent, x.stored = at, stored })
}

// completed waits until all jobs have, and gives how long each took from its publish until it was stored, from there until
// it was queued, from there until it was started, and in all. An event may come before the answer to the publish.
func (w *jobWatch) completed() (stored, queued, started, all []time.Duration) {
	w.f.t.Helper()
	w.f.eventually("all jobs of acme have ended", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, x := range w.jobs {
			if x.end == "" {
				return false
			}
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.jobs {
		if x.end != string(job.Completed) {
			w.f.t.Errorf("job %s of acme is %s", id, x.end)
		}
		stored = append(stored, x.stored.Sub(x.sent))
		queued = append(queued, max(0, x.queued.Sub(x.stored)))
		started = append(started, x.started.Sub(x.queued))
		all = append(all, x.started.Sub(x.sent))
	}
	return stored, queued, started, all
}
