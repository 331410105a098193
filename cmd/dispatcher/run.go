package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/outside"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// runCmd runs a dispatcher. The flags that are stored in NATS are zero when not given, so that a default never changes what
// is stored.
type runCmd struct {
	daemon.NATSFlags `embed:"" group:"nats"`
	daemon.LogFlags  `embed:"" group:"log"`
	embeddedFlags    `embed:"" group:"nats"`
	runPageFlags     `embed:"" group:"page"`

	Name         string        `placeholder:"NAME" unset:"random" help:"Name of this dispatcher, unique in the fleet."`
	Preset       string        `default:"production" enum:"production,development,high-availability" placeholder:"NAME" help:"How many failures block a pair of host and workflow, and for how long: in production 1 for 60s, in development 3 for 30s, in high-availability 1 for 120s."`
	Cooldown     time.Duration `placeholder:"DURATION" unset:"the preset's" range:"1s.." help:"How long a first block lasts."`
	CooldownCap  time.Duration `placeholder:"DURATION" unset:"15m" range:"1s.." help:"How long a block lasts at most."`
	MaxFailures  int           `placeholder:"N" unset:"the preset's" range:"1.." help:"Failures of a pair that make a block."`
	Park         time.Duration `placeholder:"DURATION" default:"10m" range:"1s.." help:"After what time a waiting job is delivered again."`
	CapableWait  time.Duration `placeholder:"DURATION" default:"5m" range:"1s.." help:"How long a job waits for a host that can run it."`
	WaitingCap   int           `placeholder:"N" default:"100000" range:"1.." help:"Waiting jobs kept in memory, divided among the tenants; further ones stay in the stream."`
	MaxRunning   int           `placeholder:"N" unset:"no cap" range:"0.." help:"Jobs that a tenant without settings of its own runs at once; see dispatcher tenants."`
	MaxPriority  *job.Priority `placeholder:"N" unset:"9; 5 with --access" range:"0..9" help:"Highest priority of a tenant without settings of its own; a higher one counts as this."`
	MaxInput     daemon.Size   `placeholder:"SIZE" default:"4GiB" range:"1.." help:"Largest file that a tenant may store through a dispatcher."`
	PoolLabel    string        `placeholder:"KEY" unset:"one pool of all hosts" help:"Label of hosts whose values name the pools of the metric comfyherd_fleet_wanted_hosts."`
	TargetWait   time.Duration `placeholder:"DURATION" default:"1m" range:"1s.." help:"How long a due job waits at most when there are as many hosts as that metric wants."`
	WebhookAllow string        `placeholder:"RANGES" unset:"public addresses only" help:"Address ranges with commas to which webhooks may be delivered beside public addresses, and without TLS; any allows all."`
	Traces       string        `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" unset:"no traces" help:"Receiver of OpenTelemetry over HTTP, as http://127.0.0.1:4318, to which the trace of each job that has ended is exported."`
	TraceRatio   float64       `env:"OTEL_TRACES_SAMPLER_ARG" placeholder:"RATIO" default:"1" range:"0..1" help:"Part of the traces that is exported, as 0.1; those of dead jobs always are."`
	HTTP         string        `name:"http" placeholder:"ADDR" unset:"off" help:"Serve /healthz, /readyz and /metrics here, as :8080."`
	Gateway      string        `placeholder:"ADDR|off" unset:"127.0.0.1:8188 when NATS is embedded and asks for no credentials, if that is free" help:"Where ComfyUI's own API is served for programs that were written for ComfyUI; off turns it off."`
	Retry        bool          `help:"Keep trying at the start also when NATS refuses the credentials or has no JetStream yet; one that cannot be reached is always waited for."`

	gatewayFlags

	AckWait      time.Duration `group:"keep" placeholder:"DURATION" unset:"30s" range:"1s.." help:"How long a lease lasts without an extension."`
	LaneCap      int           `group:"keep" placeholder:"N" unset:"10000" range:"1.." help:"Unfinished jobs of a tenant and priority."`
	PresenceTTL  time.Duration `name:"presence-ttl" group:"keep" placeholder:"DURATION" unset:"15s" range:"1s.." help:"Time without a sign of life after which a host counts as gone."`
	EventsAge    time.Duration `group:"keep" placeholder:"DURATION" unset:"72h" range:"1s.." help:"How long events are kept and ids stay taken."`
	DeadAge      time.Duration `group:"keep" placeholder:"DURATION" unset:"720h" range:"1s.." help:"How long dead letters are kept."`
	FilesAge     time.Duration `group:"keep" placeholder:"DURATION" unset:"24h" range:"1s.." help:"How long outputs and inputs are kept."`
	MaxJob       daemon.Size   `group:"keep" placeholder:"SIZE" unset:"1MiB" range:"4KiB..63MiB" help:"Largest job that is accepted; NATS' own max_payload is another limit."`
	MaxDisk      daemon.Size   `group:"keep" placeholder:"SIZE" unset:"about half of the free disk with the embedded NATS" range:"1GiB.." help:"Bytes of all streams and files together; each gets a part."`
	JobsBytes    daemon.Size   `group:"keep" placeholder:"SIZE" unset:"20% of --max-disk" range:"16MiB.." help:"Bytes of unfinished jobs, beyond which a publish is refused."`
	EventsBytes  daemon.Size   `group:"keep" placeholder:"SIZE" unset:"20% of --max-disk" range:"16MiB.." help:"Bytes of events, beyond which the oldest are deleted."`
	DeadBytes    daemon.Size   `group:"keep" placeholder:"SIZE" unset:"10% of --max-disk" range:"16MiB.." help:"Bytes of dead letters, beyond which the oldest are deleted."`
	OutputsBytes daemon.Size   `group:"keep" placeholder:"SIZE" unset:"26% of --max-disk" range:"16MiB.." help:"Bytes of outputs, beyond which the oldest are deleted."`
	InputsBytes  daemon.Size   `group:"keep" placeholder:"SIZE" unset:"15% of --max-disk" range:"16MiB.." help:"Bytes of inputs, beyond which the oldest are deleted."`
	Replicas     int           `group:"keep" placeholder:"N" unset:"1" oneof:"1,3,5" help:"Copies of every stream and bucket."`
	Compression  bool          `group:"keep" help:"Compress the streams."`
}

