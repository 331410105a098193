package natsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// clusterWait bounds how long a cluster may take to elect a leader or to catch up.
const clusterWait = 30 * time.Second

// pollEvery is the time between two reads of a cluster's state, since nats-server does not announce changes of it.
const pollEvery = 20 * time.Millisecond

// portTries is how often StartCluster chooses other ports when another process has taken one meanwhile.
const portTries = 3

// route is a server's place in a cluster; its zero value is a server alone.
type route struct {
	port  int
	peers []string // nats-route URLs of all servers
}

func (r route) apply(opts *server.Options) {
	if len(r.peers) == 0 {
		return
	}
	opts.Cluster = server.ClusterOpts{
		Name: "comfyherd", Host: DefaultHost, Port: r.port, NoAdvertise: true,
	}
	opts.Routes = server.RoutesFromStr(strings.Join(r.peers, ","))
}

// Cluster is a JetStream cluster inside this process, on loopback, one store directory
// per server. Its methods may be called from any goroutine.
type Cluster struct {
	cfgs   []Config // never changes after StartCluster
	routes []route  // never changes after StartCluster

	mu      sync.Mutex
	servers []*Server // nil where a server is stopped
}

// StartCluster starts n servers (three make an R3 cluster) with the settings of cfg
// and returns when they have a leader and all are current. Each keeps its data in its
// own directory below cfg.StoreDir; cfg.Port is ignored, every server takes a free one.
func StartCluster(n int, cfg Config) (*Cluster, error) {
	var err error
	for range portTries {
		var c *Cluster
		if c, err = startCluster(n, cfg); err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	return nil, fmt.Errorf("start a cluster of %d: %w", n, err)
}

func startCluster(n int, cfg Config) (*Cluster, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	c := &Cluster{servers: make([]*Server, n)}
	peers := make([]string, n)
	for i := range n {
		peers[i] = "nats-route://" + net.JoinHostPort(DefaultHost, strconv.Itoa(ports[n+i]))
	}
	for i := range n {
		one := cfg
		one.Name = fmt.Sprintf("comfyherd-%d", i)
		one.Host = DefaultHost
		one.Port = ports[i]
		one.StoreDir = filepath.Join(cfg.StoreDir, one.Name)
		c.cfgs = append(c.cfgs, one)
		c.routes = append(c.routes, route{port: ports[n+i], peers: peers})
	}
	if err := c.startAll(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) startAll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.servers {
		if err := c.startOne(i); err != nil {
			return err
		}
	}
	return c.awaitHealthy()
}

// startOne starts server i; c.mu is held.
func (c *Cluster) startOne(i int) error {
	if err := portFree(DefaultHost, c.routes[i].port); err != nil {
		return err
	}
	s, err := start(c.cfgs[i], c.routes[i])
	if err != nil {
		return fmt.Errorf("start server %d: %w", i, err)
	}
	c.servers[i] = s
	return nil
}

// awaitHealthy waits until one running server leads, knows the others, and all of them are current; c.mu is held.
func (c *Cluster) awaitHealthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), clusterWait)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !c.healthy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("cluster has no leader or is not current after %s: %w", clusterWait, ErrNotReady)
		}
	}
	return nil
}

// healthy must be called with c.mu held. It waits until the leader has every server's room: before that it places nothing on it.
func (c *Cluster) healthy() bool {
	var names, known []string
	for i, s := range c.servers {
		if s == nil {
			continue
		}
		if s.nats.Healthz(&server.HealthzOptions{}).Status != "ok" {
			return false
		}
		names = append(names, c.cfgs[i].Name)
		known = append(known, s.nats.JetStreamClusterPeers()...) // only the leader gives any
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(known, name) })
}

// Stop stops server i in good order: it hands over what it leads. Stopping a stopped one does nothing.
func (c *Cluster) Stop(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[i]
	if s == nil {
		return nil
	}
	c.servers[i] = nil
	return s.Close()
}

// Start starts server i again on its old ports and data, and returns when the running
// servers have a leader and all are current, or with ErrNotReady after 30 s, as when
// too few run for a majority. Starting a running one does nothing.
func (c *Cluster) Start(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[i] != nil {
		return nil
	}
	if err := c.startOne(i); err != nil {
		return err
	}
	return c.awaitHealthy()
}

// UpdateAccount is Server.UpdateAccount for every server that runs; one that starts later calls Access.Account for the token.
func (c *Cluster) UpdateAccount(token string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, s := range c.servers {
		if s != nil {
			errs = append(errs, s.UpdateAccount(token))
		}
	}
	return errors.Join(errs...)
}

// URL names all servers, stopped ones too, separated by commas as NATS_URL takes them.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.cfgs))
	for i, cfg := range c.cfgs {
		u := url.URL{Scheme: "nats", Host: net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))}
		urls[i] = u.String()
	}
	return strings.Join(urls, ",")
}

// Leader is the index of the server that leads JetStream's metadata, or -1 when none does.
func (c *Cluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s != nil && s.nats.JetStreamIsLeader() {
			return i
		}
	}
	return -1
}

// StreamLeader is the index of the server that leads a stream, or -1 when none does.
func (c *Cluster) StreamLeader(stream string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s != nil && s.nats.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

// Close stops all servers that run.
func (c *Cluster) Close() error {
	var errs []error
	for i := range c.cfgs {
		errs = append(errs, c.Stop(i))
	}
	return errors.Join(errs...)
}

// freePorts finds n free ports on loopback. All are held until the last is found, so they differ.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(DefaultHost, "0"))
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
