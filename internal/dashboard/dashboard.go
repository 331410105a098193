package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// Config has the settings of a Dashboard. The zero value serves viewers on loopback, who may do everything.
type Config struct {
	URL     *url.URL     // where viewers find the page behind a proxy; nil: only at the listener's own address
	Keys    Keys         // who may see the page; without any, everybody who reaches it may do everything
	Version string       // of the program
	Trace   string       // address of a job's trace, with {trace} in place of its id; empty: there is none
	Logger  *slog.Logger // nil: no log

	Registerer prometheus.Registerer // nil: no metrics are exported

	MostViewers int           // streams at a time; 0: 256
	Slow        time.Duration // a viewer who takes nothing for so long is cut off; 0: 10 s
}

// Dashboard serves the page to browsers.
type Dashboard struct {
	q      *queue.Queue
	cfg    Config
	assets *assets
	hub    *hub
	shared shared
	thumbs memo[uint64, thumb]    // by the sequence of the job's last event
	lists  memo[string, []string] // the names in files of hosts' catalogues, by digest: hosts that are installed alike share them
	logins attempts
}

const (
	defaultViewers = 256

	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 2 * time.Second
	answerTimeout = 30 * time.Second // to read a request's body, make the answer and write it, when that is neither a stream nor a file
	mostHeader    = 32 << 10
)

// New makes a Dashboard of a fleet. Run serves it.
func New(q *queue.Queue, cfg Config) (*Dashboard, error) {
	cfg.MostViewers, cfg.Slow = cmp.Or(cfg.MostViewers, defaultViewers), cmp.Or(cfg.Slow, slowViewer)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	embedded, err := loadAssets()
	if err != nil {
		return nil, err
	}
	d := &Dashboard{q: q, cfg: cfg, assets: embedded, hub: newHub(q, cfg.Logger, cfg.MostViewers), shared: shared{now: time.Now}}
	d.thumbs.most, d.lists.most = thumbsKept, listsKept
	if cfg.Registerer != nil {
		d.hub.register(cfg.Registerer)
	}
	return d, nil
}

// Run serves the page on l until ctx ends, and closes l.
func (d *Dashboard) Run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(d.cfg.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve the dashboard on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		last, enough := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer enough()
		if err = srv.Shutdown(last); err != nil {
			err = srv.Close()
		}
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
	}
	cancel()
	d.hub.close()
	return err
}

// Handler answers a browser's requests. Streams of it end with the contexts of their requests; the hub ends with Run.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.shell)
	mux.HandleFunc("GET /assets/{hash}/{path...}", d.assets.serve)
	mux.HandleFunc("GET /icon/{count}", icon)
	mux.HandleFunc("GET /login", d.loginForm)
	mux.HandleFunc("POST /login", d.login)
	mux.HandleFunc("POST /logout", d.logout)
	mux.Handle("POST /api/v1/{call}", d.seen(d.call))
	mux.Handle("GET /api/v1/{call}", d.seen(d.call))
	mux.Handle("GET /live", d.seen(d.live))
	mux.Handle("GET /files/{name...}", d.seen(d.file))
	mux.Handle("GET /preview/{tenant}/{job}", d.seen(d.preview))
	return d.guarded(mux)
}
