package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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
	Scheduled   float64       `placeholder:"SHARE" default:"0" range:"0..1" help:"Share of jobs with a run_at, one second after they are published."`
	Rate        float64       `placeholder:"JOBS/S" unset:"all at once" range:"0.." help:"Publish so many jobs a second."`
	HostTime    time.Duration `placeholder:"DURATION" default:"0s" range:"0s.." help:"How long a host takes for a job."`
	Waiting     int           `placeholder:"N" default:"0" range:"0..100000" help:"Jobs that wait all the time in the waiting room, for a host that stays busy."`
	Blocks      int           `placeholder:"N" default:"0" range:"0.." help:"Blocks in force all the time, of other workflows on these hosts."`
	Comfy       bool          `help:"Simulated ComfyUI over sockets instead of a host in this process."`
	NATSURL     string        `name:"nats-url" env:"NATS_URL" placeholder:"URL" unset:"an embedded NATS" help:"A NATS on this machine that has no fleet and no jobs; the streams are left in it."`
	StoreDir    string        `type:"path" placeholder:"DIR" unset:"a temporary folder" help:"Where the embedded NATS keeps its data."`
	Sync        string        `placeholder:"always|DURATION" unset:"2m" help:"How often the embedded NATS syncs its data to disk."`
	Compression bool          `help:"Compress the streams (S2)."`
	Replicas    int           `placeholder:"N" default:"1" range:"1..5" help:"Copies of every stream and bucket. The embedded NATS then has as many servers, in this process; a NATS that --nats-url names must be a cluster."`
	Access      bool          `help:"Measure a closed fleet: an account for each tenant and each host, each host with an agent of its own. The raw limit stays that of an open NATS."`
	Processes   int           `placeholder:"N" default:"0" range:"0.." help:"Run the hosts in so many processes and each dispatcher in one of its own, and show what they send and receive a second."`
	Observed    bool          `help:"With metrics that are read every second, traces that are exported to a receiver in this process, and webhooks, of which there is none, to measure what they cost."`
	Traces      float64       `name:"observed-traces" placeholder:"RATIO" default:"1" range:"0..1" help:"With --observed, the part of the traces that is exported."`
	Viewers     int           `placeholder:"N" default:"0" range:"0.." help:"With the page and so many viewers, who read its stream in this process."`
	NoBare      bool          `help:"Do not measure the raw limit of NATS."`

	Gateway        bool          `help:"Measure a gateway instead, in a process of its own; only the flags that begin with --gateway, --store-dir and --json apply."`
	GatewayStages  []string      `placeholder:"STAGE,…" unset:"all" enum:"start,object_info,files,sockets" help:"Which stages: start (prompts one by one beside jobs on NATS), object_info (merged of many hosts), files (a large upload and download), sockets (many websockets with previews)."`
	GatewayTime    time.Duration `placeholder:"DURATION" default:"10s" range:"1ms.." help:"About how long each stage measures."`
	GatewaySockets int           `placeholder:"N" default:"1000" range:"1.." help:"Open websockets; each receives 20 previews of 30 kB a second."`
	GatewayRuns    int           `placeholder:"N" default:"50" range:"1.." help:"Prompts that run at the same time, whose previews the websockets receive."`
	GatewayFile    daemon.Size   `placeholder:"SIZE" default:"1GiB" range:"1B.." help:"Size of the file that is uploaded and downloaded."`
	GatewayHosts   int           `placeholder:"N" default:"1000" range:"1.." help:"Hosts whose object_info is merged."`

	JSON bool `help:"Print one JSON object on standard output."`
}

