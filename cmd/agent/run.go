package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// settings are the flags of the agent.
type settings struct {
	daemon.NATSFlags `embed:"" group:"nats"`
	daemon.LogFlags  `embed:"" group:"log"`

	ComfyHosts    string        `name:"comfy-hosts" env:"COMFY_HOSTS" placeholder:"URL,NAME=URL,…" help:"ComfyUI hosts to serve; one without a name is named after its host and port, on this machine after the machine."`
	Slots         int           `group:"jobs" placeholder:"N" default:"1" range:"1.." help:"Jobs that each ComfyUI runs at a time."`
	Prefetch      int           `group:"jobs" placeholder:"N" default:"1" range:"-1.." help:"Jobs accepted beyond the slots, so that the GPU never waits; -1 is none."`
	Drain         time.Duration `group:"jobs" placeholder:"DURATION" default:"10m" help:"Time that running jobs get at shutdown."`
	StartTimeout  time.Duration `group:"jobs" placeholder:"DURATION" default:"1m" help:"Longest time from the submit to the first node, while no other prompt is before it; -1s is no limit."`
	NodeTimeout   time.Duration `group:"jobs" placeholder:"DURATION" default:"10m" help:"Longest time without progress of the running node; -1s is no limit."`
	TotalTimeout  time.Duration `group:"jobs" placeholder:"DURATION" unset:"no limit" help:"Longest time of a whole run."`
	FreezeTimeout time.Duration `group:"jobs" placeholder:"DURATION" default:"15s" range:"1s.." help:"Longest time without any answer of ComfyUI."`
	Outputs       string        `group:"jobs" default:"store" enum:"store,none" placeholder:"WHERE" help:"Store the files of jobs in COMFY_OUTPUTS, or leave them on the host."`
	Thumbs        string        `group:"jobs" default:"small" enum:"small,none" placeholder:"WHICH" help:"Store a small picture beside each large one, for lists such as the page's, or none."`
	KeepFiles     bool          `group:"jobs" help:"Leave the files of ended jobs in ComfyUI's folders; otherwise those in comfyherd/ there are deleted once they are stored."`
	InputURLs     string        `name:"input-urls" group:"jobs" default:"public" placeholder:"none|public|any|CIDR,…" help:"Addresses that inputs may be fetched from by url: ranges as 10.0.0.0/8, with commas, public among them; any is for fleets whose publishers are all trusted."`
	Label         []string      `group:"jobs" placeholder:"KEY=VALUE" help:"Label of all hosts, as gpu=4090, repeatable."`
	HTTP          string        `name:"http" placeholder:"ADDR" unset:"off" help:"Serve /healthz, /readyz and /metrics here, as :8080."`
	Retry         bool          `help:"Keep trying at the start also when NATS refuses the credentials or has no JetStream yet; one that cannot be reached is always waited for."`
}

// runCmd serves hosts; it is the default command.
type runCmd struct{}

// Run serves until it is stopped.
func (*runCmd) Run(ctx context.Context, c *daemon.Console, s *settings) error { return s.run(ctx, c) }

func (s *settings) run(ctx context.Context, c *daemon.Console) error {
	hosts, err := hostsOf(s.ComfyHosts)
	if err == nil {
		err = named(hosts, s.Holder())
	}
	if err != nil {
		return err
	}
	log, err := s.Logger(c.Err)
	if err != nil {
		return err
	}
	cfg := s.config(hosts)
	if err := cfg.Check(); err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	defer context.AfterFunc(stop, func() { c.Say("stopping: running jobs are finished; Ctrl-C again stops at once") })()
	var nc *nats.Conn
	err = daemon.Begin(stop, s.Retry, log, func(ctx context.Context) (err error) {
		nc, err = daemon.Connect(ctx, s.NATS("agent "+machine(), log))
		return err
	})
	if err != nil {
		return daemon.UnlessStopped(stop, err)
	}
	defer nc.Close()
	return daemon.UnlessStopped(stop, s.serve(stop, kill, nc, cfg, c, log))
}

// machine is this machine's name, empty when it has none of its own.
func machine() string {
	name, err := os.Hostname()
	if err != nil || name == "localhost" {
		return ""
	}
	return name
}

// hostsOf reads COMFY_HOSTS, which must name a host.
func hostsOf(text string) ([]agent.HostConfig, error) {
	given, err := daemon.ComfyHosts(text)
	if err != nil {
		return nil, err
	}
	if len(given) == 0 {
		return nil, errors.New("no ComfyUI host is given; set COMFY_HOSTS, as in COMFY_HOSTS=http://127.0.0.1:8188 agent")
	}
	hosts := make([]agent.HostConfig, len(given))
	for i, h := range given {
		hosts[i] = agent.HostConfig{Name: h.Name, URL: h.URL}
	}
	return hosts, nil
}

// named gives a host without a name that of the credentials, which are good for one host only.
func named(hosts []agent.HostConfig, holder string) error {
	name, found := strings.CutPrefix(holder, "agent-")
	if !found {
		return nil
	}
	if len(hosts) > 1 || hosts[0].Name != "" && hosts[0].Name != name {
		return fmt.Errorf("NATS_CREDS has the credentials of host %s only; give COMFY_HOSTS=%[1]s=http://… and serve each other host with an agent of its own", name)
	}
	hosts[0].Name = name
	return nil
}

func (s *settings) serve(stop, kill context.Context, nc *nats.Conn, cfg agent.Config, c *daemon.Console, log *slog.Logger) error {
	var q *queue.Queue
	err := daemon.Begin(stop, s.Retry, log, func(ctx context.Context) (err error) {
		q, err = queue.Open(ctx, nc, queue.Config{Domain: s.Domain, APIPrefix: s.APIPrefix(), NoConsumers: s.NoConsumers(), Warn: daemon.Warn(log)})
		return err
	})
	if err != nil {
		return err
	}
	defer q.Close()
	registry := daemon.Registry("agent")
	cfg.Logger, cfg.Registerer = log, registry
	a, err := agent.New(q, cfg)
	if err != nil {
		return err
	}
	c.Say("NATS      %s", nc.ConnectedUrlRedacted())
	for _, h := range a.Hosts() {
		c.Say("host      %s at %s", h.Name, h.URL)
	}
	c.Say("stop      Ctrl-C finishes the running jobs; a second Ctrl-C stops at once")
	return daemon.Together(stop, kill, a.Run, s.HTTP, readiness(a), registry)
}

func (s *settings) config(hosts []agent.HostConfig) agent.Config {
	return agent.Config{
		Hosts: hosts, Slots: s.Slots, Prefetch: s.Prefetch, Drain: s.Drain,
		StartTimeout: s.StartTimeout, NodeTimeout: s.NodeTimeout, TotalTimeout: s.TotalTimeout, FreezeTimeout: s.FreezeTimeout,
		Outputs: s.Outputs, NoThumbs: s.Thumbs == "none", KeepFiles: s.KeepFiles, InputURLs: s.InputURLs, Labels: s.Label, Version: daemon.Version(), Machine: machine(),
	}
}

func readiness(a *agent.Agent) func() (bool, string) {
	return func() (bool, string) {
		if err := a.Health(); err != nil {
			return false, err.Error()
		}
		return true, "serving"
	}
}
