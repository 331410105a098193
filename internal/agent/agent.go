package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/crew"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Agent runs the jobs of one or more ComfyUI hosts.
type Agent struct {
	q     *jetstream.Queue
	hosts []*host
	crew  *crew.Crew // runs the walks of all hosts
}

// New makes an agent. It connects to no ComfyUI: one that is down is an unhealthy host, not an error.
func New(q *jetstream.Queue, cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	hosts, err := named(cfg.Hosts, cfg.Machine)
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	a := &Agent{q: q, crew: crew.Muster()}
	instance := uuid.NewString()
	for _, h := range hosts {
		if h.Comfy == nil {
			h.Comfy, err = comfy.New(h.URL, comfy.Options{FreezeTimeout: cfg.FreezeTimeout, Logger: cfg.Logger.With("host", h.Name)})
			if err != nil {
				return nil, fmt.Errorf("host %s: %w", h.Name, err)
			}
		}
		host := newHost(q, cfg, h, instance, metrics)
		host.crew = a.crew
		a.hosts = append(a.hosts, host)
	}
	return a, nil
}

// Run serves all hosts until they are drained. When stop ends no new job is taken, running ones get the drain
// time and are given back then; when kill ends everything ends at once and is left as a crash would leave it.
// Otherwise it returns only with an error of the NATS connection.
func (a *Agent) Run(stop, kill context.Context) error {
	defer a.crew.Close()
	g, ctx := errgroup.WithContext(kill)
	for _, h := range a.hosts {
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
		hosts[i] = HostConfig{Name: h.name, URL: h.desk.state().URL}
	}
	return hosts
}

// Health is nil while NATS is connected and at least one host is online, or draining as it was told to.
func (a *Agent) Health() error {
	if !a.q.Connected() {
		return errors.New("NATS is not connected")
	}
	reasons := make([]error, 0, len(a.hosts))
	for _, h := range a.hosts {
		s := h.desk.state()
		if s.State != jetstream.Unhealthy {
			return nil
		}
		reasons = append(reasons, fmt.Errorf("host %s is %s: %s", h.name, s.State, s.Reason))
	}
	return errors.Join(reasons...)
}