// Help is shown after the flags.
func (*benchCmd) Help() string {
	return `The raw limit is measured in the same run: the same messages (publish, deliver, three chained events, ack) with
bare nats.go and nothing else. Then some jobs come one by one: the time until each has started is compared with
four bare round trips, which is what it takes at least.

Examples:
  dispatcher bench
  dispatcher bench --jobs 10000 --hosts 100 --dispatchers 2 --json
  dispatcher bench --jobs 500 --rate 100 --hosts 20            latency at a moderate load
  dispatcher bench --waiting 100000 --blocks 100000            what a crowd costs those that pass it
  dispatcher bench --dispatchers 20 --failure-rate 0.1 --scheduled 0.3 --host-time 20ms   claims of waiting jobs
  dispatcher bench --comfy --hosts 4 --jobs 400 --host-time 100ms
  dispatcher bench --hosts 10000 --processes 10 --dispatchers 10 --rate 50 --jobs 1500 --host-time 10s
  dispatcher bench --gateway
  dispatcher bench --gateway --gateway-stages start,sockets --gateway-time 5s --gateway-sockets 200`
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context, c *daemon.Console) error {
	stop, _, release := daemon.Signals(ctx)
	defer release()
	progress := func(p bench.Progress) { c.Overwrite(fmt.Sprintf("%s: %d of %d", p.Stage, p.Done, p.Total)) }
	if b.Gateway {
		result, err := bench.RunGateway(stop, bench.GatewayConfig{
			Stages: b.GatewayStages, Time: b.GatewayTime, Sockets: b.GatewaySockets, Runs: b.GatewayRuns, FileBytes: int64(b.GatewayFile),
			Hosts: b.GatewayHosts, StoreDir: b.StoreDir, Progress: progress,
		})
		return b.show(stop, c, &result, err)
	}
	if (b.Observed || b.Viewers > 0) && b.Processes > 0 {
		return errors.New("--observed and --viewers measure a fleet in one process: leave out --processes")
	}
	always, every, err := syncPolicy(b.Sync)
	if err != nil {
		return err
	}
	cfg := bench.Config{
		Jobs: b.Jobs, Payload: b.Payload, Hosts: b.Hosts, Agents: b.Agents, Slots: b.Slots, Tenants: b.Tenants, Hashes: b.Hashes,
		Dispatchers: b.Dispatchers, FailureRate: b.FailureRate, Scheduled: b.Scheduled, Rate: b.Rate, HostTime: b.HostTime, Comfy: b.Comfy,
		Waiting: b.Waiting, Blocks: b.Blocks, NATSURL: b.NATSURL, StoreDir: b.StoreDir, SyncAlways: always, SyncEvery: every,
		Compression: b.Compression, Replicas: b.Replicas, Closed: b.Access, SkipRaw: b.NoBare, Processes: b.Processes, Observed: b.Observed, TraceRatio: b.Traces,
		Viewers: b.Viewers,
	}
	cfg.Progress = progress
	var result printed
	if b.Processes > 0 {
		var traffic bench.Traffic
		traffic, err = bench.RunApart(stop, cfg)
		result = &traffic
	} else {
		var r bench.Result
		r, err = bench.Run(stop, cfg)
		result = &r
	}
	return b.show(stop, c, result, err)
}

// printed is a result that has a table for people.
type printed interface{ Print(*daemon.Console) error }

func (b *benchCmd) show(stop context.Context, c *daemon.Console, result printed, err error) error {
	c.Overwrite("")
	if err != nil {
		return interrupted(stop, c, err)
	}
	if b.JSON {
		return c.JSON(result)
	}
	return result.Print(c)
}

// benchPartCmd is a process of `bench --processes`, which starts it and ends it.
type benchPartCmd struct{}

// Help is shown after the flags.
func (*benchPartCmd) Help() string {
	return `It reads from standard input whether it is a dispatcher or an agent, and ends with it.

Examples:
  dispatcher bench-part < order.json`
}

// Run serves until standard input ends. Ctrl-C reaches all processes of a terminal; the one that has started this one ends it.
func (*benchPartCmd) Run(ctx context.Context, c *daemon.Console) error {
	signal.Ignore(os.Interrupt)
	return bench.ServePart(ctx, c.In, c.Out)
}
