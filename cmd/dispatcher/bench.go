package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/comfyherd/comfyherd/internal/bench"
)

// benchCmd measures the queue.
type benchCmd struct {
	Jobs        int           `default:"10000" help:"Jobs to run (${default})."`
	Payload     int           `default:"2048" help:"Bytes of a job (${default})."`
	Hosts       int           `default:"100" help:"Hosts (${default})."`
	Slots       int           `default:"1" help:"Slots of each host (${default})."`
	Tenants     int           `default:"4" help:"Tenants (${default})."`
	Hashes      int           `default:"8" help:"Different workflows (${default})."`
	Dispatchers int           `default:"2" help:"Dispatchers (${default})."`
	FailureRate float64       `default:"0" help:"Share of attempts that fail, 0 to 0.9."`
	Rate        float64       `placeholder:"JOBS/S" help:"Publish so many jobs a second instead of all at once."`
	HostTime    time.Duration `placeholder:"DURATION" help:"How long a host takes for a job (0s)."`
	Comfy       bool          `help:"Simulated ComfyUI over sockets instead of a host in this process."`
	NATSURL     string        `name:"nats-url" env:"NATS_URL" placeholder:"URL" help:"A NATS on this machine instead of an embedded one; streams stay behind in it."`
	StoreDir    string        `type:"path" placeholder:"DIR" help:"Where the embedded NATS keeps its data (a temporary folder)."`
	Sync        string        `placeholder:"always|DURATION" help:"How often the embedded NATS syncs its data to disk (2m)."`
	Compression bool          `help:"Compress the streams (S2)."`
	NoBare      bool          `help:"Do not measure the raw limit of NATS."`
	JSON        bool          `help:"Print one JSON object on standard output."`
}

// Help is shown after the flags.
func (*benchCmd) Help() string {
	return `The raw limit is measured in the same run: the same messages (publish, deliver, three chained events, ack) with
bare nats.go and nothing else.

Examples:
  dispatcher bench
  dispatcher bench --jobs 10000 --hosts 100 --dispatchers 2 --json
  dispatcher bench --jobs 500 --rate 100 --hosts 20            latency at a moderate load
  dispatcher bench --comfy --hosts 4 --jobs 400 --host-time 100ms`
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context, c *console) error {
	always, every, err := syncPolicy(b.Sync)
	if err != nil {
		return err
	}
	cfg := bench.Config{
		Jobs: b.Jobs, Payload: b.Payload, Hosts: b.Hosts, Slots: b.Slots, Tenants: b.Tenants, Hashes: b.Hashes,
		Dispatchers: b.Dispatchers, FailureRate: b.FailureRate, Rate: b.Rate, HostTime: b.HostTime, Comfy: b.Comfy,
		NATSURL: b.NATSURL, StoreDir: b.StoreDir, SyncAlways: always, SyncEvery: every, Compression: b.Compression, SkipRaw: b.NoBare,
	}
	live := isTerminal(c.err)
	cfg.Progress = func(p bench.Progress) {
		if live {
			fmt.Fprintf(c.err, "\r\x1b[K%s: %d of %d jobs", p.Stage, p.Done, p.Total)
		}
	}
	if b.StoreDir != "" {
		if err := os.MkdirAll(b.StoreDir, 0o755); err != nil {
			return fmt.Errorf("make the folder for NATS: %w", err)
		}
	}
	result, err := bench.Run(ctx, cfg)
	if live {
		fmt.Fprint(c.err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if b.JSON {
		return c.json(result)
	}
	return b.table(c, &result)
}

func direct(r *bench.Result) string {
	if r.DirectJobsPerSecond == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %% of %.1f jobs/s", 100*r.RatioToDirect, r.DirectJobsPerSecond)
}

func (b *benchCmd) table(c *console, r *bench.Result) error {
	spread := func(s bench.Spread) string { return fmt.Sprintf("%.2f / %.2f / %.2f ms", s.P50, s.P99, s.Max) }
	bare := func(format string, v any) string {
		if b.NoBare {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	deliver := ""
	if !b.NoBare {
		deliver = spread(r.Bare.PublishToDeliver) + " (deliver)"
	}
	c.print("%d jobs of %d bytes, %d hosts of %d slots, %d dispatchers, %d tenants, %d workflows, host time %s\n",
		b.Jobs, b.Payload, b.Hosts, b.Slots, b.Dispatchers, b.Tenants, b.Hashes, r.Config.HostTime)
	return c.table([][]string{
		{"", "comfyherd", "bare NATS"},
		{"jobs a second", fmt.Sprintf("%.0f", r.JobsPerSecond), bare("%.0f", r.BareJobsPerSecond)},
		{"share of the limit", bare("%.0f %%", 100*r.Ratio), ""},
		{"share of the hosts alone", direct(r), ""},
		{"published a second", fmt.Sprintf("%.0f", r.EnqueuePerSecond), bare("%.0f", r.Bare.EnqueuePerSecond)},
		{"publish to started (p50 / p99 / max)", spread(r.PublishToStarted), deliver},
		{"publish to completed (p50 / p99 / max)", spread(r.PublishToEnd), ""},
		{"idle gap on a host (p50 / p99 / max)", spread(r.IdleGap), ""},
		{"CPU a job", fmt.Sprintf("%.0f µs", r.CPUPerJob), bare("%.0f µs", r.Bare.CPUPerJob)},
		{"allocations a job", fmt.Sprintf("%.0f (%s)", r.AllocsPerJob, bytesText(int64(r.AllocatedPerJob))), bare("%.0f", r.Bare.AllocsPerJob)},
		{"heap at the end", bytesText(int64(r.HeapBytes)), ""},
		{"events stored a job", bytesText(int64(r.StoredPerJob)), ""},
		{"offers accepted / refused", fmt.Sprintf("%d / %d", r.OffersAccepted, r.OffersRefused), ""},
		{"parked", fmt.Sprint(r.Parked), ""},
		{"dead", fmt.Sprint(r.Dead), ""},
	})
}
