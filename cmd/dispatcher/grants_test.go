package main_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) {
	t.Helper()
	var said strings.Builder
	if code := main.Run(t.Context(), args, strings.NewReader(""), &said, &said); code != 0 {
		t.Fatalf("%q ended with %d: %s", args, code, said.String())
	}
}

// given waits until the dispatchers know a host's grant, and reads it.
func given(t *testing.T, url, folder, host string) queue.HostGrant {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	creds := filepath.Join(folder, "creds", "dispatcher.creds")
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: url, Creds: creds})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var g queue.HostGrant
	found := errors.New("no grant")
	_ = q.WatchGrants(ctx, func(c queue.Change[queue.HostGrant]) { // it ends with ctx only
		if c.Phase == queue.Put && c.Key == host {
			g, found = c.Value, nil
			cancel()
		}
	})
	if found != nil {
		t.Fatalf("whose host %s is: %v", host, found)
	}
	return g
}

func wantGrant(t *testing.T, g queue.HostGrant, tenants string, slots int) {
	t.Helper()
	var names []string
	for _, tenant := range g.Tenants {
		names = append(names, string(tenant))
	}
	if got := strings.Join(names, ","); got != tenants || g.Slots != slots || g.Time.IsZero() {
		t.Errorf("given to %q with %d slots at %v, want %q with %d", got, g.Slots, g.Time, tenants, slots)
	}
}

func TestRunTellsTheDispatchersWhoseHostsAreWhoseAndWhatChanges(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "herd")
	must(t, "access", "init", folder)
	must(t, "access", "agent", folder, "gpu-1", "--tenants=bolt,acme", "--slots=2")
	g := runGuarded(t, t.TempDir(), "--access="+folder)
	wantGrant(t, given(t, g.url, folder, "gpu-1"), "acme,bolt", 2)
	must(t, "access", "agent", folder, "gpu-2")
	wantGrant(t, given(t, g.url, folder, "gpu-2"), "", 0)
}

func TestAPushTellsTheDispatchersOfANATSOfOnesOwn(t *testing.T) {
	t.Parallel()
	folder, dir := filepath.Join(t.TempDir(), "herd"), t.TempDir()
	must(t, "access", "init", folder)
	conf, err := os.ReadFile(filepath.Join(folder, "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	included := strings.Replace(string(conf), `"./accounts"`, `"`+filepath.ToSlash(dir)+`/accounts"`, 1)
	text := "listen: 127.0.0.1:-1\njetstream { store_dir: \"" + filepath.ToSlash(dir) + "\" }\ninclude \"herd.conf\"\n"
	for name, body := range map[string]string{"herd.conf": included, "main.conf": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
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
		t.Fatal("NATS does not start")
	}
	must(t, "access", "agent", folder, "gpu-1", "--tenants=acme")
	must(t, "access", "push", folder, "--url="+s.ClientURL())
	wantGrant(t, given(t, s.ClientURL(), folder, "gpu-1"), "acme", 0)
	nc, err := nats.Connect(s.ClientURL(), nats.UserCredentials(filepath.Join(folder, "creds", "agent-gpu-1.creds")))
	if err != nil {
		t.Fatalf("the host is not let in: %v", err)
	}
	nc.Close()
}
