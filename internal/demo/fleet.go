package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fleet is NATS in a temporary folder and what runs on it. Every actor has a connection of its own over a real
// socket, as if it were a process.
type fleet struct {
	o      *Options
	server *natsserver.Server
	nc     *nats.Conn     // for calls of tenants
	q      *queue.Queue   // for what the demo itself reads and publishes
	broken chan error     // an actor that ended by itself
	ends   []func() error // what was begun, in order; close ends it backwards
}

// openFleet starts NATS and connects to it; nothing else runs yet.
func openFleet(ctx context.Context, o *Options) (f *fleet, err error) {
	f = &fleet{o: o, broken: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	dir, err := os.MkdirTemp("", "comfyherd-demo-nats-")
	if err != nil {
		return f, fmt.Errorf("make a folder for NATS: %w", err)
	}
	f.later(func() error { return os.RemoveAll(dir) })
	if f.server, err = natsserver.Start(natsserver.Config{Name: "demo", Port: -1, StoreDir: dir, Logger: o.Log}); err != nil {
		return f, err
	}
	f.later(f.server.Close)
	var end func()
	if f.nc, f.q, end, err = f.connect(ctx, "demo"); err != nil {
		return f, err
	}
	f.later(func() error { end(); return nil })
	return f, nil
}

// client makes calls as a tenant.
func (f *fleet) client(tenant job.Tenant) *jetstream.Client { return jetstream.NewClient(f.nc, tenant) }

func (f *fleet) later(end func() error) { f.ends = append(f.ends, end) }

// close ends everything at once, in the opposite order of its beginning, and waits for it.
func (f *fleet) close() error {
	var all []error
	for i := len(f.ends) - 1; i >= 0; i-- {
		all = append(all, f.ends[i]())
	}
	f.ends = nil
	return errors.Join(all...)
}

func (f *fleet) connect(ctx context.Context, name string) (*nats.Conn, *queue.Queue, func(), error) {
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: f.server.URL(), Name: name, Log: f.o.Log, Options: []nats.Option{nats.NoReconnect()}})
	if err != nil {
		return nil, nil, nil, err
	}
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		nc.Close()
		return nil, nil, nil, err
	}
	return nc, q, func() {
		q.Close()
		nc.Close()
	}, nil
}

// agent serves one host.
func (f *fleet) agent(ctx context.Context, host agent.HostConfig) error {
	return f.act(ctx, "agent of "+host.Name, func(q *queue.Queue) (actor, error) {
		return agent.New(q, agent.Config{Hosts: []agent.HostConfig{host}, Version: daemon.Version(), Logger: f.o.Log})
	})
}

// dispatcher blocks at the first failure.
func (f *fleet) dispatcher(ctx context.Context, name string) error {
	policy := route.Policy{Cooldown: f.o.cooldown, Cap: 2 * f.o.cooldown, MaxFailures: 1}
	return f.act(ctx, name, func(q *queue.Queue) (actor, error) {
		return dispatcher.New(q, dispatcher.Config{Name: name, Policy: policy, CapableWait: time.Hour, Logger: f.o.Log})
	})
}

// actor is a dispatcher or an agent.
type actor interface {
	Run(stop, kill context.Context) error
}

// act runs an actor until the fleet closes.
func (f *fleet) act(ctx context.Context, name string, create func(*queue.Queue) (actor, error)) error {
	_, q, disconnect, err := f.connect(ctx, name)
	if err != nil {
		return err
	}
	a, err := create(q)
	if err != nil {
		disconnect()
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // the fleet may stay when the story is over
	var done sync.WaitGroup
	done.Go(func() {
		if err := a.Run(running, running); err != nil && running.Err() == nil {
			select {
			case f.broken <- fmt.Errorf("%s ended: %w", name, err):
			default: // one is enough
			}
		}
	})
	f.later(func() error {
		end()
		done.Wait()
		disconnect()
		return nil
	})
	return nil
}

// page begins to serve the page.
func (f *fleet) page(serve func(*queue.Queue) (string, func() error, error)) (address string, err error) {
	address, end, err := serve(f.q)
	if err != nil {
		return "", err
	}
	f.later(end)
	return address, nil
}

// notes sends every stored event, from the first on, until the fleet closes.
func (f *fleet) notes(ctx context.Context) <-chan jetstream.Note {
	listening, end := context.WithCancel(ctx)
	notes := make(chan jetstream.Note)
	var done sync.WaitGroup
	done.Go(func() {
		defer close(notes)
		for note, err := range f.q.Notes(listening, "", time.Time{}) {
			if err != nil {
				return
			}
			select {
			case notes <- note:
			case <-listening.Done():
				return
			}
		}
	})
	f.later(func() error {
		end()
		done.Wait()
		return nil
	})
	return notes
}
