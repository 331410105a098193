package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/bench"
	"github.com/comfyherd/comfyherd/internal/daemon"
)

// benchCmd measures the queue.
type benchCmd struct {
	Jobs        int           `placeholder:"N" default:"10000" range:"1.." help:"Jobs to run."`
	Payload     int           `placeholder:"BYTES" default:"2048" range:"600..900000" help:"Size of a job."`
	Hosts       int           `placeholder:"N" default:"100" range:"1.." help:"Hosts."`
	Agents      int           `placeholder:"N" default:"1" range:"1.." help:"Agents that share the hosts, each with a connection of its own."`
	Slots       int           `placeholder:"N" default:"1" range:"1.." help:"Slots of each host."`
	Tenants     int           `placeholder:"N" default:"4" range:"1.." help:"Tenants."`
	Hashes      int           `placeholder:"N" default:"8" range:"1.." help:"Different workflows."`
	Dispatchers int           `placeholder:"N" default:"2" range:"1.." help:"Dispatchers."`
	FailureRate float64       `placeholder:"SHARE" default:"0" range:"0..0.9" help:"Share of attempts that fail."`
	Rate        float64       `placeholder:"JOBS/S" unset:"all at once" range:"0.." help:"Publish so many jobs a second."`
	HostTime    time.Duration `placeholder:"DURATION" default:"0s" range:"0s.." help:"How long a host takes for a job."`
	Waiting     int           `placeholder:"N" default:"0" range:"0..100000" help:"Jobs that wait all the time in the waiting room, for a host that stays busy."`
	Blocks      int           `placeholder:"N" default:"0" range:"0.." help:"Blocks that stand all the time, of other workflows on these hosts."`
	Comfy       bool          `help:"Simulated ComfyUI over sockets instead of a host in this process."`
	NATSURL     string        `name:"nats-url" env:"NATS_URL" placeholder:"URL" unset:"an embedded NATS" help:"A NATS on this machine that has no fleet and no jobs; the streams are left in it."`
	StoreDir    string        `type:"path" placeholder:"DIR" unset:"a temporary folder" help:"Where the embedded NATS keeps its data."`
	Sync        string        `placeholder:"always|DURATION" unset:"2m" help:"How often the embedded NATS syncs its data to disk."`
	Compression bool          `help:"Compress the streams (S2)."`
	Replicas    int           `placeholder:"N" default:"1" range:"1..5" help:"Copies of every stream and bucket, on a cluster that --nats-url names."`
	Access      bool          `help:"Measure a closed fleet: an account for each tenant and each host, each host with an agent of its own. The raw limit stays that of an open NATS."`
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
  dispatcher bench --waiting 100000 --blocks 100000            what a crowd costs those that pass it
  dispatcher bench --comfy --hosts 4 --jobs 400 --host-time 100ms`
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context, c *daemon.Console) error {
	always, every, err := syncPolicy(b.Sync)
	if err != nil {
		return err
	}
	cfg := bench.Config{
		Jobs: b.Jobs, Payload: b.Payload, Hosts: b.Hosts, Agents: b.Agents, Slots: b.Slots, Tenants: b.Tenants, Hashes: b.Hashes,
		Dispatchers: b.Dispatchers, FailureRate: b.FailureRate, Rate: b.Rate, HostTime: b.HostTime, Comfy: b.Comfy,
		Waiting: b.Waiting, Blocks: b.Blocks, NATSURL: b.NATSURL, StoreDir: b.StoreDir, SyncAlways: always, SyncEvery: every,
		Compression: b.Compression, Replicas: b.Replicas, Closed: b.Access, SkipRaw: b.NoBare,
	}
	cfg.Progress = func(p bench.Progress) { c.Overwrite(fmt.Sprintf("%s: %d of %d jobs", p.Stage, p.Done, p.Total)) }
	stop, _, release := daemon.Signals(ctx)
	defer release()
	result, err := bench.Run(stop, cfg)
	c.Overwrite("")
	if err != nil {
		return interrupted(stop, c, err)
	}
	if b.JSON {
		return c.JSON(result)
	}
	return b.table(c, &result)
}

func (b *benchCmd) table(c *daemon.Console, r *bench.Result) error {
	set := r.Config
	c.Print("%d jobs of %d bytes, %d hosts of %d slots, %d agents, %d dispatchers, %d tenants, %d workflows, host time %s",
		set.Jobs, set.Payload, set.Hosts, set.Slots, set.Agents, set.Dispatchers, set.Tenants, set.Hashes, set.HostTime)
	c.Print("")
	spread := func(s bench.Spread) string { return fmt.Sprintf("%.2f / %.2f / %.2f ms", s.P50, s.P99, s.Max) }
	count := func(n float64) string {
		if n < 10 {
			return fmt.Sprintf("%.2f", n)
		}
		return fmt.Sprintf("%.0f", n)
	}
	limit := fmt.Sprintf("%.1f %% of the limit", 100*r.Ratio)
	if set.Rate > 0 { // both were as fast as the jobs came
		limit = times(r.Ratio)
	}
	size := func(n float64) string { return daemon.Size(n).String() }
	raw, to := &r.Bare, &r.Ratios
	rows := [][]string{
		{"", "comfyherd", "bare NATS", "ratio"},
		{"jobs a second", count(r.JobsPerSecond), count(raw.JobsPerSecond), limit},
		{"published a second", count(r.EnqueuePerSecond), count(raw.EnqueuePerSecond), times(to.EnqueuePerSecond)},
		{"publish to started (p50 / p99 / max)", spread(r.PublishToStarted), spread(raw.PublishToDeliver) + " (deliver)", times(to.StartedP50, to.StartedP99)},
		{"publish to completed (p50 / p99 / max)", spread(r.PublishToEnd), spread(raw.PublishToEnd), times(to.CompletedP50, to.CompletedP99)},
		{"CPU a job", count(r.CPUPerJob) + " µs", count(raw.CPUPerJob) + " µs", times(to.CPUPerJob)},
		{"allocations a job", count(r.AllocsPerJob), count(raw.AllocsPerJob), times(to.AllocsPerJob)},
		{"allocated a job", size(r.AllocatedPerJob), size(raw.AllocatedPerJob), times(to.AllocatedPerJob)},
		{"live heap of this process at the end", size(float64(r.HeapBytes)), size(float64(raw.HeapBytes)), times(to.HeapBytes)},
		{filesRow, size(r.DiskPerJob), size(raw.DiskPerJob), times(to.DiskPerJob)},
		{"events stored a job", size(r.StoredPerJob), size(raw.StoredPerJob), times(to.StoredPerJob)},
	}
	if b.NATSURL != "" { // whose files are not ours to look at
		rows = slices.DeleteFunc(rows, func(row []string) bool { return row[0] == filesRow })
	}
	if b.NoBare {
		for i := range rows {
			rows[i] = rows[i][:2]
		}
	}
	if r.DirectJobsPerSecond > 0 {
		rows = append(rows, []string{"share of the hosts alone", fmt.Sprintf("%.1f %% of %.1f jobs/s", 100*r.RatioToDirect, r.DirectJobsPerSecond)},
			[]string{"idle gap on a host alone (p50 / p99 / max)", spread(r.DirectIdleGap)})
	}
	return c.Table(append(rows, [][]string{
		{"idle gap on a host (p50 / p99 / max)", spread(r.IdleGap)},
		{"heap of one dispatcher more", size(float64(r.DispatcherBytes))},
		{"offers accepted / refused", fmt.Sprintf("%d / %d", r.OffersAccepted, r.OffersRefused)},
		{"parked", fmt.Sprint(r.Parked)},
		{"dead", fmt.Sprint(r.Dead)},
	}...))
}

const filesRow = "files of NATS a job"

// times writes ratios, of a p50 and a p99 when there are two.
func times(ratios ...float64) string {
	texts := make([]string, len(ratios))
	for i, r := range ratios {
		texts[i] = fmt.Sprintf("× %.2f", r)
	}
	return strings.Join(texts, " / ")
}
