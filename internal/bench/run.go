package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
)

// Run measures the raw limit and then comfyherd, and gives both.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Result{}, err
	}
	if cfg.NATSURL != "" {
		if err := unused(ctx, cfg.NATSURL); err != nil {
			return Result{}, err
		}
	}
	l, err := newLoad(&cfg)
	if err != nil {
		return Result{}, err
	}
	result := Result{Config: settings(&cfg)}
	if !cfg.SkipRaw {
		if result.Bare, err = runRaw(ctx, &cfg, l); err != nil {
			return Result{}, fmt.Errorf("raw limit: %w", err)
		}
	}
	if cfg.Comfy {
		if result.DirectJobsPerSecond, result.DirectIdleGap, err = runDirect(ctx, &cfg, l); err != nil {
			return Result{}, fmt.Errorf("hosts alone: %w", err)
		}
	}
	runtime.GC()
	if err := measure(ctx, &cfg, l, &result); err != nil {
		return Result{}, err
	}
	result.compare()
	return result, nil
}

// stage is a whole comfyherd for one measurement.
type stage struct {
	cfg      *Config
	load     *load
	place    *place
	gaps     *samples
	metrics  *prometheus.Registry
	recorder *recorder
	before   counters // before the measured jobs
	sims     []*comfysim.Server
	traces   []*trace.Traces // of dispatchers, with Observed
	actors   sync.WaitGroup
	failed   chan error
}

func measure(ctx context.Context, cfg *Config, l *load, result *Result) (err error) {
	ctx, p, err := open(ctx, cfg, cfg.Closed)
	if err != nil {
		return err
	}
	s := &stage{
		cfg: cfg, load: l, place: p, gaps: &samples{values: make([]time.Duration, 0, 2*cfg.Jobs)}, metrics: prometheus.NewRegistry(),
		recorder: newRecorder(l), failed: make(chan error, 1),
	}
	running, stop := context.WithCancelCause(ctx)
	defer func() {
		stop(nil)
		s.actors.Wait()
		for _, sim := range s.sims {
			sim.Close()
		}
		err = errors.Join(err, s.clear(ctx), p.close())
	}()
	go func() {
		select {
		case err := <-s.failed:
			stop(err)
		case <-running.Done():
		}
	}()
	q, js, err := s.start(running)
	if err != nil {
		return err
	}
	defer q.Close()
	if err := s.burden(running, q, js); err != nil {
		return err
	}
	publishers, err := s.publishers(js)
	if err != nil {
		return err
	}
	if s.before.stored, err = storedBytes(ctx, js, names.EventsStream); err != nil {
		return err
	}
	s.before.disk = p.diskBytes()
	defer s.recorder.reporting("comfyherd", cfg.Progress)()
	before := usageNow()
	rate, err := enqueue(running, cfg, l, publishers, s.recorder, "comfy.jobs.")
	if err != nil {
		return err
	}
	if err := s.recorder.wait(running, "comfyherd"); err != nil {
		return err
	}
	s.exported(running)
	used := usageNow().since(before)
	if err := s.report(running, js, rate, used, result); err != nil {
		return err
	}
	return s.afterwards(running, js, publishers, result)
}

// afterwards measures what comes after the load: jobs one by one, and the memory of a dispatcher.
func (s *stage) afterwards(ctx context.Context, js natsjs.JetStream, publishers []natsjs.JetStream, result *Result) (err error) {
	idle := s.load.idling()
	result.StartedWhenIdle, err = idleLatency(ctx, idle, js.Conn(), newRecorder(idle), publishers, "comfy.jobs.", "comfy.events.jobs")
	if err != nil {
		return err
	}
	result.DispatcherBytes, err = s.heapOfDispatcher(ctx)
	return err
}

