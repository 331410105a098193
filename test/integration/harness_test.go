package integration_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// nats.go 1.55 leaks a goroutine when an object is stored so fast that the store's publisher is cleaned up before its
// goroutine has read the channel of the connection's states: it then waits on a nil channel for ever.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", fleets); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"), // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
		// Of two clients that create one stream at the same moment each may make NATS open a store, of which it closes the last only.
		// A NATS that a test forgets to close has other goroutines too.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

// fleet is a complete comfyherd in this process: NATS on disk, dispatchers, agents, simulated ComfyUI over sockets.
type fleet struct {
	t     *testing.T
	nats  *natsserver.Server
	cfg   queue.Config
	q     *queue.Queue
	nc    *nats.Conn
	sims  map[string]*comfysim.Server
	stops []func()

	foreign bool

	purged int    // dead letters that the test has removed
	dir    string // of NATS' files; empty when the test has a server of its own
	url    string // of NATS

	options []nats.Option // of every connection
	log     io.Writer     // what dispatchers and agents log, down to debug; nil: errors, on standard error
}

type setup struct {
	dispatchers int // 0: the test starts its own
	config      dispatcher.Config
	jetstream   queue.Config
	agent       agent.Config
	hosts       []comfysim.Config // by Name
	noAgents    bool
	foreign     bool // the test writes into chains itself, so the invariants are not checked
	log         io.Writer
}

// testTimeout is the longest wait for an event; a test that needs it all has failed. It is more than two leases of the default length: a
// delivery or an answer that is lost while the machine stands still is repeated when they have run out.
const testTimeout = 75 * time.Second

func start(t *testing.T, s setup) *fleet {
	t.Helper()
	f := &fleet{t: t, cfg: s.jetstream, sims: map[string]*comfysim.Server{}, dir: t.TempDir(), log: s.log}
	f.startNATS(-1)
	f.url = f.nats.URL()
	t.Cleanup(func() {
		if err := f.nats.Close(); err != nil {
			t.Error(err)
		}
	})
	return f.start(s)
}

// startNATS starts the fleet's server on its files, for the first time on any port.
func (f *fleet) startNATS(port int) {
	f.t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: port, StoreDir: f.dir})
	if err != nil {
		f.t.Fatal(err)
	}
	f.nats = server
}

// restartNATS stops the server, calls meanwhile, and starts it again at its old address. It returns when the test's connection is
// restored, so that later requests of the test are not lost.
func (f *fleet) restartNATS(meanwhile func()) {
	f.t.Helper()
	before := f.nc.Stats().Reconnects
	if err := f.nats.Close(); err != nil {
		f.t.Fatal(err)
	}
	meanwhile()
	at, err := url.Parse(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		f.t.Fatal(err)
	}
	f.startNATS(port)
	f.eventually("connected again", func() bool { return f.nc.Stats().Reconnects > before && f.nc.IsConnected() })
}

// start starts everything but NATS.
func (f *fleet) start(s setup) *fleet {
	t := f.t
	t.Helper()
	f.foreign = s.foreign
	t.Cleanup(func() {
		for i := len(f.stops) - 1; i >= 0; i-- {
			f.stops[i]()
		}
		if f.q != nil { // else it could not be opened
			f.q.Close()
			f.nc.Close()
		}
		for _, sim := range f.sims {
			sim.Close()
		}
	})
	f.nc, f.q = f.connect()
	for _, cfg := range s.hosts {
		sim, err := comfysim.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f.sims[cfg.Name] = sim
		if !s.noAgents {
			f.agent(cfg.Name, sim.URL(), s.agent)
		}
	}
	if !s.noAgents {
		f.awaitPresence(len(s.hosts))
	}
	for range s.dispatchers {
		f.dispatcher(s.config)
	}
	t.Cleanup(f.checkInvariants)
	return f
}

// awaitPresence waits until n hosts are online in NATS. A dispatcher that starts afterwards has read them before it takes its first
// job.
func (f *fleet) awaitPresence(n int) {
	f.t.Helper()
	f.eventually("hosts online", func() bool {
		hosts, err := f.q.Hosts(f.context())
		return err == nil && n <= count(hosts, func(h queue.HostState) bool { return h.State == queue.Online })
	})
}

func count[T any](all []T, fits func(T) bool) int {
	n := 0
	for _, v := range all {
		if fits(v) {
			n++
		}
	}
	return n
}

func (f *fleet) connect() (*nats.Conn, *queue.Queue) {
	f.t.Helper()
	return f.connectTo(f.url)
}