// Help is shown after the flags.
func (*runCmd) Help() string {
	return `Without NATS_URL, or with --embedded, NATS runs in this process and one command is a working system.
The flags under "What NATS keeps" are stored in NATS and change it only when they are given. Ctrl-C accepts no more jobs
and finishes the offers under way; a second Ctrl-C stops at once.

Examples:
  dispatcher run
  dispatcher run --listen 0.0.0.0:4222 --http :8080
  dispatcher run --listen 0.0.0.0:4222 --access ./herd --tls-cert nats.pem --tls-key nats-key.pem
  NATS_URL=nats://n1,nats://n2,nats://n3 NATS_CREDS=herd.creds dispatcher run --replicas 3`
}

// Run runs until it is stopped.
func (r *runCmd) Run(ctx context.Context, c *daemon.Console) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	log, err := r.Logger(c.Err)
	if err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	defer context.AfterFunc(stop, func() { c.Say("stopping: offers under way are finished; Ctrl-C again stops at once") })()
	nats, err := r.connect(stop, c, log)
	if err != nil {
		return daemon.UnlessStopped(stop, err)
	}
	return errors.Join(daemon.UnlessStopped(stop, r.dispatch(stop, kill, nats, policy, c, log)), nats.close())
}

// Validate refuses flags that contradict each other.
func (r *runCmd) Validate() error {
	_, err := r.policy()
	if bad := outside.CheckWebhookAllow(r.WebhookAllow); bad != nil {
		err = errors.Join(err, fmt.Errorf("--webhook-allow: %w", bad))
	}
	return errors.Join(err, r.embeddedFlags.Validate(), r.runPageFlags.Validate())
}

// policy is the preset's, with what other flags change of it.
func (r *runCmd) policy() (route.Policy, error) {
	policy, known := route.Preset(r.Preset)
	if !known {
		return policy, fmt.Errorf("--preset %q does not exist; give one of %s", r.Preset, strings.Join(route.Presets(), ", "))
	}
	policy.Cooldown = cmp.Or(r.Cooldown, policy.Cooldown)
	policy.Cap = cmp.Or(r.CooldownCap, policy.Cap)
	policy.MaxFailures = cmp.Or(r.MaxFailures, policy.MaxFailures)
	if policy.Cap < policy.Cooldown {
		return policy, fmt.Errorf("--cooldown %s is longer than --cooldown-cap %s; raise the cap or shorten the cooldown", policy.Cooldown, policy.Cap)
	}
	return policy, nil
}

