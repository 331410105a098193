//go:build unix

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Settings with which faults are noticed quickly.
const (
	ackWait       = 3 * time.Second
	presenceTTL   = 2 * time.Second
	cooldown      = 2 * time.Second
	cooldownCap   = 4 * time.Second
	park          = 5 * time.Second
	capableWait   = 3 * time.Second
	freezeTimeout = 3 * time.Second

	testTimeout = 90 * time.Second // the longest wait for anything that must happen
)

// shape is the number and kind of a fleet's processes.
type shape struct {
	servers     int        // NATS servers; 3 is a cluster with three replicas
	dispatchers int        // d1, d2, …
	agents      [][]string // the hosts of a1, a2, …

	clocks map[string]string // of processes whose clock is wrong, in the form of clockVariable
}

func (s shape) hosts() []string { return slices.Concat(s.agents...) }

// fleet is a complete comfyherd of real processes on loopback.
type fleet struct {
	t      *testing.T
	shape  shape
	dir    string
	reaper *reaper
	all    []*process
	by     map[string]*process
	ports  []int
	peers  []string
	addrs  map[string]string // of hosts
	proxys map[string]*proxy // of agents
	nc     *nats.Conn
	q      *queue.Queue
	client *http.Client
}

// start starts a fleet and waits until all its hosts are online.
func start(t *testing.T, s shape) *fleet {
	t.Helper()
	f := &fleet{
		t: t, shape: s, by: map[string]*process{}, addrs: map[string]string{}, proxys: map[string]*proxy{},
		client: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	command(t, "dispatcher")
	began := time.Now()
	f.dir = logFolder(t)
	f.reaper = startReaper(t)
	t.Cleanup(f.close)
	f.startNATS()
	f.startHosts()
	f.startDispatchers()
	f.connect()
	f.startAgents()
	f.eventually("all hosts are online", func(ctx context.Context) bool {
		hosts, err := f.q.Hosts(ctx)
		online := 0
		for _, h := range hosts {
			if h.State == queue.Online {
				online++
			}
		}
		return err == nil && online == len(s.hosts())
	})
	t.Logf("the fleet was up after %v", time.Since(began).Round(time.Millisecond))
	return f
}

// logFolder is kept when the test fails, or when CHAOS_KEEP is set.
func logFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "comfyherd-"+t.Name()+"-") //nolint:usetesting // the logs stay when the test fails
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("CHAOS_KEEP") != "" {
			t.Logf("the logs of all processes are kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func (f *fleet) begin(p *process) {
	f.t.Helper()
	f.by[p.name] = p
	p.setClock(f.shape.clocks[p.name])
	if err := p.start(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) startNATS() {
	f.t.Helper()
	f.ports = freePorts(f.t, 2*f.shape.servers)
	for i := range f.shape.servers {
		f.peers = append(f.peers, "nats-route://127.0.0.1:"+strconv.Itoa(f.ports[f.shape.servers+i]))
	}
	for i := range f.shape.servers {
		name := fmt.Sprintf("n%d", i+1)
		s := natsSettings{Name: name, Port: f.ports[i], Store: filepath.Join(f.dir, "store-"+name)}
		if f.shape.servers > 1 {
			s.Route, s.Peers = f.ports[f.shape.servers+i], f.peers
		}
		f.begin(f.helper("nats", name, s))
	}
	f.awaitNATS()
}

func (f *fleet) startHosts() {
	f.t.Helper()
	ports := freePorts(f.t, len(f.shape.hosts()))
	for i, host := range f.shape.hosts() {
		f.addrs[host] = "127.0.0.1:" + strconv.Itoa(ports[i])
		f.begin(f.helper("sim", host, simSettings{Name: host, Addr: f.addrs[host], Journal: f.journal(host), Seed: uint64(i)}))
	}
}

func (f *fleet) journal(host string) string { return filepath.Join(f.dir, host+".runs") }

// servers are the client addresses of NATS.
func (f *fleet) servers() []string {
	var all []string
	for i := range f.shape.servers {
		all = append(all, "127.0.0.1:"+strconv.Itoa(f.ports[i]))
	}
	return all
}

func (f *fleet) url() string {
	var all []string
	for i := range f.shape.servers {
		all = append(all, natsURL(f.ports[i]))
	}
	return strings.Join(all, ",")
}

func (f *fleet) startDispatchers() {
	f.t.Helper()
	for i := range f.shape.dispatchers {
		name := fmt.Sprintf("d%d", i+1)
		p := f.process(name, command(f.t, "dispatcher"), "run", "--nats-url", f.url(), "--name", name, "--retry",
			"--log-level", "debug", "--ack-wait", ackWait.String(), "--presence-ttl", presenceTTL.String(),
			"--cooldown", cooldown.String(), "--cooldown-cap", cooldownCap.String(), "--park", park.String(),
			"--capable-wait", capableWait.String())
		if f.shape.servers > 1 {
			p.args = append(p.args, "--replicas", strconv.Itoa(f.shape.servers))
		}
		f.begin(p)
	}
}

func (f *fleet) startAgents() {
	f.t.Helper()
	for i, hosts := range f.shape.agents {
		name := fmt.Sprintf("a%d", i+1)
		f.proxys[name] = startProxy(f.t, f.servers()...)
		var named []string
		for _, host := range hosts {
			named = append(named, host+"=http://"+f.addrs[host])
		}
		f.begin(f.process(name, command(f.t, "agent"), "--nats-url", "nats://"+f.proxys[name].addr(),
			"--comfy-hosts", strings.Join(named, ","), "--retry", "--log-level", "debug", "--drain", "8s",
			"--freeze-timeout", freezeTimeout.String(), "--start-timeout", "5s", "--node-timeout", "4s"))
	}
}

// connect waits until a dispatcher has made the streams.
func (f *fleet) connect() {
	f.t.Helper()
	f.nc = f.dial("checker")
	f.eventually("the streams are there", func(ctx context.Context) bool {
		q, err := queue.Open(ctx, f.nc, queue.Config{ReadOnly: true})
		if err == nil {
			f.q = q
		}
		return err == nil
	})
}

func (f *fleet) dial(name string) *nats.Conn {
	f.t.Helper()
	nc, err := nats.Connect(f.url(), nats.Name(name), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(10*time.Millisecond, 0), nats.Timeout(2*time.Second))
	if err != nil {
		f.t.Fatal(err)
	}
	return nc
}

// close ends all processes that still run.
func (f *fleet) close() {
	for _, p := range f.all {
		p.kill()
	}
	if f.q != nil {
		f.q.Close()
	}
	if f.nc != nil {
		f.nc.Close()
	}
	for _, p := range f.proxys {
		p.close()
	}
	f.client.CloseIdleConnections()
	if err := f.reaper.close(); err != nil {
		f.t.Errorf("reaper: %v", err)
	}
}

// agentOf gives the agent of a host.
func (f *fleet) agentOf(host string) string {
	for i, hosts := range f.shape.agents {
		if slices.Contains(hosts, host) {
			return fmt.Sprintf("a%d", i+1)
		}
	}
	return ""
}

// eventually calls done until it returns true.
func (f *fleet) eventually(what string, done func(context.Context) bool) {
	f.t.Helper()
	if !f.within(testTimeout, done) {
		f.t.Fatalf("waited %v in vain until %s", testTimeout, what)
	}
}

func (f *fleet) within(limit time.Duration, done func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		once, cancelOnce := context.WithTimeout(ctx, 3*time.Second)
		yes := done(once)
		cancelOnce()
		if yes {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// addFaults sets faults on a host. A host that does not answer is down already, so an error is ignored.
func (f *fleet) addFaults(host string, faults ...comfysim.Fault) {
	body, err := json.Marshal(faults)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.post(host, "/sim/faults", body)
}

func (f *fleet) post(host, path string, body []byte) bool {
	answer, err := f.client.Post("http://"+f.addrs[host]+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// backlog counts what a host runs or will run.
func (f *fleet) backlog(host string) (int, error) {
	answer, err := f.client.Get("http://" + f.addrs[host] + "/queue")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var queue struct {
		Running []json.RawMessage `json:"queue_running"`
		Pending []json.RawMessage `json:"queue_pending"`
	}
	err = json.NewDecoder(answer.Body).Decode(&queue)
	return len(queue.Running) + len(queue.Pending), err
}

// The ports that are tried lie below those that operating systems choose by themselves, and beside those of comfysim: while a process
// is down no other program gets its port by chance.
const lowestPort, manyPorts = 25_000, 5_000

var (
	firstPort  = rand.IntN(manyPorts) // random, so that test processes that run at the same time differ
	triedPorts atomic.Int64           // none is found twice
)

// freePorts finds n ports.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, 0, n)
	for len(ports) < n {
		tried := int(triedPorts.Add(1))
		if tried > manyPorts {
			t.Fatal("no port is free")
		}
		port := lowestPort + (firstPort+tried)%manyPorts
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}
