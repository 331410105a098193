package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"), // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
		// http.DefaultClient keeps the connection of a health question for the next one.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// syncBuffer is a log that a test reads while others write to it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func natsServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = -1
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("server not ready")
	}
	return s
}

func TestConnectionIsNamedAndPatient(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{})
	nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: s.ClientURL(), Name: "dispatcher-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.Opts.Name != "dispatcher-1" || nc.Opts.MaxReconnect != -1 || nc.Opts.PingInterval != 10*time.Second ||
		nc.Opts.MaxPingsOut != 2 || nc.Opts.RetryOnFailedConnect {
		t.Fatalf("options %+v", nc.Opts)
	}
}

func TestReconnectWaitsAtMostTwoSeconds(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{})
	nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// Doubling from 100 ms, halved at the most by jitter.
	for rounds, ms := range []int{100, 100, 200, 400, 800, 1600, 2000, 2000} {
		most := time.Duration(ms) * time.Millisecond
		for range 100 {
			if got := nc.Opts.CustomReconnectDelayCB(rounds); got < most/2 || got > most {
				t.Fatalf("round %d: %s, want %s to %s", rounds, got, most/2, most)
			}
		}
	}
	if got := nc.Opts.CustomReconnectDelayCB(1 << 30); got > 2*time.Second {
		t.Fatalf("after many rounds: %s", got)
	}
}

func TestLossAndReturnAreLoggedOnce(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{})
	port := s.Addr().(*net.TCPAddr).Port
	var out syncBuffer
	nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: s.ClientURL(), Log: daemon.Logger(&out, slog.LevelInfo, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	back := make(chan struct{})
	earlier := nc.ReconnectHandler()
	nc.SetReconnectHandler(func(nc *nats.Conn) {
		earlier(nc)
		close(back)
	})

	s.Shutdown()
	s.WaitForShutdown()
	natsServer(t, &server.Options{Port: port})
	select {
	case <-back:
	case <-time.After(20 * time.Second):
		t.Fatal("not back after 20 s")
	}
	log := out.String()
	if strings.Count(log, "WARN  connection to NATS lost, reconnecting") != 1 ||
		strings.Count(log, "INFO  connection to NATS is back  server="+s.ClientURL()+" times=1") != 1 ||
		strings.Count(log, "\n") != 2 {
		t.Fatalf("log:\n%s", log)
	}
}

func TestFailedConnectionSaysWhatToDo(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	guarded := natsServer(t, &server.Options{Username: "u", Password: "right"})
	guardedAt := strings.TrimPrefix(guarded.ClientURL(), "nats://")
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("no seed"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		n    daemon.NATS
		want string
		is   error
	}{
		"Refused": {
			daemon.NATS{URL: "nats://u:secret@" + free},
			"cannot reach NATS at nats://" + free + ": connection refused; start one with `dispatcher run --embedded` or set NATS_URL",
			nats.ErrNoServers,
		},
		"RefusedWithoutScheme": {daemon.NATS{URL: "u:secret@" + free + ", secret@" + free}, "at " + free + "," + free + ":", nats.ErrNoServers},
		"WrongPassword":        {daemon.NATS{URL: guarded.ClientURL(), User: "u", Password: "secret"}, "refuses these credentials; check NATS_CREDS", nats.ErrAuthorization},
		"WrongPasswordInURL":   {daemon.NATS{URL: "nats://u:secret@" + guardedAt}, "refuses these credentials", nats.ErrAuthorization},
		"WrongToken":           {daemon.NATS{URL: guarded.ClientURL(), Password: "secret"}, "refuses these credentials", nats.ErrAuthorization},
		"NoCredsFile":          {daemon.NATS{URL: guarded.ClientURL(), Creds: filepath.Join(dir, "none")}, "read the creds file: open " + filepath.Join(dir, "none"), os.ErrNotExist},
		"JunkSeed":             {daemon.NATS{URL: guarded.ClientURL(), NKey: junk}, "read the nkey seed file " + junk, nil},
		"TwoIdentities":        {daemon.NATS{URL: guarded.ClientURL(), NKey: junk, Creds: junk}, "use one of them", nil},
		"CertWithoutKey":       {daemon.NATS{URL: guarded.ClientURL(), Cert: junk}, "give both files", nil},
		"NoCA":                 {daemon.NATS{URL: guarded.ClientURL(), CA: filepath.Join(dir, "none")}, "read the authorities' PEM file: open " + filepath.Join(dir, "none"), os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := daemon.Connect(t.Context(), tc.n)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("%v is not %v", err, tc.is)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Fatalf("the error tells the password: %v", err)
			}
		})
	}
}

func TestRightPasswordIsAccepted(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{Username: "u", Password: "right"})
	nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: s.ClientURL(), User: "u", Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestEndedContextDoesNotConnect(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := daemon.Connect(ctx, daemon.NATS{URL: s.ClientURL()}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
