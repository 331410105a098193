package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// DefaultListen is where a gateway listens when nothing else is said: ComfyUI's own port, on this machine.
const DefaultListen = "127.0.0.1:8188"

// DefaultTenant is the tenant of requests to a gateway without keys.
const DefaultTenant job.Tenant = "default"

// Config says where a gateway listens and for whom. The zero value serves the default tenant on DefaultListen.
type Config struct {
	Listen   string                // host:port; default DefaultListen. Beyond this machine it needs Keys
	Keys     map[string]job.Tenant // key: the tenant that it stands for; none: every request is the default tenant's
	ListenAs map[string]job.Tenant // further addresses, host:port: the tenant of every request that comes there without a key
	Frontend string                // folder with the static files of ComfyUI's page; empty: there is no page

	Extensions Extensions // of which node packs the scripts are served, which run in the page; zero: of all

	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: no metrics
}

// Gateway serves HTTP for programs that were written for ComfyUI.
type Gateway struct {
	q         *queue.Queue
	cfg       Config
	metrics   *metrics
	log       *slog.Logger
	keys      keyring
	listeners []listener

	begin chan *tenant  // from the first request of a tenant to Run, which runs it
	ended chan struct{} // closed when Run takes no more tenants

	leaving chan struct{} // closed when the gateway stops: streams end
	hangUp  func()        // closes leaving, once

	hidden    *hidden
	runnables *knownRunnable
	catalogs  *catalogs
	tunnel    *tunnel
	bodies    *bodies
	uploads   *uploads
	decoding  chan struct{} // has a value for each picture that is being decoded

	mu      sync.Mutex // guards all below
	tenants map[job.Tenant]*tenant
	closing bool // no more websockets are taken
}

// listener is an address and the tenant of the requests that come there without a key; empty: none.
type listener struct {
	net.Listener
	tenant job.Tenant
}

const (
	headerTimeout = 10 * time.Second // for the headers of a request, so that half-open connections end
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	stopTimeout   = 10 * time.Second // for answers under way when the gateway stops
)

// New checks the settings and listens on every address, so that an address that is taken is an error here; Run must be called to
// serve and to close them.
func New(q *queue.Queue, cfg Config) (*Gateway, error) {
	cfg.Listen = cmp.Or(cfg.Listen, DefaultListen)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &Gateway{
		q: q, cfg: cfg, metrics: newMetrics(), log: cfg.Logger, keys: newKeyring(cfg.Keys),
		begin: make(chan *tenant), ended: make(chan struct{}), tenants: map[job.Tenant]*tenant{},
		hidden: newHidden(), runnables: newKnownRunnable(), bodies: newBodies(), uploads: newUploads(), decoding: make(chan struct{}, mostDecoded),
	}
	g.catalogs = newCatalogs(q, g.runnables.forget)
	g.tunnel = newTunnel(q.HostPage, &g.catalogs.merging)
	g.leaving = make(chan struct{})
	g.hangUp = sync.OnceFunc(func() { close(g.leaving) })
	fallback := DefaultTenant
	if len(cfg.Keys) > 0 {
		fallback = ""
	}
	err := g.listen(cfg.Listen, fallback)
	for addr, tenant := range cfg.ListenAs {
		if err == nil {
			err = g.listen(addr, tenant)
		}
	}
	if err != nil {
		for _, l := range g.listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	if cfg.Registerer != nil {
		g.metrics.register(cfg.Registerer)
	}
	return g, nil
}

func (c *Config) check() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("the gateway cannot listen on %q: write host:port, such as %s", c.Listen, DefaultListen)
	}
	if len(c.Keys) == 0 && !loopback(host) {
		return fmt.Errorf("the gateway would serve everybody who can reach %s: give it keys (--gateway-keys acme=KEY), or have it listen on %s", c.Listen, DefaultListen)
	}
	for key, tenant := range c.Keys {
		if len(key) < shortestKey || !tenant.Valid() {
			return fmt.Errorf("the key of tenant %q is not usable: write tenant=KEY, the tenant with 1 to 64 of A-Z a-z 0-9 _ -, the key with at least %d characters", tenant, shortestKey)
		}
	}
	for addr, tenant := range c.ListenAs {
		if _, _, err := net.SplitHostPort(addr); err != nil || !tenant.Valid() {
			return fmt.Errorf("the gateway cannot listen on %q for tenant %q: write host:port=tenant, such as 127.0.0.1:8189=acme", addr, tenant)
		}
	}
	return nil
}

func (g *Gateway) listen(addr string, as job.Tenant) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("the gateway cannot listen: %w", err)
	}
	g.listeners = append(g.listeners, listener{l, as})
	return nil
}

// Addr is where the gateway listens: the address of Config.Listen, with the port that it got.
func (g *Gateway) Addr() string { return g.listeners[0].Addr().String() }

// AddrOf is the address of a listener of Config.ListenAs, with the port that it got; empty when there is none of this tenant.
func (g *Gateway) AddrOf(as job.Tenant) string {
	for _, l := range g.listeners[1:] {
		if l.tenant == as {
			return l.Addr().String()
		}
	}
	return ""
}

// Run serves until stop ends; then it takes no more requests, closes the websockets and finishes the answers under way, within
// 10 s and not longer than until kill ends.
func (g *Gateway) Run(stop, kill context.Context) error {
	serving, endTenants := context.WithCancel(kill)
	defer endTenants()
	var all errgroup.Group
	all.Go(func() error { return g.runTenants(serving) })
	var servers errgroup.Group
	failed, fail := context.WithCancel(stop)
	defer fail()
	for _, l := range g.listeners {
		servers.Go(func() error {
			defer fail()
			return g.serve(failed, kill, l)
		})
	}
	servers.Go(func() error {
		<-failed.Done()
		last, cancel := context.WithTimeout(kill, stopTimeout)
		defer cancel()
		g.endSockets(last)
		return nil
	})
	err := servers.Wait()
	g.bodies.storing.Wait()
	endTenants()
	return errors.Join(err, all.Wait())
}

// serve serves one listener.
func (g *Gateway) serve(stop, kill context.Context, l listener) error {
	srv := &http.Server{
		Handler: g.handler(l), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return kill },
		ErrorLog:    slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	srv.RegisterOnShutdown(g.hangUp)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the gateway on %s: %w", l.Addr(), err)
	case <-stop.Done():
	}
	last, cancel := context.WithTimeout(kill, stopTimeout)
	defer cancel()
	if srv.Shutdown(last) != nil { // answers under way were too slow
		_ = srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the gateway on %s: %w", l.Addr(), err)
	}
	return nil
}
