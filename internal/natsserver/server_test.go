package natsserver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func startServer(t *testing.T, cfg natsserver.Config) *natsserver.Server {
	t.Helper()
	s, err := natsserver.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.Timeout(10 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// addStream makes a stream through JetStream's own API subject.
func addStream(t *testing.T, nc *nats.Conn, name, config string) {
	t.Helper()
	reply, err := nc.Request("$JS.API.STREAM.CREATE."+name, []byte(config), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(reply.Data), `"error"`) {
		t.Fatalf("create stream: %s", reply.Data)
	}
}

// publish stores a message and fails the test unless the stream acknowledges it.
func publish(t *testing.T, nc *nats.Conn, subject, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		reply, err := nc.Request(subject, []byte(body), time.Second)
		if err == nil && strings.Contains(string(reply.Data), `"seq"`) {
			return
		}
		// Between two leaders there is no answer; ask again until the deadline.
		select {
		case <-ctx.Done():
			t.Fatalf("publish on %s: no ack within a minute, last error %v", subject, err)
		case <-time.After(pause):
		}
	}
}

func lastMessage(t *testing.T, nc *nats.Conn, stream, subject string) string {
	t.Helper()
	reply, err := nc.Request("$JS.API.DIRECT.GET."+stream, []byte(`{"last_by_subj":"`+subject+`"}`), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return string(reply.Data)
}

func TestJobsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir, SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	nc := connect(t, first.URL())
	addStream(t, nc, "S", `{"name":"S","subjects":["s.>"],"storage":"file","allow_direct":true}`)
	publish(t, nc, "s.a", "kept")
	nc.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := startServer(t, natsserver.Config{Port: -1, StoreDir: dir})
	nc = connect(t, second.URL(), second.ConnectOptions()...)
	if got := lastMessage(t, nc, "S", "s.a"); got != "kept" {
		t.Fatalf("after the restart: %q", got)
	}
}

func TestEightMebibytesFitIntoAMessage(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	nc := connect(t, s.URL())
	if got := nc.MaxPayload(); got != 8388608 {
		t.Fatalf("max payload %d", got)
	}
}

func TestTakenPortIsRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	_, err = natsserver.Start(natsserver.Config{Port: port, StoreDir: dir})
	if !errors.Is(err, natsserver.ErrPortTaken) || !strings.Contains(err.Error(), "NATS_URL=nats://"+l.Addr().String()) {
		t.Fatalf("got %v", err)
	}
	// The failed start left the directory free.
	startServer(t, natsserver.Config{Port: -1, StoreDir: dir})
}

func TestStoreDirectoryBelongsToOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startServer(t, natsserver.Config{Port: -1, StoreDir: dir})
	_, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: dir})
	if !errors.Is(err, natsserver.ErrStoreInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
}

func TestUnusableStoreDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ dir, want string }{
		"NoneGiven":        {"", "no store directory given"},
		"BelowAFile":       {filepath.Join(file, "store"), filepath.Join(file, "store")},
		"JetStreamIsAFile": {broken, "storage directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: tc.dir})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestServerLinesGoToTheLogger(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	if !strings.Contains(out.String(), "nats-server: Server is ready") {
		t.Fatalf("no ready line in %s", out.String())
	}
}
