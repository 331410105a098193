package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/jetstream"
)

// startOwn starts a nats-server of one's own that includes the folder's configuration, and a dispatcher on it.
func startOwn(t *testing.T) *closed {
	t.Helper()
	folder, err := natsserver.InitAccess(t.TempDir())
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
	if !s.ReadyForConnections(testTimeout) {
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
	late := f.creds(f.folder.Tenant("acme", natsserver.TenantSettings{}))
	f.creds(f.folder.Agent("gpu-1", natsserver.AgentSettings{}))
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
	f.host("gpu-1", natsserver.AgentSettings{})
	acme, _ := f.as(late, nil)
	f.runs(acme, "acme", "one")

	if err := f.folder.Revoke("tenant-acme"); err != nil {
		t.Fatal(err)
	}
	f.push()
	f.eventually("acme is cut off", func() bool { return !acme.IsConnected() })
}

// A tenant puts a file with nothing but its credentials, a host of the closed fleet brings it to the job without a consumer, and
// the tenant gets what the job has made. Another tenant gets neither.
func TestFilesOfATenantGoInAndOutOfAClosedFleet(t *testing.T) {
	t.Parallel()
	f := startClosed(t, names("gpu-1")...)
	big := append(pngOf(t, rgb(0x00ff00)), make([]byte, 3<<20)...) // trailing bytes are no part of the picture
	acme, _ := f.tenant("acme")
	own := jetstream.NewClient(acme, "acme")
	if _, err := own.PutFile(f.context(), "acme/in/cat.png", "image/png", bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	spec := loads(job.Input{Object: "acme/in/cat.png"})
	spec.ID = "loads"
	f.publish(acme, "acme", spec)
	var done job.Event
	if err := json.Unmarshal(f.next(events, ".loads.completed").Data, &done); err != nil || len(done.Outputs) == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	made := done.Outputs[0]
	from, file, err := own.OpenFile(f.context(), made.Object, 0)
	if err != nil || file.Digest != made.Digest || file.Size != made.Size {
		t.Fatalf("the job's file is %+v, %v; its event says %+v", file, err, made)
	}
	if n, err := io.Copy(io.Discard, from); errors.Join(err, from.Close()) != nil || n != made.Size { // the digest is compared
		t.Errorf("%d bytes of %d, %v", n, made.Size, err)
	}
	bolt, _ := f.tenant("bolt")
	other := jetstream.NewClient(bolt, "bolt")
	for _, name := range []string{made.Object, "acme/in/cat.png"} {
		_, err := other.StatFile(f.context(), name)
		if _, bad := errors.AsType[*jetstream.BadRequest](err); !bad {
			t.Errorf("bolt asks for %s: %v", name, err)
		}
	}
	if _, err := other.PutFile(f.context(), "acme/in/cat.png", "", bytes.NewReader(big)); err == nil {
		t.Error("bolt has replaced a file of acme's")
	}
	operator, _ := f.as(f.folder.Operator())
	if _, err := operator.RequestWithContext(f.context(), "comfy.api.tenants", []byte(`{"tenant":"bolt","max_file_bytes":1048576}`)); err != nil {
		t.Fatal(err)
	}
	f.eventually("bolt may put no more than it is set", func() bool {
		_, err := other.PutFile(f.context(), "bolt/in/cat.png", "", bytes.NewReader(big))
		return err != nil && strings.Contains(err.Error(), "dispatcher tenants set bolt --max-file-bytes")
	})
}
