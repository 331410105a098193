package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A large fleet as the page sees it.
const (
	manyHosts     = 1000
	manyWorkflows = 10_000
	manyBlocks    = 20_000
	manyWaiting   = 100_000
	eventRate     = 200 // a second
	watched       = 5 * time.Second
)

// TestALargeFleetStaysUsable measures the page beside the answers of a fleet of 1 000 hosts, 10 000 workflows and 100 000 waiting
// jobs, while 200 events a second are stored. It measures a machine, so it runs only when it is asked for: BROWSER_SCALE=1.
func TestALargeFleetStaysUsable(t *testing.T) { //nolint:paralleltest // it measures
	if os.Getenv("BROWSER_SCALE") == "" {
		t.Skip("measures this machine: BROWSER_SCALE=1 runs it")
	}
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()}))
	t.Cleanup(func() { _ = server.Close() })
	f := &fleet{t: t, nats: server.URL()}
	f.q = f.connect()
	f.beside(func(ctx context.Context) error {
		return f.connect().ServeAPI(ctx, queue.API{Version: "1.0.0", Calls: largeFleet()})
	})
	f.url = f.page(dashboard.Config{})
	b := f.open("about:blank")
	b.url = f.url
	f.beside(f.rain)
	for _, view := range []string{"", "jobs", "hosts", "blocks", "waiting", "workflows"} {
		b.do("leave", chromedp.Navigate("about:blank"))
		var ready, paint float64
		opened := workOf(b.traced(func() {
			b.do("open "+view, chromedp.Navigate(f.url+"#/"+view))
			b.until("the view is read", `document.querySelector('main h1') && !document.querySelector('main [aria-busy]')`)
			ready = eval[float64](b, `performance.now()`)
			b.until("something was painted", `performance.getEntriesByName('first-contentful-paint').length`)
			paint = eval[float64](b, `performance.getEntriesByName('first-contentful-paint')[0].startTime`)
		}))
		before := metrics(b)
		updates := workOf(b.traced(func() { b.do("watch", chromedp.Sleep(watched)) }))
		after := metrics(b)
		script := after["ScriptDuration"] - before["ScriptDuration"]
		all := after["TaskDuration"] - before["TaskDuration"]
		t.Logf("%-10s painted after %4.0f ms of which it had the processor for %3d ms, read after %4.0f ms; at %d events/s: script %.1f %% and all work %.1f %% of a core, longest script %3d ms, longest task %3d ms, heap %.0f MB",
			view, paint, opened.paint.Milliseconds(), ready, eventRate, 100*script/watched.Seconds(), 100*all/watched.Seconds(), updates.script.Milliseconds(), updates.task.Milliseconds(), after["JSHeapUsedSize"]/1e6)
	}
}

func metrics(b *tab) map[string]float64 {
	b.t.Helper()
	found := map[string]float64{}
	b.do("measure", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		if _, err := chromedp.Call(ctx, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}); err != nil {
			return err
		}
		got, err := chromedp.Call(ctx, performance.GetMetrics, cdp.Empty{})
		for _, m := range got.Metrics {
			found[m.Name] = m.Value
		}
		return err
	}))
	return found
}

// rain stores events of jobs that begin and end on the hosts.
func (f *fleet) rain(ctx context.Context) error {
	tick := time.NewTicker(time.Second / eventRate * 2)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		e := job.Event{EventKind: job.Started, Job: job.ID(fmt.Sprintf("rain-%d", n)), Tenant: "acme", Hash: hashNo(n % manyWorkflows), Host: hostNo(n % manyHosts), Attempt: 1, Time: time.Now()}
		last, err := f.q.Append(ctx, &e, 0, "test", "")
		if err != nil {
			continue
		}
		e.EventKind, e.Time = job.Completed, time.Now()
		_, _ = f.q.Append(ctx, &e, last, "test", "") // the next one tells whether NATS is there
	}
}

func hostNo(n int) string { return fmt.Sprintf("gpu-%04d", n) }
func hashNo(n int) workflow.Hash {
	return workflow.Hash(fmt.Sprintf("%08x%056x", n*2654435761%(1<<32), n))
}
func atPage(raw []byte) (r struct {
	After  json.RawMessage `json:"after"`
	Limit  int             `json:"limit"`
	Struck bool            `json:"struck"`
}) {
	_ = json.Unmarshal(raw, &r) // an empty request is the first page
	return r
}

