package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/embedded"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// runCmd runs a dispatcher. What concerns the streams is zero when not given, so that a default never narrows what
// stands in NATS.
type runCmd struct {
	daemon.NATSFlags `embed:"" group:"nats"`
	daemon.LogFlags  `embed:"" group:"log"`
	embeddedFlags    `embed:"" group:"nats"`

	Name        string        `placeholder:"NAME" help:"Name of this dispatcher, unique in the fleet (random)."`
	Preset      string        `default:"production" enum:"production,development,high-availability" placeholder:"NAME" help:"How failures block: production (1 failure, 60s), development (3, 30s) or high-availability (1, 120s)."`
	Cooldown    time.Duration `placeholder:"DURATION" help:"How long a first block lasts (the preset's)."`
	CooldownCap time.Duration `placeholder:"DURATION" help:"Longest block (15m)."`
	MaxFailures int           `placeholder:"N" help:"Failures of a pair that make a block (the preset's)."`
	Park        time.Duration `placeholder:"DURATION" help:"How long a waiting job's delivery rests (10m)."`
	CapableWait time.Duration `placeholder:"DURATION" help:"How long a job waits for a host that can run it (5m)."`
	WaitingCap  int           `placeholder:"N" help:"Waiting jobs kept at hand, divided among the tenants; further ones rest in the stream (100000)."`
	MaxRunning  int           `placeholder:"N" help:"Jobs that a tenant without settings of its own runs at once (no cap); see dispatcher tenants."`
	MaxPriority *job.Priority `placeholder:"0-9" help:"What higher priorities of a tenant without one of its own count as (9; 5 with --access)."`
	MaxInput    int64         `placeholder:"BYTES" help:"Largest file that a tenant may put through a dispatcher (4 GiB)."`
	HTTP        string        `name:"http" placeholder:"ADDR" help:"Serve /healthz, /readyz and /metrics here, as :8080 (off)."`
	Retry       bool          `help:"Keep trying when NATS cannot be reached at the start."`

	AckWait      time.Duration `group:"keep" placeholder:"DURATION" help:"How long a lease lives without an extension (30s)."`
	LaneCap      int           `group:"keep" placeholder:"N" help:"Unfinished jobs of a tenant and priority (10000)."`
	PresenceTTL  time.Duration `name:"presence-ttl" group:"keep" placeholder:"DURATION" help:"Silence after which a host counts as gone (15s)."`
	EventsAge    time.Duration `group:"keep" placeholder:"DURATION" help:"How long events are kept and ids stay taken (72h)."`
	DeadAge      time.Duration `group:"keep" placeholder:"DURATION" help:"How long dead letters are kept (720h)."`
	FilesAge     time.Duration `group:"keep" placeholder:"DURATION" help:"How long outputs and inputs are kept (24h)."`
	MaxJob       daemon.Size   `group:"keep" placeholder:"SIZE" help:"Largest job that is taken (1MiB); NATS' own max_payload is another limit."`
	MaxDisk      daemon.Size   `group:"keep" placeholder:"SIZE" help:"What all streams and files may take together, each its part (of the embedded NATS about half of the disk that is free)."`
	JobsBytes    daemon.Size   `group:"keep" placeholder:"SIZE" help:"Bytes of unfinished jobs, beyond which a publish is refused (20% of --max-disk)."`
	EventsBytes  daemon.Size   `group:"keep" placeholder:"SIZE" help:"Bytes of events, beyond which the oldest go (20%)."`
	DeadBytes    daemon.Size   `group:"keep" placeholder:"SIZE" help:"Bytes of dead letters, beyond which the oldest go (10%)."`
	OutputsBytes daemon.Size   `group:"keep" placeholder:"SIZE" help:"Bytes of outputs, beyond which the oldest go (30%)."`
	InputsBytes  daemon.Size   `group:"keep" placeholder:"SIZE" help:"Bytes of inputs, beyond which the oldest go (15%)."`
	Replicas     int           `group:"keep" placeholder:"N" help:"Copies of every stream and bucket: 1, 3 or 5 (1)."`
	Compression  bool          `group:"keep" help:"Compress the streams."`
}

