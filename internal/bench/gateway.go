package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// GatewayConfig is one measurement of a gateway. The zero value measures all stages.
type GatewayConfig struct {
	Stages    []string      // of GatewayStages; none: all
	Time      time.Duration // about, of each stage; default 10 s
	Sockets   int           // that are open; default 1 000
	Runs      int           // prompts that run and whose previews the sockets receive; default 50
	FileBytes int64         // of the file that is uploaded and downloaded; default 1 GiB
	Hosts     int           // whose object_info is merged; default 1 000

	StoreDir string         // of the embedded NATS; default a temporary folder
	Progress func(Progress) // called some times a second
}

// Stages of a measurement, in their order.
const (
	startStage   = "start"
	infoStage    = "object_info"
	filesStage   = "files"
	socketsStage = "sockets"
)

// GatewayStages are the stages that can be chosen.
func GatewayStages() []string { return []string{startStage, infoStage, filesStage, socketsStage} }

// GatewayResult is what `dispatcher bench --gateway --json` prints. What was not measured is absent.
type GatewayResult struct {
	CPUs    int            `json:"cpus"`
	Go      string         `json:"go"`
	Start   *StartResult   `json:"start,omitempty"`
	Info    *InfoResult    `json:"object_info,omitempty"`
	Files   *FilesResult   `json:"files,omitempty"`
	Sockets *SocketsResult `json:"sockets,omitempty"`
}

// stageLimit is how much longer than its time a stage may take, with what comes before and after.
const stageLimit = 5 * time.Minute

func (c GatewayConfig) withDefaults() (GatewayConfig, error) {
	if len(c.Stages) == 0 {
		c.Stages = GatewayStages()
	}
	for _, stage := range c.Stages {
		if !slices.Contains(GatewayStages(), stage) {
			return c, fmt.Errorf("%q is no stage of the gateway's bench: give some of %s", stage, strings.Join(GatewayStages(), ", "))
		}
	}
	c.Time, c.Sockets, c.Runs = cmp.Or(c.Time, 10*time.Second), cmp.Or(c.Sockets, 1000), cmp.Or(c.Runs, 50)
	c.FileBytes, c.Hosts = cmp.Or(c.FileBytes, 1<<30), cmp.Or(c.Hosts, 1000)
	if c.Time < 0 || min(c.Sockets, c.Runs, c.Hosts) < 1 || c.FileBytes < 1 {
		return c, errors.New("the time, the sockets, the runs, the hosts and the size of the file must be positive")
	}
	if c.Runs > c.Sockets {
		c.Runs = c.Sockets
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return c, nil
}

// gatewayBench is a fleet with a gateway in a process of its own, so that its CPU and memory can be told from the rest.
type gatewayBench struct {
	cfg     *GatewayConfig
	place   *place
	q       *queue.Queue
	gateway *process
	client  *gatewayClient
	actors  errgroup.Group
}

// RunGateway measures one gateway: NATS, a dispatcher, a host and all clients are this process, but for the client of the stage start.
func RunGateway(ctx context.Context, cfg GatewayConfig) (result GatewayResult, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return result, err
	}
	ctx, p, err := open(ctx, &Config{StoreDir: cfg.StoreDir}, false)
	if err != nil {
		return result, err
	}
	b := &gatewayBench{cfg: &cfg, place: p, client: newGatewayClient("")}
	running, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		b.client.http.CloseIdleConnections()
		if b.gateway != nil {
			err = errors.Join(err, b.gateway.end())
		}
		err = errors.Join(err, b.actors.Wait())
		if b.q != nil {
			b.q.Close()
		}
		err = errors.Join(err, p.close())
	}()
	if err := b.start(running); err != nil {
		return result, err
	}
	result.CPUs, result.Go = runtime.NumCPU(), runtime.Version()
	err = b.stages(running, &result)
	return result, err
}

func (b *gatewayBench) stages(ctx context.Context, result *GatewayResult) error {
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{
		{startStage, func(ctx context.Context) (err error) { result.Start, err = b.measureStart(ctx); return err }},
		{infoStage, func(ctx context.Context) (err error) { result.Info, err = b.measureInfo(ctx); return err }},
		{filesStage, func(ctx context.Context) (err error) { result.Files, err = b.measureFiles(ctx); return err }},
		{socketsStage, func(ctx context.Context) (err error) { result.Sockets, err = b.measureSockets(ctx); return err }},
	} {
		if !slices.Contains(b.cfg.Stages, s.name) {
			continue
		}
		limit := b.cfg.Time + stageLimit
		bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has not ended within %s", limit))
		err := s.run(bounded)
		if err != nil && bounded.Err() != nil {
			err = errors.Join(err, context.Cause(bounded))
		}
		cancel()
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.name, err)
		}
	}
	return nil
}

// gatewayTenant is the tenant of a gateway without keys.
const gatewayTenant = gateway.DefaultTenant

// start starts a dispatcher, an agent with a simulated ComfyUI, and the gateway.
func (b *gatewayBench) start(ctx context.Context) error {
	nc, err := b.place.bare()
	if err != nil {
		return err
	}
	if b.q, err = queue.Open(ctx, nc, queue.Config{}); err != nil {
		return err
	}
	d, err := dispatcher.New(b.q, dispatcher.Config{Name: dispatcherName(0)})
	if err != nil {
		return err
	}
	sim, err := comfysim.Start(comfysim.Config{Name: hostName(0)})
	if err != nil {
		return fmt.Errorf("start a simulated ComfyUI: %w", err)
	}
	a, err := agent.New(b.q, agent.Config{Hosts: []agent.HostConfig{{Name: hostName(0), URL: sim.URL()}}})
	if err != nil {
		sim.Close()
		return err
	}
	b.actors.Go(func() error { return d.Run(ctx, ctx) })
	b.actors.Go(func() error {
		defer sim.Close()
		return a.Run(ctx, ctx)
	})
	if b.gateway, err = begin("the gateway", order{URL: b.place.url, Gateway: true}, b.place.fail); err != nil {
		return err
	}
	report, err := b.gateway.ask(ctx, askTraffic)
	b.client.base = "http://" + report.Addr
	return errors.Join(err, b.awaitHost(ctx))
}

// awaitHost waits until a dispatcher lists the host.
func (b *gatewayBench) awaitHost(ctx context.Context) error {
	for {
		var answer queue.HostsAnswer
		if err := b.q.Call(ctx, "hosts", struct{}{}, &answer); err == nil && len(answer.Hosts) > 0 && answer.Hosts[0].Capability > 0 {
			return nil
		}
		if !queue.Pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("wait for the host: %w", context.Cause(ctx))
		}
	}
}
