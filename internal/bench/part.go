package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// order is the first line that a part reads: which process it is, and its settings.
type order struct {
	URL        string        `json:"url"`
	Dispatcher string        `json:"dispatcher,omitempty"` // its name; empty for an agent
	Gateway    bool          `json:"gateway,omitempty"`    // a gateway, in place of an agent
	Starts     string        `json:"starts,omitempty"`     // a client of the gateway with this address, in place of an agent
	Time       time.Duration `json:"time,omitempty"`       // for which the client runs prompts
	First      int           `json:"first,omitempty"`      // number of the agent's first host
	Hosts      int           `json:"hosts,omitempty"`
	Slots      int           `json:"slots,omitempty"`
	Hashes     int           `json:"hashes,omitempty"`
	HostTime   time.Duration `json:"host_time,omitempty"`
}

// partReport is what a part answers to every further line.
type partReport struct {
	Sent     map[string]Flow `json:"sent"` // since the part began, by class
	Received map[string]Flow `json:"received"`
	CPU      time.Duration   `json:"cpu"`
	Heap     uint64          `json:"heap,omitempty"`   // live, when it was asked for
	Hosts    int             `json:"hosts,omitempty"`  // that a dispatcher has found
	Addr     string          `json:"addr,omitempty"`   // where a gateway listens
	Starts   *StartResult    `json:"starts,omitempty"` // that a client has measured, when it was asked for
	Memory   uint64          `json:"memory"`           // that the process has from the system; it seldom shrinks
}

// ServePart is a process of `dispatcher bench`: a dispatcher, an agent with its hosts, a gateway, or its client. It reads its order from the
// first line of in, answers each further line with what it has sent and received so far, and ends with in.
func ServePart(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.Join(errors.New("this is a part of `dispatcher bench --processes`, which starts it: use that"), lines.Err())
	}
	var o order
	if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
		return fmt.Errorf("read the order of this part: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p, err := startPart(ctx, &o)
	if err != nil {
		return err
	}
	defer p.close()
	ended := make(chan error, 1)
	go func() {
		err := p.run(ctx, ctx)
		switch {
		case ctx.Err() != nil:
			err = nil // its input has ended, and so it stops
		case err == nil:
			err = errors.New("it has stopped by itself")
		}
		ended <- err
		cancel(err)
	}()
	asked := make(chan string)
	go func() {
		defer close(asked)
		defer cancel(nil)
		for lines.Scan() {
			asked <- lines.Text()
		}
	}()
	reports := json.NewEncoder(out)
	for {
		select {
		case err := <-ended:
			return err
		case what, more := <-asked:
			if !more {
				cancel(nil)
				return <-ended
			}
			r, whole := p.report(ctx, what)
			if !whole {
				return <-ended
			}
			if err := reports.Encode(r); err != nil {
				return fmt.Errorf("report: %w", err)
			}
		}
	}
}

// part is a dispatcher, an agent, a gateway or its client.
type part struct {
	nc      *nats.Conn
	q       *queue.Queue
	run     func(stop, kill context.Context) error
	meters  *meters
	metrics *prometheus.Registry // of a dispatcher
	gateway *gateway.Gateway     // nil for the others
	starter *starter             // the same
}

func startPart(ctx context.Context, o *order) (*part, error) {
	at, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read the address of NATS: %w", err)
	}
	p := &part{meters: &meters{address: at.Host, sent: newMeter(), received: newMeter()}, metrics: prometheus.NewRegistry()}
	options := []nats.Option{nats.InProcessServer(p.meters)}
	if o.Gateway || o.Starts != "" { // it is measured without what counting costs
		options = nil
	}
	p.nc, err = daemon.Connect(ctx, daemon.NATS{URL: o.URL, Name: o.Dispatcher + strconv.Itoa(o.First), Options: options})
	if err != nil {
		return nil, err
	}
	if p.q, err = queue.Open(ctx, p.nc, queue.Config{}); err != nil {
		p.nc.Close()
		return nil, err
	}
	switch {
	case o.Gateway:
		err = p.serveGateway()
	case o.Starts != "":
		p.starter = &starter{q: p.q, client: newGatewayClient(o.Starts), time: o.Time, result: make(chan *StartResult, 1)}
		p.run = p.starter.run
	case o.Dispatcher != "":
		err = p.dispatcher(o)
	default:
		err = p.agent(o)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *part) close() {
	p.q.Close()
	p.nc.Close()
}

func (p *part) dispatcher(o *order) error {
	d, err := dispatcher.New(p.q, dispatcher.Config{Name: o.Dispatcher, Registerer: p.metrics})
	if err != nil {
		return err
	}
	p.run = d.Run
	return nil
}

func (p *part) serveGateway() (err error) {
	if p.gateway, err = gateway.New(p.q, gateway.Config{Listen: "127.0.0.1:0"}); err == nil {
		p.run = p.gateway.Run
	}
	return err
}

// agent is the real one with hosts that stand for ComfyUI.
func (p *part) agent(o *order) error {
	cfg := Config{Slots: o.Slots, Hashes: o.Hashes, HostTime: o.HostTime}.withDefaults()
	l, err := newLoad(&cfg)
	if err != nil {
		return err
	}
	capability, err := l.capability()
	if err != nil {
		return err
	}
	hosts := make([]agent.HostConfig, o.Hosts)
	for i := range hosts {
		hosts[i] = agent.HostConfig{Name: hostName(o.First + i), URL: nowhere, Comfy: newHost(&cfg, &samples{}, capability)}
	}
	a, err := agent.New(p.q, agent.Config{Hosts: hosts, Slots: o.Slots})
	if err != nil {
		return err
	}
	p.run = a.Run
	return nil
}

// What a part is asked for.
const (
	askTraffic = "traffic"
	askHeap    = "heap" // too, for which it collects garbage
	askStarts  = "starts"
)

// report is false when the part has ended before what is asked for was there.
func (p *part) report(ctx context.Context, what string) (partReport, bool) {
	r := partReport{
		Sent: p.meters.sent.total(), Received: p.meters.received.total(), CPU: cpuTime(), Hosts: gauge(p.metrics, "comfyherd_mirror_hosts"),
	}
	if p.gateway != nil {
		r.Addr = p.gateway.Addr()
	}
	switch what {
	case askHeap:
		r.Heap = liveHeap()
	case askStarts:
		select {
		case r.Starts = <-p.starter.result:
		case <-ctx.Done():
			return r, false
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.Memory = m.Sys
	return r, true
}

// gauge reads a metric of a registry that has one dispatcher.
func gauge(metrics *prometheus.Registry, name string) int {
	families, err := metrics.Gather()
	if err != nil {
		return 0
	}
	for _, family := range families {
		if family.GetName() == name && len(family.GetMetric()) > 0 {
			return int(family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}