// Help is shown after the flags.
func (*runCmd) Help() string {
	return `Without NATS_URL, or with --embedded, NATS runs in this process and one command is a working system.
Settings of "What NATS keeps" change what stands there only when they are given. Ctrl-C stops taking jobs and
finishes what is under way; Ctrl-C again stops now.

Examples:
  dispatcher run
  dispatcher run --listen 0.0.0.0:4222 --http :8080
  dispatcher run --listen 0.0.0.0:4222 --access ./herd --tls-cert nats.pem --tls-key nats-key.pem
  NATS_URL=nats://n1,nats://n2,nats://n3 NATS_CREDS=herd.creds dispatcher run --replicas 3`
}

// Run runs until it is stopped.
func (r *runCmd) Run(ctx context.Context, c *console) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	log, err := r.Logger(c.err)
	if err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	defer context.AfterFunc(stop, func() { c.say("stopping: finishing what is under way; Ctrl-C again stops now") })()
	nats, err := r.connect(stop, c, log)
	if err != nil {
		return stopped(stop, err)
	}
	return errors.Join(stopped(kill, r.dispatch(stop, kill, nats, policy, c, log)), nats.close())
}

// stopped takes out of an error what a signal has caused.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (r *runCmd) policy() (route.Policy, error) {
	policy, known := route.Preset(r.Preset)
	if !known {
		return policy, fmt.Errorf("--preset %q is unknown; use one of %s", r.Preset, strings.Join(route.Presets(), ", "))
	}
	for flag, d := range map[string]time.Duration{
		"cooldown": r.Cooldown, "cooldown-cap": r.CooldownCap, "park": r.Park, "capable-wait": r.CapableWait, "ack-wait": r.AckWait,
		"presence-ttl": r.PresenceTTL, "events-age": r.EventsAge, "dead-age": r.DeadAge, "files-age": r.FilesAge,
	} {
		if d < 0 || d > 0 && d < time.Second {
			return policy, fmt.Errorf("--%s %s is too short; give at least 1s", flag, d)
		}
	}
	if min(r.MaxFailures, r.LaneCap, r.WaitingCap, r.MaxRunning) < 0 {
		return policy, errors.New("--max-failures, --lane-cap, --waiting-cap and --max-running count from 1; leave them out for their defaults")
	}
	if r.MaxPriority != nil && !r.MaxPriority.Valid() {
		return policy, fmt.Errorf("--max-priority %d is none; give 0 to 9, where 9 is no limit", *r.MaxPriority)
	}
	if r.MaxInput < 0 {
		return policy, fmt.Errorf("--max-input %d is no size; give bytes, or leave it out", r.MaxInput)
	}
	if !slices.Contains([]int{0, 1, 3, 5}, r.Replicas) {
		return policy, fmt.Errorf("--replicas %d keeps no majority; use 1, 3 or 5", r.Replicas)
	}
	if err := r.sizes(); err != nil {
		return policy, err
	}
	if r.Cooldown != 0 {
		policy.Cooldown = r.Cooldown
	}
	if r.CooldownCap != 0 {
		policy.Cap = r.CooldownCap
	}
	if r.MaxFailures != 0 {
		policy.MaxFailures = r.MaxFailures
	}
	if policy.Cap < policy.Cooldown {
		return policy, fmt.Errorf("--cooldown %s is longer than --cooldown-cap %s; raise the cap or shorten the cooldown", policy.Cooldown, policy.Cap)
	}
	return policy, nil
}

// sizes refuses maxima with which nothing would go.
func (r *runCmd) sizes() error {
	if r.MaxDisk != 0 && r.MaxDisk < leastDisk {
		return fmt.Errorf("--max-disk %s is too little; give at least %s", r.MaxDisk, daemon.Size(leastDisk))
	}
	if r.MaxJob != 0 && (r.MaxJob < leastJob || r.MaxJob > mostJob) {
		return fmt.Errorf("--max-job %s cannot be; give %s to %s, which is what NATS takes", r.MaxJob, daemon.Size(leastJob), daemon.Size(mostJob))
	}
	for flag, size := range map[string]daemon.Size{
		"jobs-bytes": r.JobsBytes, "events-bytes": r.EventsBytes, "dead-bytes": r.DeadBytes, "outputs-bytes": r.OutputsBytes, "inputs-bytes": r.InputsBytes,
	} {
		if size != 0 && size < leastBytes {
			return fmt.Errorf("--%s %s is too little; give at least %s", flag, size, daemon.Size(leastBytes))
		}
	}
	return nil
}

const (
	leastDisk  = 1 << 30
	leastBytes = 16 << 20
	leastJob   = 4 << 10
	mostJob    = 63 << 20
)

