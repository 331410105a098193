package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// on is a fleet on a server that the test has started.
func on(t *testing.T, url string, s setup, options ...nats.Option) *fleet {
	t.Helper()
	f := &fleet{t: t, cfg: s.jetstream, sims: map[string]*comfysim.Server{}, url: url, options: options}
	return f.start(s)
}

// run starts a nats-server with JetStream and any options.
func run(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoSigs = "127.0.0.1", true
	if opts.Port == 0 {
		opts.Port = -1
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(testTimeout) {
		t.Fatal("nats-server is not ready")
	}
	return s
}

func TestAClusterOfThreeLosesOneServerAtATimeAndNoJob(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers in one process")
	}
	t.Parallel()
	c, err := natsserver.StartCluster(3, natsserver.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	f := on(t, c.URL(), setup{
		dispatchers: 2, hosts: names("a", "b"),
		jetstream: queue.Config{Replicas: 3, AckWait: 5 * time.Second, PresenceTTL: 5 * time.Second},
	})
	for _, stream := range []string{"COMFY_JOBS", "COMFY_EVENTS", "COMFY_DEAD", "KV_COMFY_WAITING", "KV_COMFY_BLOCKS", "OBJ_COMFY_OUTPUTS"} {
		var info struct {
			Config struct {
				Replicas int `json:"num_replicas"`
			}
		}
		f.request(nats.NewMsg("$JS.API.STREAM.INFO."+stream), &info)
		if info.Config.Replicas != 3 {
			t.Errorf("%s has %d replicas, want 3", stream, info.Config.Replicas)
		}
	}
	var jobs []jetstream.Receipt
	for round := range 3 {
		for range 8 {
			jobs = append(jobs, f.persist("acme", job.Spec{ID: job.ID(fmt.Sprintf("job-%d", len(jobs))), Workflow: sleep(len(jobs), 0.2)}))
		}
		lost := c.StreamLeader("COMFY_JOBS")
		if round > 0 {
			lost = (lost + 1) % 3
		}
		if err := c.Stop(max(0, lost)); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			jobs = append(jobs, f.persist("acme", job.Spec{ID: job.ID(fmt.Sprintf("job-%d", len(jobs))), Workflow: sleep(len(jobs), 0.2)}))
		}
		if err := c.Start(max(0, lost)); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("all jobs ended", func() bool {
		for _, r := range jobs {
			link, found, err := f.q.Last(f.context(), r.Tenant, r.Job)
			if err != nil || !found || !link.EventKind.Terminal() {
				return false
			}
		}
		return true
	})
	for _, r := range jobs {
		if link, _, err := f.q.Last(f.context(), r.Tenant, r.Job); err != nil || link.EventKind != job.Completed {
			t.Errorf("job %s ended %s: %s, %v", r.Job, link.EventKind, link.Message, err)
		}
	}
}

// persist submits a job as a careful publisher does: again until NATS has answered. Its id keeps it one job.
func (f *fleet) persist(tenant string, spec job.Spec) jetstream.Receipt {
	f.t.Helper()
	var r jetstream.Receipt
	f.eventually("a publish", func() bool {
		ctx, cancel := context.WithTimeout(f.context(), 2*time.Second)
		defer cancel()
		var err error
		r, err = f.q.Submit(ctx, lane(tenant), spec)
		return err == nil
	})
	return r
}

func TestNATSThatComesAndGoesAllTheTimeCostsNoJob(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b"), jetstream: shortLeases()})
	var jobs []jetstream.Receipt
	for n := range 5 {
		for range 6 {
			jobs = append(jobs, f.persist("acme", job.Spec{ID: job.ID(fmt.Sprintf("job-%d", len(jobs))), Workflow: sleep(len(jobs), 0.1)}))
		}
		f.await(jobs[3*n], job.Started)
		f.restartNATS(func() {})
	}
	f.drained()
	for _, r := range jobs {
		if end := f.end(r); end.EventKind != job.Completed {
			t.Errorf("job %s ended %s: %s", r.Job, end.EventKind, end.Message)
		}
	}
}

func TestADomainAndAPrefixLeadToTheSameQueue(t *testing.T) {
	t.Parallel()
	s := run(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), JetStreamDomain: "gpu"})
	f := on(t, s.ClientURL(), setup{
		dispatchers: 2, jetstream: queue.Config{Domain: "gpu"}, config: dispatcher.Config{Policy: quick()},
		hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Times: 1}}}, {Name: "b"}},
	})
	r := f.submit("acme", job.Spec{Workflow: inverted(0x010203, 1), PreferHosts: []string{"a"}})
	blocks := f.subscribe("comfy.events.blocks.a.*.unblocked")
	f.wantPicture(f.end(r), rgb(0xfefdfc))
	f.wantBlockOf("a", inverted(1, 1), "acme")
	if call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Host: "a"}).Count != 1 {
		t.Error("the block was not lifted")
	}
	f.next(blocks)
	other := *f
	other.cfg = queue.Config{APIPrefix: "$JS.gpu.API"}
	nc, q := other.connect()
	defer nc.Close()
	defer q.Close()
	if link, found, err := q.Last(f.context(), r.Tenant, r.Job); err != nil || !found || link.EventKind != job.Completed {
		t.Errorf("by the prefix the job is %s, %v, %v", link.EventKind, found, err)
	}
}

func TestAJetStreamWithoutRoomSaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts *server.Options
		cfg  queue.Config
	}{
		"File":   {&server.Options{JetStreamMaxStore: 3 << 20}, queue.Config{}},
		"Memory": {&server.Options{JetStreamMaxMemory: 3 << 20}, queue.Config{Memory: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.JetStream, tc.opts.StoreDir = true, t.TempDir()
			s := run(t, tc.opts)
			nc, err := nats.Connect(s.ClientURL(), nats.Timeout(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			q, err := queue.Open(ctx, nc, tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			big := graph(map[string]any{"1": node("SimText", "text", strings.Repeat("x", 400<<10))})
			for range 12 {
				if _, err = q.Submit(ctx, lane("acme"), job.Spec{Workflow: big}); err != nil {
					break
				}
			}
			if !errors.Is(err, jetstream.ErrNoSpace) || errors.Is(err, jetstream.ErrLaneFull) {
				t.Errorf("a publish beyond the store: %v", err)
			}
			wantNoRoom(t, q, strings.Repeat("x", 400<<10))
			wantNotReady(t, q, "JetStream has no space left")
		})
	}
}

// wantNoRoom checks that every other write that meets a full JetStream says so as well, for whoever reads the log.
func wantNoRoom(t *testing.T, q *queue.Queue, filler string) {
	t.Helper()
	ctx, hash := t.Context(), hashOf(t, picture(1))
	for name, write := range map[string]func() error{
		"AnEvent": func() error {
			_, err := q.Append(ctx, &job.Event{EventKind: job.Failed, Job: "x", Tenant: "acme", Message: filler}, 0, "test", "")
			return err
		},
		"ADeadLetter": func() error {
			_, err := q.Bury(ctx, &job.Message{Tenant: "acme", Body: []byte(filler)}, &job.Event{Job: "x", Tenant: "acme", Reason: string(failure.InvalidJob)}, 0)
			return err
		},
		"ATicket": func() error {
			_, err := q.PutTicket(ctx, &queue.Ticket{Priority: 5, Tenant: "acme", Hash: hash, Sequence: 1, Job: job.ID(filler)})
			return err
		},
		"ABlock": func() error {
			_, err := q.OpenBlock(ctx, "a", hash, []byte(filler), time.Minute)
			return err
		},
		"AFile": func() error {
			_, err := q.StoreOutput(ctx, "acme/x/9/out.png", "image/png", strings.NewReader(filler))
			return err
		},
	} {
		if err := write(); !errors.Is(err, jetstream.ErrNoSpace) || !strings.Contains(err.Error(), "raise the limits") {
			t.Errorf("%s beyond the store: %v", name, err)
		}
	}
}

// wantNotReady runs a dispatcher until it says why it does not do its work.
func wantNotReady(t *testing.T, q *queue.Queue, why string) {
	t.Helper()
	d, err := dispatcher.New(q, dispatcher.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, ctx) }()
	(&fleet{t: t}).eventually("not ready: "+why, func() bool {
		ready, says := d.Ready()
		return !ready && strings.HasPrefix(says, why)
	})
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestACopyNeedsACluster(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(run(t, &server.Options{JetStream: true, StoreDir: t.TempDir()}).ClientURL(), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err = queue.Open(t.Context(), nc, queue.Config{Replicas: 3}); err == nil || !strings.Contains(err.Error(), "leave --replicas out") {
		t.Errorf("three copies on one server: %v", err)
	}
}

func TestAStreamThatAnOperatorMadeSmallIsNotTakenForAFullLane(t *testing.T) {
	t.Parallel()
	f := start(t, setup{noAgents: true})
	var info struct{ Config map[string]any }
	f.request(nats.NewMsg("$JS.API.STREAM.INFO.COMFY_JOBS"), &info)
	info.Config["max_bytes"] = 10_000
	body, err := json.Marshal(info.Config)
	if err != nil {
		t.Fatal(err)
	}
	var updated struct{ Error any }
	f.request(&nats.Msg{Subject: "$JS.API.STREAM.UPDATE.COMFY_JOBS", Data: body}, &updated)
	if updated.Error != nil {
		t.Fatal(updated.Error)
	}
	text := graph(map[string]any{"1": node("SimText", "text", strings.Repeat("x", 6000))})
	first := f.submit("acme", job.Spec{Workflow: text})
	_, err = f.q.Submit(f.context(), lane("acme"), job.Spec{Workflow: text})
	if !errors.Is(err, jetstream.ErrNoSpace) || errors.Is(err, jetstream.ErrLaneFull) {
		t.Errorf("a publish beyond max_bytes: %v", err)
	}
	f.dispatcher(dispatcher.Config{})
	if _, err := f.q.Cancel(f.context(), first.Tenant, first.Job, "ops", true); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsOfEveryKindOpenTheQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The public half of testdata/user.nk, and an operator with an account of its own; they open nothing else.
	const nkey = "UBARYUO5Q4BGCOO2SQSK6GM4MID3HFWDZMV35N27NXTOHMGZXAC57OVP"
	operator, err := server.ProcessConfigFile(filepath.Join("testdata", "operator.conf"))
	if err != nil {
		t.Fatal(err)
	}
	ca, cert := certificate(t, dir)
	for name, tc := range map[string]struct {
		opts *server.Options
		as   daemon.NATS
	}{
		"NKey":  {&server.Options{Nkeys: []*server.NkeyUser{{Nkey: nkey}}}, daemon.NATS{NKey: filepath.Join("testdata", "user.nk")}},
		"Creds": {operator, daemon.NATS{Creds: filepath.Join("testdata", "user.creds")}},
		"User":  {&server.Options{Username: "herd", Password: "right"}, daemon.NATS{User: "herd", Password: "right"}},
		"Token": {&server.Options{Authorization: "right"}, daemon.NATS{Password: "right"}},
		"TLS":   {&server.Options{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, TLS: true}, daemon.NATS{CA: ca}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.JetStream, tc.opts.StoreDir = true, t.TempDir()
			s := run(t, tc.opts)
			tc.as.URL = s.ClientURL()
			nc, err := daemon.Connect(t.Context(), tc.as)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			q, err := queue.Open(t.Context(), nc, queue.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			if _, err := q.Submit(t.Context(), lane("acme"), job.Spec{Workflow: picture(1)}); err != nil {
				t.Error(err)
			}
			stranger := daemon.NATS{URL: s.ClientURL()}
			if nc, err := daemon.Connect(t.Context(), stranger); err == nil {
				nc.Close()
				t.Error("a stranger was let in")
			} else if len(err.Error()) < 40 {
				t.Errorf("a stranger hears %q", err)
			}
		})
	}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority.
func certificate(t *testing.T, dir string) (ca string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
