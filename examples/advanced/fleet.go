package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fleet is NATS, two dispatchers and the agents of all hosts, each with a connection of its own.
type fleet struct {
	s      *settings
	server *natsserver.Server
	nc     *nats.Conn // of the tenants and the operator
	hosts  []agent.HostConfig
	sims   []*comfysim.Server // of simulated hosts
	ends   []func() error     // what was begun, in order
}

// Times of simulated hosts, long enough to be seen and short enough to wait for.
const (
	sampleTime = 40 * time.Millisecond
	loadTime   = 250 * time.Millisecond
)

// cooldown is how long a first block lasts, shorter than in production so that its end can be waited for.
func (s *settings) cooldown() time.Duration { return time.Duration(1+s.size) * 400 * time.Millisecond }

var checkpoints = []string{"realistic_v6.safetensors", "sdxl_base_1.0.safetensors", "anime_xl_3.safetensors"}

func openFleet(ctx context.Context, s *settings) (f *fleet, err error) {
	f = &fleet{s: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := f.openHosts(); err != nil {
		return f, err
	}
	dir, err := os.MkdirTemp("", "comfyherd-advanced-")
	if err != nil {
		return f, err
	}
	f.ends = append(f.ends, func() error { return os.RemoveAll(dir) })
	if f.server, err = natsserver.Start(natsserver.Config{Name: "advanced", Port: -1, StoreDir: dir, Logger: s.log}); err != nil {
		return f, err
	}
	f.ends = append(f.ends, f.server.Close)
	if f.nc, err = nats.Connect(f.server.URL()); err != nil {
		return f, err
	}
	f.ends = append(f.ends, func() error { f.nc.Close(); return nil })
	for _, h := range f.hosts {
		err := f.act(ctx, func(q *queue.Queue) (actor, error) {
			return agent.New(q, agent.Config{Hosts: []agent.HostConfig{h}, Prefetch: -1, Version: daemon.Version(), Logger: s.log})
		})
		if err != nil {
			return f, err
		}
	}
	for i := range 2 {
		err := f.act(ctx, func(q *queue.Queue) (actor, error) {
			policy := route.Policy{Cooldown: s.cooldown(), Cap: 2 * s.cooldown(), MaxFailures: 1}
			return dispatcher.New(q, dispatcher.Config{Name: fmt.Sprintf("dispatcher-%d", i+1), Policy: policy, Logger: s.log})
		})
		if err != nil {
			return f, err
		}
	}
	return f, f.online(ctx)
}

// openHosts starts simulated hosts where no real ones are named.
func (f *fleet) openHosts() error {
	given, err := daemon.ComfyHosts(f.s.hosts)
	if err != nil {
		return err
	}
	for i, h := range given {
		f.hosts = append(f.hosts, agent.HostConfig{Name: cmp.Or(h.Name, fmt.Sprintf("comfy-%d", i+1)), URL: h.URL})
	}
	for i := range 4 {
		if len(given) > 0 {
			break
		}
		name := fmt.Sprintf("gpu-%d", i+1)
		sim, err := comfysim.Start(comfysim.Config{
			Name: name, Logger: f.s.log, JobTime: sampleTime, LoadTime: loadTime, Models: map[string][]string{"checkpoints": checkpoints},
		})
		if err != nil {
			return err
		}
		f.ends = append(f.ends, func() error { sim.Close(); return nil })
		f.sims = append(f.sims, sim)
		f.hosts = append(f.hosts, agent.HostConfig{Name: name, URL: sim.URL()})
	}
	return nil
}

// actor is a dispatcher or an agent.
type actor interface {
	Run(stop, kill context.Context) error
}

func (f *fleet) act(ctx context.Context, create func(*queue.Queue) (actor, error)) error {
	nc, err := nats.Connect(f.server.URL())
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		nc.Close()
		return err
	}
	a, err := create(q)
	if err != nil {
		q.Close()
		nc.Close()
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running, running) }()
	f.ends = append(f.ends, func() error {
		end()
		err := <-ended
		q.Close()
		nc.Close()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	return nil
}

// close ends everything in the opposite order of its beginning.
func (f *fleet) close() error {
	var all []error
	for i := len(f.ends) - 1; i >= 0; i-- {
		all = append(all, f.ends[i]())
	}
	f.ends = nil
	return errors.Join(all...)
}

// client is a tenant's access.
func (f *fleet) client(tenant jetstream.Tenant) *jetstream.Client {
	return jetstream.NewClient(f.nc, tenant)
}

// online waits until a dispatcher has all hosts as online.
func (f *fleet) online(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		var there struct {
			Hosts []struct{ State string }
		}
		reply, err := jetstream.Ask(ctx, f.nc, &nats.Msg{Subject: "comfy.api.hosts", Data: []byte("{}")})
		if err == nil {
			err = json.Unmarshal(reply.Data, &there)
		}
		n := 0
		for _, h := range there.Hosts {
			if h.State == "online" {
				n++
			}
		}
		if err == nil && n == len(f.hosts) {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d hosts came online; start their ComfyUI, or leave them out of COMFY_HOSTS", n, len(f.hosts))
		}
	}
}

// inputFolder is where pictures lie below ComfyUI's input folder.
const inputFolder = "comfyherd-advanced"

// upload puts a picture on every host, and something else in its place on the hosts that damaged names.
func (f *fleet) upload(ctx context.Context, name string, picture []byte, damaged ...string) error {
	var wait sync.WaitGroup
	errs := make([]error, len(f.hosts))
	for i, h := range f.hosts {
		wait.Go(func() {
			body := picture
			for _, d := range damaged {
				if d == h.Name {
					body = []byte("This was a picture before it was damaged; see comfyherd's examples/advanced.\n")
				}
			}
			c, err := comfy.New(h.URL, comfy.Options{})
			if err == nil {
				_, err = c.Upload(ctx, name, inputFolder, bytes.NewReader(body))
				c.Close()
			}
			errs[i] = err
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}