// link is the NATS that the dispatcher works on.
type link struct {
	*nats.Conn
	url    string           // for others to come to
	server *embedded.Server // nil when it is not ours
	guard  *guard           // of the server
}

// room is what all streams may hold together: three quarters of what the server may store, when it is in this process.
func (l *link) room() int64 {
	if l.server == nil {
		return queue.AskNATS
	}
	return l.server.MaxStore() / 4 * 3
}

func (l *link) close() error {
	l.Close()
	if l.server == nil {
		return nil
	}
	l.guard.close()
	return l.server.Close()
}

// connect reaches the NATS that was named, or starts one.
func (r *runCmd) connect(ctx context.Context, c *console, log *slog.Logger) (*link, error) {
	to := r.NATS("dispatcher", log)
	if hint := r.unused(r.URL); hint != "" {
		c.say("note      %s", hint)
	}
	if r.URL != "" && !r.Embedded {
		var nc *nats.Conn
		err := daemon.Begin(ctx, r.Retry, log, func(ctx context.Context) (err error) {
			nc, err = daemon.Connect(ctx, to)
			return err
		})
		if err != nil {
			return nil, err
		}
		c.say("NATS      %s", nc.ConnectedUrlRedacted())
		return &link{Conn: nc, url: nc.ConnectedUrlRedacted()}, nil
	}
	return r.embed(ctx, c, log)
}

// embed starts NATS in this process and connects to it through memory. The certificate is the server's.
func (r *runCmd) embed(ctx context.Context, c *console, log *slog.Logger) (*link, error) {
	server, guard, err := r.start(r.Cert, r.Key, c, log)
	if err != nil {
		return nil, err
	}
	if most := daemon.Size(server.MaxStore()); r.MaxDisk > most {
		guard.close()
		return nil, errors.Join(fmt.Errorf("--max-disk %s is more than NATS may store here, which is %s: three quarters of what is free; free disk, or give less", r.MaxDisk, most), server.Close())
	}
	to := r.NATS("dispatcher", log)
	to.Creds, to.NKey, to.User, to.Password, to.Token = guard.creds, "", "", "", ""
	to.CA, to.Cert, to.Key = "", "", ""
	to.Options = server.ConnectOptions()
	nc, err := daemon.Connect(ctx, to)
	if err != nil {
		guard.close()
		return nil, errors.Join(err, server.Close())
	}
	c.say("NATS      %s, in this process; its data is in %s", server.URL(), r.StoreDir)
	if guard.folder != nil {
		c.say("access    only with credentials out of %s; see `dispatcher access --help`", guard.folder.Dir())
	}
	return &link{Conn: nc, url: server.URL(), server: server, guard: guard}, nil
}

// dispatch opens the queue and runs the dispatcher and the port for health beside each other.
func (r *runCmd) dispatch(stop, kill context.Context, nats *link, policy route.Policy, c *console, log *slog.Logger) error {
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
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d, err := dispatcher.New(q, dispatcher.Config{
		Name: r.Name, Policy: policy, Park: r.Park, CapableWait: r.CapableWait, WaitingCap: r.WaitingCap, MaxInput: r.MaxInput,
		MaxRunning: r.MaxRunning, MaxPriority: r.maxPriority(nats.guard), Version: semantic(daemon.Version()), Logger: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	where := ""
	if nats.url != daemon.DefaultURL {
		where = "NATS_URL=" + nats.url + " "
	}
	if note := clockWords("this machine", q.ClockOff()); note != "" {
		c.say("clock     %s", note)
	}
	tenant, agent := nats.guard.credentials()
	c.say("submit    %s%sdispatcher submit workflow_api.json --wait", where, tenant)
	c.say("hosts     %s%sCOMFY_HOSTS=http://127.0.0.1:8188 agent", where, agent)
	c.say("stop      Ctrl-C; again: now")
	return daemon.Together(stop, kill, d.Run, r.HTTP, d.Ready, registry)
}

// maxPriority is that of tenants without one of their own: where access is closed they are strangers to each other, and
// none of them is more important than another unless the operator says so.
func (r *runCmd) maxPriority(g *guard) *job.Priority {
	if r.MaxPriority == nil && g != nil && g.folder != nil {
		usual := job.Usual
		return &usual
	}
	return r.MaxPriority
}

// keep has only what was given by hand.
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
