package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	fleetBegin = 5 * time.Minute // how long the hosts may take until all dispatchers have found them
	fleetEnd   = 5 * time.Minute // how long jobs may take beyond the time in which they are published
)

// apart is a fleet whose dispatchers and agents are processes of their own. This process has NATS and publishes the jobs.
type apart struct {
	cfg         *Config
	load        *load
	place       *place
	agents      []*process
	dispatchers []*process
}

// RunApart measures what the dispatchers and agents of a fleet send and receive: first without jobs, then with cfg.Jobs at cfg.Rate.
func RunApart(ctx context.Context, cfg Config) (result Traffic, err error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(cfg.check(), cfg.checkApart()); err != nil {
		return Traffic{}, err
	}
	l, err := newLoad(&cfg)
	if err != nil {
		return Traffic{}, err
	}
	ctx, p, err := open(ctx, &cfg, false)
	if err != nil {
		return Traffic{}, err
	}
	a := &apart{cfg: &cfg, load: l, place: p}
	defer func() {
		err = errors.Join(err, endAll(append(a.agents, a.dispatchers...)), p.close())
	}()
	nc, err := p.bare()
	if err != nil {
		return Traffic{}, err
	}
	q, err := queue.Open(ctx, nc, queue.Config{LaneCap: max(10_000, cfg.Jobs), PresenceTTL: cfg.PresenceTTL})
	if err != nil {
		return Traffic{}, err
	}
	defer q.Close()
	js, err := p.publisher(nc)
	if err != nil {
		return Traffic{}, err
	}
	if err := a.start(ctx); err != nil {
		return Traffic{}, err
	}
	result.Config, result.Processes, result.PresenceTTL = settings(&cfg), cfg.Processes, q.PresenceTTL().Seconds()
	err = a.measure(ctx, nc, js, &result)
	return result, err
}

func (c Config) checkApart() error {
	switch {
	case c.Processes < 1 || c.Processes > c.Hosts:
		return errors.New("the hosts need 1 to as many processes as there are hosts")
	case c.Rate <= 0:
		return errors.New("a fleet of processes is measured under a steady load: give the jobs a second with --rate")
	case c.NATSURL != "" || c.Closed || c.Comfy || c.Waiting > 0 || c.Blocks > 0 || c.FailureRate > 0:
		return errors.New("a fleet of processes is measured on the embedded NATS, open, with hosts that stand for ComfyUI, and without failures, blocks and waiting jobs: leave these out")
	}
	return nil
}

// start starts dispatchers and agents, and waits until each dispatcher has found all hosts and each host has appended its event.
func (a *apart) start(ctx context.Context) error {
	for i := range a.cfg.Dispatchers {
		p, err := begin("dispatcher "+strconv.Itoa(i), order{URL: a.place.url, Dispatcher: dispatcherName(i)}, a.place.fail)
		if err != nil {
			return err
		}
		a.dispatchers = append(a.dispatchers, p)
	}
	first := 0
	for i := range a.cfg.Hosts {
		if !lastOfAgent(i, a.cfg.Hosts, a.cfg.Processes) {
			continue
		}
		p, err := begin("agent "+strconv.Itoa(len(a.agents)), order{
			URL: a.place.url, First: first, Hosts: i + 1 - first, Slots: a.cfg.Slots, Hashes: a.cfg.Hashes, HostTime: a.cfg.HostTime,
		}, a.place.fail)
		if err != nil {
			return err
		}
		a.agents, first = append(a.agents, p), i+1
	}
	return a.awaitHosts(ctx)
}

func (a *apart) awaitHosts(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fleetBegin, fmt.Errorf("not all dispatchers have found all hosts within %s", fleetBegin))
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	total := a.cfg.Hosts * (a.cfg.Dispatchers + 1)
	for {
		t, err := a.count(ctx, askTraffic)
		if err != nil {
			return err
		}
		done := t.hosts + int(t.byAgents[appends].Messages) // the only event of a host is that it is online
		a.cfg.Progress(Progress{Stage: "start", Done: done, Total: total})
		if done >= total {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the hosts: %w", context.Cause(ctx))
		}
	}
}

// measure counts for some time without jobs, and then until all jobs have ended.
func (a *apart) measure(ctx context.Context, nc *nats.Conn, js natsjs.JetStream, result *Traffic) error {
	quiet := a.cfg.Quiet
	begun, err := a.count(ctx, askTraffic)
	if err != nil {
		return err
	}
	stop := reporting("no jobs", int(quiet.Seconds()), func() int { return int(time.Since(begun.at).Seconds()) }, a.cfg.Progress)
	paused := queue.Pause(ctx, quiet)
	stop()
	if !paused {
		return context.Cause(ctx)
	}
	idle, err := a.count(ctx, askTraffic)
	if err != nil {
		return err
	}
	published := time.Duration(float64(a.cfg.Jobs) / a.cfg.Rate * float64(time.Second))
	ctx, cancel := context.WithTimeoutCause(ctx, published+a.cfg.HostTime+fleetEnd, errors.New("the jobs have taken too long: give fewer jobs a second, or more hosts"))
	defer cancel()
	r := newRecorder(a.load)
	if err := r.follow(nc, "comfy.events.jobs"); err != nil {
		return err
	}
	defer r.reporting("comfyherd", a.cfg.Progress)()
	if _, err := enqueue(ctx, a.cfg, a.load, []natsjs.JetStream{js}, r, "comfy.jobs."); err != nil {
		return err
	}
	if err := r.wait(ctx, "comfyherd"); err != nil {
		return err
	}
	loaded, err := a.count(ctx, askHeap)
	if err != nil {
		return err
	}
	result.PublishToStarted, result.Dead = since(r.published, r.started), int(r.dead.Load())
	result.fill(begun, idle, loaded)
	return nil
}

// tally is what all parts have counted up to a time.
type tally struct {
	at                          time.Time
	byAgents, toAgents          map[string]Flow // by class
	byDispatchers, toDispatcher map[string]Flow
	cpu                         [3]time.Duration // of NATS and the publisher, of all agents, and of all dispatchers
	heap                        uint64           // the largest of a dispatcher
	hosts                       int              // that dispatchers have found, all together
}

// count asks all parts at the same time.
func (a *apart) count(ctx context.Context, what string) (tally, error) {
	all := append(append([]*process{}, a.agents...), a.dispatchers...)
	reports := make([]partReport, len(all))
	asking, ctx := errgroup.WithContext(ctx)
	for i, p := range all {
		asking.Go(func() (err error) {
			reports[i], err = p.ask(ctx, what)
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return tally{}, err
	}
	t := tally{
		at: time.Now(), byAgents: map[string]Flow{}, toAgents: map[string]Flow{}, byDispatchers: map[string]Flow{}, toDispatcher: map[string]Flow{},
		cpu: [3]time.Duration{cpuTime()},
	}
	for i, r := range reports {
		if i < len(a.agents) {
			add(t.byAgents, r.Sent)
			add(t.toAgents, r.Received)
			t.cpu[1] += r.CPU
			continue
		}
		add(t.byDispatchers, r.Sent)
		add(t.toDispatcher, r.Received)
		t.cpu[2] += r.CPU
		t.heap = max(t.heap, r.Heap)
		t.hosts += r.Hosts
	}
	return t, nil
}

func add(to, counts map[string]Flow) {
	for class, f := range counts {
		to[class] = to[class].plus(f)
	}
}