// start starts the fleet and waits until a dispatcher lists all its hosts.
func (s *stage) start(ctx context.Context) (*queue.Queue, natsjs.JetStream, error) {
	nc, err := s.place.bare(s.place.holders.asDispatcher()...)
	if err != nil {
		return nil, nil, err
	}
	q, err := queue.Open(ctx, nc, queue.Config{LaneCap: max(10_000, s.cfg.Jobs, s.cfg.Waiting), Compression: s.cfg.Compression, Replicas: s.cfg.Replicas})
	if err != nil {
		return nil, nil, err
	}
	js, err := s.place.publisher(nc)
	if err != nil {
		return nil, nil, err
	}
	for i := range s.cfg.Dispatchers {
		if err := s.dispatcher(ctx, i); err != nil {
			return nil, nil, err
		}
	}
	if s.cfg.Observed || s.cfg.Viewers > 0 {
		if err := s.observe(ctx); err != nil {
			return nil, nil, err
		}
	}
	if err := s.hosts(ctx); err != nil {
		return nil, nil, err
	}
	if err := s.awaitHosts(ctx, q); err != nil {
		return nil, nil, err
	}
	return q, js, s.recorder.follow(nc, "comfy.events.jobs")
}

// queue opens a queue on a connection of its own, as every process would have.
func (s *stage) queue(ctx context.Context, name, creds string, cfg queue.Config) (*queue.Queue, error) {
	nc, err := s.place.connect(ctx, name, creds)
	if err != nil {
		return nil, err
	}
	return queue.Open(ctx, nc, cfg)
}

func (s *stage) act(ctx context.Context, q *queue.Queue, run func(stop, kill context.Context) error) {
	s.actors.Go(func() {
		defer q.Close()
		if err := run(ctx, ctx); err != nil && ctx.Err() == nil {
			select {
			case s.failed <- err:
			default:
			}
		}
	})
}

func (s *stage) dispatcher(ctx context.Context, i int) error {
	name := dispatcherName(i)
	q, err := s.queue(ctx, name, s.place.holders.dispatcher(), queue.Config{})
	if err != nil {
		return err
	}
	cfg := dispatcher.Config{
		HistoryRows: s.cfg.HistoryRows, CountEvents: s.cfg.Observed,
		Name: name, Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"dispatcher": name}, s.metrics),
	}
	if s.cfg.Observed {
		if cfg.JobEnded, err = s.traced(ctx, q); err != nil {
			return err
		}
	}
	d, err := dispatcher.New(q, cfg)
	if err != nil {
		return err
	}
	s.act(ctx, q, d.Run)
	return nil
}

func dispatcherName(i int) string { return "bench-" + strconv.Itoa(i) }

func hostName(i int) string { return fmt.Sprintf("bench-%04d", i) }

func (s *stage) hosts(ctx context.Context) error {
	capability, err := s.load.capability()
	if err != nil {
		return err
	}
	var group []agent.HostConfig
	for i := range s.cfg.Hosts {
		h := agent.HostConfig{Name: hostName(i)}
		if s.cfg.Comfy {
			if h.URL, err = s.sim(h.Name); err != nil {
				return err
			}
		} else {
			h.URL, h.Comfy = nowhere, newHost(s.cfg, s.gaps, capability)
		}
		group = append(group, h)
		if lastOfAgent(i, s.cfg.Hosts, s.cfg.Agents) {
			if err := s.agent(ctx, group); err != nil {
				return err
			}
			group = nil
		}
	}
	return nil
}

// lastOfAgent says whether the i-th host is the last of an agent, when all have as many as can be.
func lastOfAgent(i, hosts, agents int) bool { return (i+1)*agents/hosts > i*agents/hosts }

func (s *stage) agent(ctx context.Context, hosts []agent.HostConfig) error {
	creds, cfg := s.place.holders.agent(hosts[0].Name)
	q, err := s.queue(ctx, "agent "+hosts[0].Name, creds, cfg)
	if err != nil {
		return err
	}
	a, err := agent.New(q, agent.Config{Hosts: hosts, Slots: s.cfg.Slots})
	if err != nil {
		return err
	}
	s.act(ctx, q, a.Run)
	return nil
}

func (s *stage) sim(name string) (string, error) {
	models := make([]string, s.cfg.Hashes)
	for i := range models {
		models[i] = model(i)
	}
	sim, err := comfysim.Start(comfysim.Config{Name: name, JobTime: s.cfg.HostTime, Models: map[string][]string{"checkpoints": models}})
	if err != nil {
		return "", fmt.Errorf("start a simulated ComfyUI: %w", err)
	}
	s.sims = append(s.sims, sim)
	return sim.URL(), nil
}