// largeFleet answers as the dispatchers of such a fleet do.
func largeFleet() map[string]queue.Endpoint {
	now := time.Now()
	hosts := make([]queue.HostInfo, manyHosts)
	for i := range hosts {
		recent := make([]workflow.Hash, 8)
		for j := range recent {
			recent[j] = hashNo((i*7 + j) % manyWorkflows)
		}
		hosts[i] = queue.HostInfo{Capability: 3000, Blocks: 20, HostState: queue.HostState{
			Host: hostNo(i), State: queue.Online, Slots: 1, Recent: recent, Memory: 24 << 30, Device: "cuda:0 NVIDIA GeForce RTX 4090", Version: "0.33.0", Time: now, Labels: []string{"gpu=4090"},
		}}
	}
	blocks := make([]queue.Block, manyBlocks)
	for i := range blocks {
		blocks[i] = queue.Block{Host: route.HostID(hostNo(i / 20)), Hash: hashNo((i * 13) % manyWorkflows), Kind: "execution_error", Message: "node 10 raised ImportError", Tenants: []route.Tenant{"*"}, Until: now.Add(10 * time.Minute)}
	}
	jobs := make([]jetstream.JobRow, 500)
	waiting := make([]jetstream.WaitingRow, 500)
	flows := make([]jetstream.WorkflowRow, 500)
	for i := range jobs {
		jobs[i] = jetstream.JobRow{Job: job.ID(fmt.Sprintf("job-%d", i)), Tenant: "acme", State: job.Completed, Hash: hashNo(i), Host: hostNo(i), Last: jetstream.Mark{Time: now}, First: jetstream.Mark{Time: now}}
		waiting[i] = jetstream.WaitingRow{Place: i + 1, Job: jobs[i].Job, Tenant: "acme", Hash: hashNo(i), Received: now}
		flows[i] = jetstream.WorkflowRow{Hash: hashNo(i), Title: "sd_xl_base, image", Counts: map[job.EventKind]int{job.Completed: 10}, Last: jetstream.Mark{Time: now}}
	}
	give := func(answer any) queue.Endpoint {
		return func(context.Context, []byte) (any, error) { return answer, nil }
	}
	counts := map[job.EventKind]int{job.Queued: manyWaiting, job.Completed: 900_000, job.Started: 900}
	return map[string]queue.Endpoint{
		"overview": give(queue.OverviewAnswer{Counts: counts, Hosts: map[string]int{"online": manyHosts}, Waiting: map[string]int{"turn": manyWaiting}, Slots: queue.SlotCounts{Busy: 900, Free: 100}, Rates: []queue.Rate{}}),
		"hosts": func(_ context.Context, raw []byte) (any, error) {
			var after string
			_ = json.Unmarshal(atPage(raw).After, &after) // absent on the first page
			from := slices.IndexFunc(hosts, func(h queue.HostInfo) bool { return h.Host > after })
			page := hosts[max(from, 0):min(max(from, 0)+500, manyHosts)]
			answer := queue.HostsAnswer{Hosts: page}
			if page[len(page)-1].Host != hosts[manyHosts-1].Host {
				answer.Next = page[len(page)-1].Host
			}
			return answer, nil
		},
		"blocks": func(_ context.Context, raw []byte) (any, error) {
			if atPage(raw).Struck {
				return queue.BlocksAnswer{}, nil
			}
			var after string
			_ = json.Unmarshal(atPage(raw).After, &after) // absent on the first page
			from := 0
			if after != "" {
				_, _ = fmt.Sscan(after, &from)
			}
			answer := queue.BlocksAnswer{Blocks: blocks[from:min(from+500, manyBlocks)]}
			if from+500 < manyBlocks {
				answer.Next = fmt.Sprint(from + 500)
			}
			return answer, nil
		},
		"jobs": func(_ context.Context, raw []byte) (any, error) {
			return jetstream.JobsAnswer{Jobs: jobs[:max(1, min(atPage(raw).Limit, 500))], Next: 1, Counts: counts}, nil
		},
		"waiting":   give(jetstream.WaitingAnswer{Waiting: waiting[:100], Of: manyWaiting, Next: 100}),
		"affinity":  give(queue.AffinityAnswer{}),
		"workflows": give(jetstream.WorkflowsAnswer{Workflows: flows[:100], Next: 1}),
	}
}