// dispatch opens the queue and runs the dispatcher and the port for health beside each other.
func (r *runCmd) dispatch(stop, kill context.Context, nats *link, policy route.Policy, c *daemon.Console, log *slog.Logger) error {
	var q *queue.Queue
	err := daemon.Begin(stop, r.Retry, log, func(ctx context.Context) (err error) {
		keep := r.keep()
		keep.Room = nats.room()
		keep.Warn = daemon.Warn(log)
		q, err = queue.Open(ctx, nats.Conn, keep)
		return err
	})
	if err != nil {
		return err
	}
	defer q.Close()
	defer nats.guard.rest()
	if err := nats.guard.grant(stop, q); err != nil {
		return err
	}
	registry := daemon.Registry("dispatcher")
	d, run, err := r.dispatcher(stop, nats, policy, q, log, registry)
	if err != nil {
		return err
	}
	where := ""
	if nats.url != daemon.DefaultURL {
		where = "NATS_URL=" + nats.url + " "
	}
	served, err := r.gateway(q, nats, c, log, registry)
	if err != nil {
		return err
	}
	if note := clockWords("this machine", q.ClockOff()); note != "" {
		c.Say("clock     %s", note)
	}
	tenant, agent := nats.guard.credentials()
	c.Say("submit    %s%sdispatcher submit workflow_api.json --wait", where, tenant)
	c.Say("hosts     %s%sCOMFY_HOSTS=http://%s agent", where, agent, comfyAddress(served))
	run, err = r.beside(stop, &pagePlace{nats: nats, http: r.HTTP, q: q, c: c, log: log, registry: registry}, run)
	if err != nil {
		return err
	}
	c.Say("stop      Ctrl-C; a second Ctrl-C stops at once")
	return daemon.Together(stop, kill, beside(served, run), r.HTTP, d.Ready, registry)
}

// dispatcher makes a dispatcher, and what runs it, its webhooks and its traces.
func (r *runCmd) dispatcher(
	ctx context.Context, nats *link, policy route.Policy, q *queue.Queue, log *slog.Logger, registry prometheus.Registerer,
) (d *dispatcher.Dispatcher, run func(stop, kill context.Context) error, err error) {
	traces, err := r.traces(ctx, q, log, registry)
	if err != nil {
		return nil, nil, err
	}
	cfg := dispatcher.Config{
		Name: r.Name, Policy: policy, Park: r.Park, CapableWait: r.CapableWait, WaitingCap: r.WaitingCap, MaxInput: int64(r.MaxInput),
		MaxRunning: r.MaxRunning, MaxPriority: r.maxPriority(nats.guard), Version: semantic(daemon.Version()), Logger: log, Registerer: registry,
		Pools: route.SurveyOptions{PoolLabel: r.PoolLabel, Target: r.TargetWait}, Settings: r.settings(), CountEvents: r.HTTP != "",
	}
	if traces != nil {
		cfg.JobEnded = traces.JobEnded
	}
	d, err = dispatcher.New(q, cfg)
	if err != nil {
		return nil, nil, err
	}
	hooks, err := outside.NewWebhooks(q, outside.WebhookConfig{Name: d.Name(), Allow: r.WebhookAllow, Version: semantic(daemon.Version()), Logger: log, Registerer: registry})
	if err != nil {
		return nil, nil, err
	}
	run = withBeside(d.Run, hooks.Run)
	if traces != nil {
		run = withBeside(run, traces.Run)
	}
	return d, run, nil
}

// maxPriority is that of tenants without one of their own. In a closed fleet a tenant must not put its jobs before those of
// others by itself, so it is the usual priority there unless the operator says otherwise.
func (r *runCmd) maxPriority(g *guard) *job.Priority {
	if r.MaxPriority == nil && g != nil && g.folder != nil {
		usual := job.Usual
		return &usual
	}
	return r.MaxPriority
}

// keep has only the flags that were given.
func (r *runCmd) keep() queue.Config {
	return queue.Config{
		MaxDisk: int64(r.MaxDisk), JobsBytes: int64(r.JobsBytes), EventsBytes: int64(r.EventsBytes), DeadBytes: int64(r.DeadBytes),
		OutputsBytes: int64(r.OutputsBytes), InputsBytes: int64(r.InputsBytes), MaxJob: int(r.MaxJob),
		Replicas: r.Replicas, Compression: r.Compression, AckWait: r.AckWait, LaneCap: r.LaneCap, EventsAge: r.EventsAge,
		DeadAge: r.DeadAge, FilesAge: r.FilesAge, PresenceTTL: r.PresenceTTL, Domain: r.Domain, APIPrefix: r.APIPrefix(),
	}
}

// semantic takes the version number out of a build's description.
func semantic(version string) string {
	number, _, _ := strings.Cut(version, " ")
	return strings.TrimPrefix(number, "v")
}
