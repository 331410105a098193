package daemon_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func healthy() (bool, string)   { return true, "2 hosts online" }
func unhealthy() (bool, string) { return false, "NATS is away" }

func TestEndpointsAnswer(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	jobs := prometheus.NewCounter(prometheus.CounterOpts{Name: "comfyherd_jobs_total"})
	registry.MustRegister(jobs)
	jobs.Inc()
	for name, tc := range map[string]struct {
		health func() (bool, string)
		path   string
		code   int
		want   string
	}{
		"Alive":             {unhealthy, "/healthz", 200, "ok"},
		"Ready":             {healthy, "/readyz", 200, "2 hosts online"},
		"NotReady":          {unhealthy, "/readyz", 503, "NATS is away"},
		"Metrics":           {healthy, "/metrics", 200, "comfyherd_jobs_total 1"},
		"NothingElse":       {healthy, "/", 404, ""},
		"NotEvenInsideThis": {healthy, "/metrics/x", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			daemon.Handler(tc.health, registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, tc.path, http.NoBody))
			body, err := io.ReadAll(w.Result().Body)
			if err != nil {
				t.Fatal(err)
			}
			if w.Code != tc.code || !strings.Contains(string(body), tc.want) {
				t.Fatalf("%d %s", w.Code, body)
			}
		})
	}
}

func TestHealthOfAProcessIsAsked(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	good := httptest.NewServer(daemon.Handler(healthy, registry))
	t.Cleanup(good.Close)
	bad := httptest.NewServer(daemon.Handler(unhealthy, registry))
	t.Cleanup(bad.Close)
	_, port, err := net.SplitHostPort(good.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ addr, want, wantErr string }{
		"URL":          {good.URL, "2 hosts online", ""},
		"HostAndPort":  {good.Listener.Addr().String(), "2 hosts online", ""},
		"PortOnly":     {":" + port, "2 hosts online", ""},
		"AnyAddress":   {"0.0.0.0:" + port, "2 hosts online", ""},
		"NotHealthy":   {bad.URL, "", "not healthy: NATS is away"},
		"NobodyThere":  {"127.0.0.1:1", "", "is it running, with --http 127.0.0.1:1?"},
		"NoAddress":    {"", "", "--http :8080"},
		"NoPort":       {"localhost", "", "give host:port"},
		"UnusableHost": {"http://bad host", "", "bad host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := daemon.CheckHealth(t.Context(), tc.addr)
			if got != tc.want {
				t.Errorf("got %q", got)
			}
			if (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	if err := daemon.HTTP(t.Context(), "", healthy, nil); err != nil {
		t.Fatalf("an empty address is no error: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	registry := prometheus.NewRegistry()
	if err := daemon.HTTP(t.Context(), addr, healthy, registry); err == nil || !strings.Contains(err.Error(), "choose another address with --http") {
		t.Fatalf("a taken address: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	asked := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- daemon.HTTP(ctx, addr, healthy, registry) }()
	go func() {
		defer close(asked)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := daemon.CheckHealth(ctx, addr); err == nil || ctx.Err() != nil {
				return
			}
		}
	}()
	<-asked
	if ctx.Err() != nil {
		t.Fatal("no answer within 20 s")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Metrics may take longer than a stop waits, and that must not look like a failed process.
func TestAnAnswerThatTakesTooLongDoesNotFailTheStop(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := func() (bool, string) {
		once.Do(func() { close(asked) })
		<-release
		return true, "late"
	}
	defer close(release)
	done := make(chan error, 1)
	go func() { done <- daemon.HTTP(ctx, addr, slow, prometheus.NewRegistry()) }()
	go func() {
		for asking := true; asking; { // until the port is there
			_, err := daemon.CheckHealth(t.Context(), addr)
			asking = err != nil && strings.Contains(err.Error(), "is it running") && t.Context().Err() == nil && ctx.Err() == nil
		}
	}()
	<-asked
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the stop fails: %v", err)
	}
}
