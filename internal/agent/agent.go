package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// Agent runs the jobs of one or more ComfyUI hosts.
type Agent struct {
	q     *queue.Queue
	hosts []*host
	cfg   Config
	clock prometheus.Gauge
}

// New makes an agent. It connects to no ComfyUI: one that is down is an unhealthy host, not an error.
func New(q *queue.Queue, cfg Config) (*Agent, error) {
	metrics := newMetrics()
	cfg, hosts, err := cfg.complete(metrics.requested)
	if err != nil {
		return nil, err
	}
	if err := metrics.register(cfg.Registerer); err != nil {
		return nil, err
	}
	a := &Agent{q: q, cfg: cfg, clock: metrics.clock}
	large, thumbs := make(chan struct{}, largeAtOnce), make(chan struct{}, 1)
	instance := uuid.NewString()
	for _, h := range hosts {
		host := newHost(q, cfg, h, instance, metrics)
		host.large, host.thumbs = large, thumbs
		a.hosts = append(a.hosts, host)
	}
	return a, nil
}

// Run serves all hosts until they are drained. When stop is done, no new job is accepted, and the running ones are given
// back if they have not ended within the drain time. When kill is done, everything stops at once and is left as a crash
// would leave it. Otherwise Run returns only with an error of the NATS connection.
func (a *Agent) Run(stop, kill context.Context) error {
	prompts, err := a.readSecret(stop, kill)
	if err != nil {
		return nil // it was stopped before it began
	}
	g, ctx := errgroup.WithContext(kill)
	watching, enough := context.WithCancel(ctx)
	var clock sync.WaitGroup
	clock.Go(func() { a.clockLoop(watching) })
	defer clock.Wait()
	defer enough()
	for _, h := range a.hosts {
		h.prompts = prompts
		g.Go(func() error { return h.run(stop, ctx) })
	}
	if err := g.Wait(); kill.Err() == nil {
		return err
	}
	return nil
}

// Hosts gives every host's name and address, the address without a password.
func (a *Agent) Hosts() []HostConfig {
	hosts := make([]HostConfig, len(a.hosts))
	for i, h := range a.hosts {
		hosts[i] = HostConfig{Name: h.name, URL: h.url}
	}
	return hosts
}

// Health is nil while NATS is connected and at least one host is online or draining.
func (a *Agent) Health() error {
	if !a.q.Connected() {
		return errors.New("NATS is not connected")
	}
	reasons := make([]error, 0, len(a.hosts))
	for _, h := range a.hosts {
		s := h.admission.state()
		if s.State != queue.Unhealthy {
			return nil
		}
		reasons = append(reasons, fmt.Errorf("host %s is %s: %s", h.name, s.State, s.Reason))
	}
	return errors.Join(reasons...)
}

// clockLoop reports by how much this machine's clock differs from NATS': in a gauge, and in the log when it is more than
// a second. Every time that the agent sends is NATS' own, so that nothing else depends on the difference.
func (a *Agent) clockLoop(ctx context.Context) {
	ticker := time.NewTicker(clockPause)
	defer ticker.Stop()
	told := false
	for {
		off := a.q.ClockOff()
		a.clock.Set(off.Seconds())
		differs := off.Abs() > clockTolerance
		switch {
		case differs && !told:
			a.cfg.Logger.Warn("this machine's clock differs from NATS'; check NTP. Jobs are not affected, their times are NATS'", "off", off)
		case told && !differs:
			a.cfg.Logger.Info("this machine's clock agrees with NATS' again", "off", off)
		}
		told = differs
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// clockPause is the time between two measurements of the clock.
const clockPause = 5 * time.Second
