package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/access"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// startOwn starts a nats-server of one's own that includes the folder's configuration, and a dispatcher on it.
func startOwn(t *testing.T) *closed {
	t.Helper()
	folder, err := access.Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &closed{fleet: &fleet{t: t, sims: map[string]*comfysim.Server{}}, folder: folder}
	dispatcherCreds := f.creds(folder.Dispatcher())
	written, err := os.ReadFile(filepath.Join(folder.Dir(), "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	included := strings.Replace(string(written), `"./accounts"`, `"`+filepath.Join(dir, "accounts")+`"`, 1)
	main := "listen: 127.0.0.1:-1\nmax_payload: 8MB\njetstream { store_dir: \"" + dir + "\" }\ninclude \"herd.conf\"\n"
	for name, text := range map[string]string{"herd.conf": included, "main.conf": main} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "main.conf"))
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	f.url = s.ClientURL()
	f.options = []nats.Option{nats.UserCredentials(dispatcherCreds), nats.CustomInboxPrefix("_INBOX_dispatcher")}
	f.start(setup{noAgents: true, foreign: true})
	f.dispatcher(dispatcher.Config{})
	return f
}

// push tells the server what the folder holds, as `dispatcher access push` does.
func (f *closed) push() {
	f.t.Helper()
	token, seed, err := f.folder.System()
	if err != nil {
		f.t.Fatal(err)
	}
	nc, err := nats.Connect(f.url, nats.UserJWTAndSeed(token, seed), nats.Timeout(10*time.Second))
	if err != nil {
		f.t.Fatal(err)
	}
	defer nc.Close()
	if n, err := f.folder.Push(f.context(), nc); err != nil {
		f.t.Fatalf("after %d accounts: %v", n, err)
	}
}

func TestANATSOfOnesOwnHearsOfTenantsAndHostsByPush(t *testing.T) {
	t.Parallel()
	f := startOwn(t)
	late := f.creds(f.folder.Tenant("acme", access.TenantSettings{}))
	f.creds(f.folder.Agent("gpu-1", access.AgentSettings{}))
	if nc, err := nats.Connect(f.url, nats.UserCredentials(late)); err == nil {
		nc.Close()
		t.Fatal("a tenant that the server has not heard of is let in")
	}
	f.push()
	sim, err := comfysim.Start(comfysim.Config{Name: "gpu-1"})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["gpu-1"] = sim
	f.host("gpu-1", access.AgentSettings{})
	acme, _ := f.as(late, nil)
	f.runs(acme, "acme", "one")

	if err := f.folder.Revoke("tenant-acme"); err != nil {
		t.Fatal(err)
	}
	f.push()
	f.eventually("acme is cut off", func() bool { return !acme.IsConnected() })
}

// A host of a closed fleet brings inputs out of the object store without a consumer.
func TestInputsByObjectReachAHostOfAClosedFleet(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	big := append(pngOf(t, rgb(0x00ff00)), make([]byte, 3<<20)...) // trailing bytes are no part of the picture
	if _, err := f.q.StoreInput(f.context(), "acme/in/cat.png", "image/png", strings.NewReader(string(big))); err != nil {
		t.Fatal(err)
	}
	acme, _ := f.tenant("acme")
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	spec := loads(job.Input{Object: "acme/in/cat.png"})
	spec.ID = "loads"
	f.publish(acme, "acme", spec)
	f.next(events, ".loads.completed")
}
