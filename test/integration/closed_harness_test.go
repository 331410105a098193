package integration_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// closed is a fleet whose NATS takes only connections with credentials of one access folder.
type closed struct {
	*fleet
	folder *natsserver.AccessFolder
	config dispatcher.Config      // of the dispatcher
	agents agent.Config           // of each agent
	told   atomic.Pointer[string] // the token of the fleet's account that NATS got last; nil when follow is not used
}

// startClosed starts a fleet with a dispatcher and simulated hosts, each with an agent that has credentials of its own.
func startClosed(t *testing.T, hosts ...comfysim.Config) *closed {
	t.Helper()
	return startClosedWith(t, queue.Config{}, hosts...)
}

func startClosedWith(t *testing.T, cfg queue.Config, hosts ...comfysim.Config) *closed {
	t.Helper()
	return startClosedSetup(t, setup{jetstream: cfg, hosts: hosts})
}

// startClosedSetup also sets the dispatcher and the agents.
func startClosedSetup(t *testing.T, s setup) *closed {
	t.Helper()
	folder, err := natsserver.InitAccess(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &closed{fleet: &fleet{t: t, sims: map[string]*comfysim.Server{}, dir: t.TempDir()}, folder: folder, config: s.config, agents: s.agent}
	f.serve()
	f.url = f.nats.URL()
	t.Cleanup(func() {
		if err := f.nats.Close(); err != nil {
			t.Error(err)
		}
	})
	f.begin(s.jetstream, s.hosts...)
	return f
}

// begin starts everything but NATS.
func (f *closed) begin(cfg queue.Config, hosts ...comfysim.Config) {
	f.t.Helper()
	f.cfg = cfg
	f.options = []nats.Option{nats.UserCredentials(f.creds(f.folder.Dispatcher())), nats.CustomInboxPrefix("_INBOX_dispatcher")}
	f.start(setup{hosts: hosts, noAgents: true, foreign: true})
	for _, host := range hosts {
		f.host(host.Name, natsserver.AgentSettings{})
	}
	f.awaitPresence(len(hosts))
	f.dispatcher(f.config)
	f.awaitHosts(len(hosts))
}

// serve starts the server and gives it the changes of the folder, as `dispatcher run --access` does.
func (f *closed) serve() {
	f.t.Helper()
	f.follow(func(cfg natsserver.Config) (tell func(string) error, err error) {
		if f.nats, err = natsserver.Start(cfg); err != nil {
			return nil, err
		}
		return f.nats.UpdateAccount, nil
	})
}

// follow starts NATS and gives it the changes of the folder until the test ends.
func (f *closed) follow(start func(natsserver.Config) (tell func(token string) error, err error)) {
	f.t.Helper()
	access, err := f.folder.Access()
	if err != nil {
		f.t.Fatal(err)
	}
	f.creds(f.folder.Dispatcher())
	f.told.Store(f.fleetToken())
	tracker, err := f.folder.Track()
	if err != nil {
		f.t.Fatal(err)
	}
	tell, err := start(natsserver.Config{Port: -1, StoreDir: f.dir, Access: access})
	if err != nil {
		f.t.Fatal(err)
	}
	tellAll := func(token string) error {
		err := tell(token)
		if claims, bad := jwt.DecodeAccountClaims(token); err == nil && bad == nil && claims.Name == "fleet" {
			f.told.Store(&token)
		}
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := tracker.Run(ctx, tellAll, func(err error) { f.t.Logf("follow the folder: %v", err) })
		if !errors.Is(err, context.Canceled) {
			f.t.Errorf("follow the folder: %v", err)
		}
	}()
	f.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// fleetToken is the token of the fleet's account in the folder.
func (f *closed) fleetToken() *string {
	f.t.Helper()
	holders, err := f.folder.List()
	if err != nil {
		f.t.Fatal(err)
	}
	i := slices.IndexFunc(holders, func(h natsserver.Holder) bool { return h.Kind == natsserver.DispatcherHolder })
	token, err := f.folder.Account(holders[i].Account)
	if err != nil {
		f.t.Fatal(err)
	}
	return &token
}

// awaitFleet waits until NATS has the fleet's account as it is in the folder, since a new host changes it: while NATS applies it,
// answers to other accounts are lost.
func (f *closed) awaitFleet() {
	f.t.Helper()
	if f.told.Load() != nil {
		f.eventually("NATS knows the fleet's account as it is", func() bool { return *f.told.Load() == *f.fleetToken() })
	}
}

func (f *closed) creds(path string, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return path
}

// host gives a simulated host credentials and an agent.
func (f *closed) host(name string, s natsserver.AgentSettings) (stop, kill func()) {
	f.t.Helper()
	own := *f.fleet
	own.options = []nats.Option{nats.UserCredentials(f.creds(f.folder.Agent(name, s)))}
	own.cfg = queue.Config{APIPrefix: natsserver.JetStreamPrefix, NoConsumers: true} // as the credentials say
	f.eventually("NATS lets host "+name+" into the fleet", func() bool {
		nc, err := nats.Connect(f.url, own.options...)
		if err != nil {
			return false
		}
		defer nc.Close()
		q, err := queue.Open(f.context(), nc, own.cfg)
		if err != nil {
			return false
		}
		q.Close()
		return true
	})
	f.awaitFleet()
	stop, kill = own.agentOn(f.url, agent.HostConfig{Name: name, URL: f.sims[name].URL()}, f.agents)
	f.stops = append(f.stops, kill)
	return stop, kill
}

// give gives a host to tenants, as `dispatcher access agent --tenants` and `run --access` do.
func (f *closed) give(host string, s natsserver.AgentSettings) string {
	f.t.Helper()
	path := f.creds(f.folder.Agent(host, s))
	g := queue.HostGrant{Slots: s.Slots, Time: time.Now().UTC()}
	for _, tenant := range s.Tenants {
		g.Tenants = append(g.Tenants, job.Tenant(tenant))
	}
	if err := f.q.PutGrant(f.context(), host, g); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// as connects with credentials as our programs do; permission violations are sent to the channel.
func (f *closed) as(path string, err error) (*nats.Conn, <-chan error) {
	f.t.Helper()
	refused := make(chan error, 100)
	nc, err := daemon.Connect(f.context(), daemon.NATS{
		URL: f.url, Creds: f.creds(path, err),
		Options: []nats.Option{nats.Timeout(10 * time.Second), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			refused <- err
		})},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	f.awaitFleet()
	return nc, refused
}

func (f *closed) tenant(name string) (*nats.Conn, <-chan error) {
	f.t.Helper()
	return f.as(f.folder.Tenant(name, natsserver.TenantSettings{}))
}

// refusal waits for a permission violation that names a subject.
func (f *closed) refusal(refused <-chan error, subject string) {
	f.t.Helper()
	timer := time.NewTimer(testTimeout)
	defer timer.Stop()
	for {
		select {
		case err := <-refused:
			if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`) {
				return
			}
		case <-timer.C:
			f.t.Fatalf("nobody has refused %s", subject)
		}
	}
}
