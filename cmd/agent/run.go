package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// settings of the agent. Counts and durations are zero when not given, which is the agent's default.
type settings struct {
	daemon.NATSFlags `embed:"" group:"nats"`
	daemon.LogFlags  `embed:"" group:"log"`

	ComfyHosts    string        `name:"comfy-hosts" env:"COMFY_HOSTS" placeholder:"URL,NAME=URL,…" help:"ComfyUI hosts to serve; one without a name is named after its host and port, on this machine after the machine."`
	Slots         int           `group:"jobs" placeholder:"N" help:"Jobs that each ComfyUI runs at a time (1)."`
	Prefetch      int           `group:"jobs" placeholder:"N" help:"Jobs taken beyond the slots, so that the GPU never waits; -1 is none (1)."`
	Drain         time.Duration `group:"jobs" placeholder:"DURATION" help:"What running jobs get at shutdown (10m)."`
	StartTimeout  time.Duration `group:"jobs" placeholder:"DURATION" help:"From the submit to the first node, while nothing stands before it (60s)."`
	NodeTimeout   time.Duration `group:"jobs" placeholder:"DURATION" help:"Without progress of the running node (10m)."`
	TotalTimeout  time.Duration `group:"jobs" placeholder:"DURATION" help:"Of a whole run (none)."`
	FreezeTimeout time.Duration `group:"jobs" placeholder:"DURATION" help:"Without any answer of ComfyUI (15s)."`
	Outputs       string        `group:"jobs" default:"store" enum:"store,none" placeholder:"store|none" help:"Put files into COMFY_OUTPUTS (store), or leave them on the host (none)."`
	KeepFiles     bool          `group:"jobs" help:"Leave the files of ended jobs in ComfyUI's folders; otherwise what lies in comfyherd/ there is removed once it is stored."`
	InputURLs     string        `name:"input-urls" group:"jobs" placeholder:"none|public|any|CIDR,…" help:"Addresses that inputs may be fetched from by url (public): ranges as 10.0.0.0/8, with commas, public among them; any is for fleets whose publishers are all trusted."`
	Label         []string      `group:"jobs" placeholder:"KEY=VALUE" help:"Label of all hosts, as gpu=4090, repeatable."`
	HTTP          string        `name:"http" placeholder:"ADDR" help:"Serve /healthz, /readyz and /metrics here, as :8080 (off)."`
	Retry         bool          `help:"Keep trying when NATS cannot be reached at the start."`
}

// runCmd serves hosts; it is what the agent does when nothing else is asked of it.
type runCmd struct{}

// Run serves until it is stopped.
func (*runCmd) Run(ctx context.Context, c *console, s *settings) error { return s.run(ctx, c) }

func (s *settings) run(ctx context.Context, c *console) error {
	hosts, err := hostsOf(s.ComfyHosts)
	if err == nil {
		err = named(hosts, s.Holder())
	}
	if err != nil {
		return err
	}
	log, err := s.Logger(c.err)
	if err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	defer context.AfterFunc(stop, func() { c.say("stopping: running jobs finish; Ctrl-C again stops now") })()
	var nc *nats.Conn
	err = daemon.Begin(stop, s.Retry, log, func(ctx context.Context) (err error) {
		nc, err = daemon.Connect(ctx, s.NATS("agent "+machine(), log))
		return err
	})
	if err != nil {
		return stopped(stop, err)
	}
	defer nc.Close()
	return stopped(kill, s.serve(stop, kill, nc, hosts, c, log))
}

// stopped takes out of an error what a signal has caused.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// machine is this machine's name, empty when it has none of its own.
func machine() string {
	name, err := os.Hostname()
	if err != nil || name == "localhost" {
		return ""
	}
	return name
}

// hostsOf reads COMFY_HOSTS: addresses, or name=address, separated by commas.
func hostsOf(text string) ([]agent.HostConfig, error) {
	var hosts []agent.HostConfig
	n := 0
	for part := range strings.SplitSeq(text, ",") {
		n++
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		host := agent.HostConfig{URL: part}
		if name, address, found := strings.Cut(part, "="); found && !strings.Contains(name, "/") {
			host = agent.HostConfig{Name: name, URL: address}
		}
		if u, err := url.Parse(host.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%s is no address of a ComfyUI; write it like http://127.0.0.1:8188 or gpu-1=http://127.0.0.1:8188", entry(text, part, n))
		}
		hosts = append(hosts, host)
	}
	if len(hosts) == 0 {
		return nil, errors.New("no ComfyUI host is given; say where they are, as in COMFY_HOSTS=http://127.0.0.1:8188 agent")
	}
	return hosts, nil
}

// entry names a part of COMFY_HOSTS. Where a password may stand in any part it does so by its number: a password with
// a comma or a slash makes parts that nobody can tell from one.
func entry(text, part string, n int) string {
	if strings.ContainsAny(text, "@?") {
		return fmt.Sprintf("entry %d of COMFY_HOSTS", n)
	}
	return strconv.Quote(part)
}

// named gives a host without a name that of the credentials, which are good for one host only.
func named(hosts []agent.HostConfig, holder string) error {
	name, found := strings.CutPrefix(holder, "agent-")
	if !found {
		return nil
	}
	if len(hosts) > 1 || hosts[0].Name != "" && hosts[0].Name != name {
		return fmt.Errorf("NATS_CREDS has the credentials of host %s and of no other; give COMFY_HOSTS=%[1]s=http://… and each other host an agent of its own", name)
	}
	hosts[0].Name = name
	return nil
}

func (s *settings) serve(stop, kill context.Context, nc *nats.Conn, hosts []agent.HostConfig, c *console, log *slog.Logger) error {
	var q *queue.Queue
	err := daemon.Begin(stop, s.Retry, log, func(ctx context.Context) (err error) {
		q, err = queue.Open(ctx, nc, queue.Config{Domain: s.Domain, APIPrefix: s.APIPrefix(), NoConsumers: s.NoConsumers(), Warn: daemon.Warn(log)})
		return err
	})
	if err != nil {
		return err
	}
	defer q.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg := s.config(hosts)
	cfg.Logger, cfg.Registerer = log, registry
	a, err := agent.New(q, cfg)
	if err != nil {
		return err
	}
	c.say("NATS      %s", nc.ConnectedUrlRedacted())
	for _, h := range a.Hosts() {
		c.say("host      %s at %s", h.Name, h.URL)
	}
	c.say("stop      Ctrl-C, running jobs finish; again: now")
	return daemon.Together(stop, kill, a.Run, s.HTTP, readiness(a), registry)
}

func (s *settings) config(hosts []agent.HostConfig) agent.Config {
	return agent.Config{
		Hosts: hosts, Slots: s.Slots, Prefetch: s.Prefetch, Drain: s.Drain,
		StartTimeout: s.StartTimeout, NodeTimeout: s.NodeTimeout, TotalTimeout: s.TotalTimeout, FreezeTimeout: s.FreezeTimeout,
		Outputs: s.Outputs, KeepFiles: s.KeepFiles, InputURLs: s.InputURLs, Labels: s.Label, Version: daemon.Version(), Machine: machine(),
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