func (f *fleet) connectTo(url string) (*nats.Conn, *queue.Queue) {
	f.t.Helper()
	options := append([]nats.Option{nats.Timeout(10 * time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, f.options...)
	nc, err := nats.Connect(url, options...)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	q, err := queue.Open(ctx, nc, f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return nc, q
}

func (f *fleet) logger() *slog.Logger {
	if f.log != nil {
		return slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	level := slog.LevelError
	if os.Getenv("COMFYHERD_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// actor runs a dispatcher or an agent on a connection of its own and returns what kills it.
func (f *fleet) actor(build func(q *queue.Queue) func(stop, kill context.Context) error) (stop, kill func()) {
	f.t.Helper()
	return f.actorOn(f.url, build)
}

func (f *fleet) actorOn(url string, build func(q *queue.Queue) func(stop, kill context.Context) error) (stop, kill func()) {
	f.t.Helper()
	nc, q := f.connectTo(url)
	run := build(q)
	stopCtx, stopIt := context.WithCancel(context.Background())
	killCtx, killIt := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := run(stopCtx, killCtx); err != nil {
			f.t.Errorf("actor ended: %v", err)
		}
	})
	end := sync.OnceFunc(func() {
		done.Wait()
		q.Close()
		nc.Close()
	})
	stop = func() { stopIt(); end(); killIt() }
	kill = func() { stopIt(); killIt(); end() }
	f.stops = append(f.stops, kill)
	return stop, kill
}

// dispatcher starts one and waits until it takes jobs.
func (f *fleet) dispatcher(cfg dispatcher.Config) (stop, kill func()) {
	f.t.Helper()
	var ready func() (bool, string)
	stop, kill = f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		cfg.Logger = f.logger()
		d, err := dispatcher.New(q, cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		ready = d.Ready
		return d.Run
	})
	f.eventually("a ready dispatcher", func() bool {
		is, _ := ready()
		return is
	})
	return stop, kill
}

func (f *fleet) agent(name, url string, cfg agent.Config) (stop, kill func()) {
	f.t.Helper()
	return f.agentOf(agent.HostConfig{Name: name, URL: url}, cfg)
}

func (f *fleet) agentOf(host agent.HostConfig, cfg agent.Config) (stop, kill func()) {
	f.t.Helper()
	return f.agentOn(f.url, host, cfg)
}

// agentOn starts an agent that reaches NATS at another address than the rest.
func (f *fleet) agentOn(url string, host agent.HostConfig, cfg agent.Config) (stop, kill func()) {
	f.t.Helper()
	return f.actorOn(url, func(q *queue.Queue) func(stop, kill context.Context) error {
		cfg.Hosts = []agent.HostConfig{host}
		cfg.Logger = f.logger()
		a, err := agent.New(q, cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		return a.Run
	})
}

func (f *fleet) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	f.t.Cleanup(cancel)
	return ctx
}

// awaitHosts waits until the dispatchers list n hosts that are online.
func (f *fleet) awaitHosts(n int) {
	f.t.Helper()
	f.eventually("hosts online", func() bool {
		var answer queue.HostsAnswer
		if f.q.Call(f.context(), "hosts", struct{}{}, &answer) != nil {
			return false
		}
		online := 0
		for _, h := range answer.Hosts {
			if h.State == queue.Online && h.Capability > 0 {
				online++
			}
		}
		return online >= n
	})
}

// eventually calls done until it returns true. It is for changes of which there is no event.
func (f *fleet) eventually(what string, done func() bool) {
	f.t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("waited %v in vain: %s", testTimeout, what)
		}
	}
}

// reaches waits until a number is n; whenever the number has grown the wait may take testTimeout again.
func (f *fleet) reaches(what string, n int, number func() int) {
	f.t.Helper()
	for most := 0; most < n; {
		f.eventually(fmt.Sprintf("%s: more than %d of %d", what, most, n), func() bool {
			got := number()
			grown := got > most
			most = max(most, got)
			return grown
		})
	}
	if got := number(); got != n {
		f.t.Fatalf("%s: %d, want %d", what, got, n)
	}
}

// everyone waits until a call has given yes 20 times in a row, so that every dispatcher has most likely answered: NATS sends each call
// to any of them.
func (f *fleet) everyone(what string, done func() bool) {
	f.t.Helper()
	f.eventually(what, func() bool {
		for range 20 {
			if !done() {
				return false
			}
		}
		return true
	})
}

// quick is a policy whose cooldown fits into a test.
func quick() route.Policy {
	return route.Policy{Cooldown: 2 * time.Second, Cap: 8 * time.Second, MaxFailures: 1}
}

func names(hosts ...string) []comfysim.Config {
	configs := make([]comfysim.Config, len(hosts))
	for i, name := range hosts {
		configs[i] = comfysim.Config{Name: name}
	}
	return configs
}
