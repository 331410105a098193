package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

const (
	httpHeaderTimeout = 5 * time.Second
	httpIdleTimeout   = time.Minute
	httpStopTimeout   = 2 * time.Second

	// healthTimeout bounds one question of CheckHealth.
	healthTimeout = 3 * time.Second
)

// Together runs an actor and HTTP beside each other: when the port fails, the actor is stopped, and when the actor has
// ended, so does the port. run is stopped by its first context and ended at once by its second.
func Together(stop, kill context.Context, run func(stop, kill context.Context) error, addr string,
	health func() (ok bool, why string), registry *prometheus.Registry,
) error {
	stopping, finish := context.WithCancel(stop)
	defer finish()
	serving, hangUp := context.WithCancel(kill)
	defer hangUp()
	var both errgroup.Group
	both.Go(func() error {
		defer hangUp()
		return run(stopping, kill)
	})
	if addr != "" {
		both.Go(func() error {
			defer finish()
			return HTTP(serving, addr, health, registry)
		})
	}
	return both.Wait()
}

// HTTP serves Handler on addr (host:port, as given by --http) until ctx ends, then
// finishes the answers it is giving, within 2 s. An empty addr means off and returns at once.
// The error says that addr cannot be listened on, or what stopped the serving.
func HTTP(ctx context.Context, addr string, health func() (ok bool, why string), registry *prometheus.Registry) error {
	if addr == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("serve health and metrics: %s is taken; choose another address with --http: %w", addr, err)
	}
	if err != nil {
		return fmt.Errorf("serve health and metrics: %w; give --http an address of this machine, as :8080", err)
	}
	srv := &http.Server{
		Handler: Handler(health, registry), ReadHeaderTimeout: httpHeaderTimeout, IdleTimeout: httpIdleTimeout,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err = <-served:
		return fmt.Errorf("serve health and metrics on %s: %w", addr, err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
	defer cancel()
	err = srv.Shutdown(last)
	if errors.Is(err, context.DeadlineExceeded) { // an answer takes longer, such as metrics while NATS is away: it is given up
		err = srv.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Handler answers
//
//	/healthz   200 while the process serves: restart it when this fails
//	/readyz    200 and why, or 503 and why, from health: the process does its work
//	/metrics   the registry in Prometheus's text form
func Handler(health func() (ok bool, why string), registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, why := health()
		if ok {
			answer(w, http.StatusOK, why)
			return
		}
		answer(w, http.StatusServiceUnavailable, why)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // the client may have gone
}

// CheckHealth asks a process on this machine for /readyz. addr is what the process got
// as --http (":8080" and "0.0.0.0:8080" are asked on loopback), or a URL. It returns
// what the process says of itself, or an error when it is not ready or does not answer.
func CheckHealth(ctx context.Context, addr string) (string, error) {
	target, err := readyURL(addr)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("ask for health at %q: %w", addr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for health: %w; is it running, with --http %s?", err, addr)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", fmt.Errorf("read health from %s: %w", target, err)
	}
	why := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not healthy: %s (%s from %s)", why, resp.Status, target)
	}
	return why, nil
}

func readyURL(addr string) (string, error) {
	if addr == "" {
		return "", errors.New("no address to ask for health; start the process with --http :8080 and give the same here")
	}
	if strings.Contains(addr, "://") {
		return strings.TrimRight(addr, "/") + "/readyz", nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("read the address %q: %w; give host:port", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz", nil
}
