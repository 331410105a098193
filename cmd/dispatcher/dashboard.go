package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// dashboardCmd serves the page beside a fleet that runs elsewhere.
type dashboardCmd struct {
	client
	daemon.LogFlags `embed:"" group:"log"`

	Dashboard string `placeholder:"ADDR" unset:"127.0.0.1:8080" help:"Where to serve the page. Port 0 is any free one."`
	pageFlags
	HTTP string `name:"http" placeholder:"ADDR" unset:"off" help:"Serve /healthz, /readyz and /metrics here, as :8081."`
}

// Help is shown after the flags.
func (*dashboardCmd) Help() string {
	return `Any number of these may run beside one fleet; NATS_CREDS is then a file of ` + "`dispatcher access operator`" + `.

Examples:
  dispatcher dashboard
  COMFYHERD_DASHBOARD_AUTH=look:GUESTS-WORD,act:OPERATORS-WORD dispatcher dashboard --dashboard 0.0.0.0:8080`
}

// Validate refuses a page that everybody could use.
func (d *dashboardCmd) Validate() error {
	_, err := d.check(cmp.Or(d.Dashboard, usualPage))
	return err
}

// Run serves until it is stopped.
func (d *dashboardCmd) Run(ctx context.Context, c *daemon.Console) error {
	log, err := d.Logger(c.Err)
	if err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	addr := cmp.Or(d.Dashboard, usualPage)
	l, err := listenPage(stop, addr)
	if err != nil {
		return err
	}
	q, done, err := d.open(stop, c)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer done()
	registry := daemon.Registry("dashboard")
	page, err := d.page(q, addr, log, registry)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	c.Say("page      %s", d.address(l))
	c.Say("stop      Ctrl-C")
	run := func(stop, _ context.Context) error { return page.Run(stop, l) }
	ready := func() (bool, string) { return q.Connected(), "NATS cannot be reached" }
	return daemon.UnlessStopped(stop, daemon.Together(stop, kill, run, d.HTTP, ready, registry))
}

// usualPage is where the page is when no address is given.
const usualPage = "127.0.0.1:8080"

// pageFlags say who may see the page.
type pageFlags struct {
	DashboardAuth string `placeholder:"SECRETS" unset:"none, which only works on this machine" help:"Passwords or tokens for the page, separated by commas. A plain one may do everything, look:SECRET may only look, tenant/NAME:SECRET concerns one tenant. The word none lets everybody in who reaches it. Set it in the environment, where ps does not show it."`
	TraceURL      string `name:"trace-url" placeholder:"URL" unset:"none" help:"Where a trace is found, with {trace} in place of its id, as https://tempo.example.com/trace/{trace}. The page of a job then has a link to it."`
	DashboardURL  string `name:"dashboard-url" placeholder:"URL" help:"Where viewers find the page when a proxy is before it, as https://herd.example.com/page/."`
}

// openToAll is the value of --dashboard-auth with which the page asks for no password anywhere.
const openToAll = "none"

// check refuses an address that others reach when nothing protects the page there.
func (p *pageFlags) check(addr string) (dashboard.Keys, error) {
	if p.DashboardURL != "" {
		if _, err := p.outside(); err != nil {
			return nil, err
		}
	}
	if p.TraceURL != "" {
		if err := p.checkTrace(); err != nil {
			return nil, err
		}
	}
	if p.DashboardAuth == openToAll {
		return nil, nil
	}
	keys, err := dashboard.ParseKeys(p.DashboardAuth)
	if err != nil {
		return nil, fmt.Errorf("--dashboard-auth: %w", err)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--dashboard %q is not an address; write it like 127.0.0.1:8080 or 0.0.0.0:8080", addr)
	}
	const hint = "set COMFYHERD_DASHBOARD_AUTH to a password, as one of `openssl rand -hex 16`, or to none when something else asks for one"
	switch {
	case len(keys) > 0:
	case host == "" || host != "localhost" && !onlyHere(host):
		return nil, fmt.Errorf("--dashboard %s can be reached from other machines, and whoever reaches the page can cancel jobs: %s", addr, hint)
	case p.DashboardURL != "":
		return nil, fmt.Errorf("--dashboard-url %s says that others reach the page through a proxy, and whoever reaches the page can cancel jobs: %s", p.DashboardURL, hint)
	}
	return keys, nil
}

func (p *pageFlags) outside() (*url.URL, error) {
	u, err := url.Parse(p.DashboardURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--dashboard-url %q is not an address of a page; write it like https://herd.example.com/page/", p.DashboardURL)
	}
	return u, nil
}

// tracePlaceholder stands for the id of a trace in --trace-url.
const tracePlaceholder = "{trace}"

func (p *pageFlags) checkTrace() error {
	u, err := url.Parse(strings.ReplaceAll(p.TraceURL, tracePlaceholder, "0"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !strings.Contains(p.TraceURL, tracePlaceholder) {
		return fmt.Errorf("--trace-url %q is not an address with {trace} in it; write it like https://tempo.example.com/trace/{trace}", p.TraceURL)
	}
	return nil
}

func (p *pageFlags) page(q *queue.Queue, addr string, log *slog.Logger, registry prometheus.Registerer) (*dashboard.Dashboard, error) {
	keys, err := p.check(addr)
	if err != nil {
		return nil, err
	}
	cfg := dashboard.Config{Keys: keys, Version: daemon.Version(), Logger: log, Trace: p.TraceURL, Registerer: registry}
	if p.DashboardURL != "" {
		if cfg.URL, err = p.outside(); err != nil {
			return nil, err
		}
	}
	return dashboard.New(q, cfg)
}

// address is what a person opens.
func (p *pageFlags) address(l net.Listener) string {
	return cmp.Or(p.DashboardURL, pageAddress(l))
}

func pageAddress(l net.Listener) string {
	host, port, _ := net.SplitHostPort(l.Addr().String()) // a listener's address has both
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

func listenPage(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken; choose another address with --dashboard", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("serve the page: %w; give --dashboard an address of this machine, as %s", err, usualPage)
	}
	return l, nil
}

// runPageFlags are those of the page in the process of a dispatcher.
type runPageFlags struct {
	Dashboard string `placeholder:"ADDR|off" unset:"127.0.0.1:8080 when NATS is embedded and asks for no credentials, else off" help:"Serve the page here. When the port is taken, the dispatcher runs without the page and says so."`
	pageFlags
}

// Validate refuses a page that everybody could use.
func (r *runPageFlags) Validate() error {
	if r.Dashboard == "" || r.Dashboard == "off" {
		return nil
	}
	_, err := r.check(r.Dashboard)
	return err
}

// pagePlace is the process that a page runs in.
type pagePlace struct {
	nats *link
	http string // the address of --http
	q    *queue.Queue
	c    *daemon.Console
	log  *slog.Logger

	registry prometheus.Registerer
}

// where is the address of the page, or empty and why there is none.
func (r *runPageFlags) where(in *pagePlace) (addr, why string) {
	switch {
	case r.Dashboard == "off":
		return "", ""
	case r.Dashboard != "":
		return r.Dashboard, ""
	case in.nats.server == nil:
		return "", ""
	case in.nats.guard.closed():
		return "", "none, since NATS asks for credentials and the page would not; give --dashboard " + usualPage + " and set COMFYHERD_DASHBOARD_AUTH"
	case strings.HasSuffix(in.http, usualPage[strings.LastIndexByte(usualPage, ':'):]):
		return "", "none, since --http has its port; give --dashboard 127.0.0.1:8081"
	}
	return usualPage, ""
}

// beside gives run with the page beside it, when there is one. The dispatcher goes on when the page cannot be served.
func (r *runPageFlags) beside(ctx context.Context, in *pagePlace, run func(stop, kill context.Context) error) (func(stop, kill context.Context) error, error) {
	addr, why := r.where(in)
	if addr == "" {
		if why != "" {
			in.c.Say("page      %s", why)
		}
		return run, nil
	}
	page, err := r.page(in.q, addr, in.log, in.registry)
	if err != nil {
		return nil, err
	}
	l, err := listenPage(ctx, addr)
	if err != nil {
		in.c.Say("page      none: %v", err)
		return run, nil
	}
	in.c.Say("page      %s", r.address(l))
	return func(stop, kill context.Context) error {
		serving, end := context.WithCancel(kill)
		var served sync.WaitGroup
		defer served.Wait()
		defer end()
		served.Go(func() {
			if err := page.Run(serving, l); err != nil {
				in.log.Error("the server of the dashboard has ended", "error", err)
			}
		})
		return run(stop, kill)
	}, nil
}

// servePage serves the page on this machine, at the usual port if it is free, until end is called.
func servePage(ctx context.Context, q *queue.Queue, log *slog.Logger) (address string, end func() error, err error) {
	page, err := dashboard.New(q, dashboard.Config{Version: daemon.Version(), Logger: log})
	if err != nil {
		return "", nil, err
	}
	l, err := listenPage(ctx, usualPage)
	if err != nil {
		l, err = listenPage(ctx, "127.0.0.1:0")
	}
	if err != nil {
		return "", nil, err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- page.Run(serving, l) }()
	return pageAddress(l), func() error {
		stop()
		return <-served
	}, nil
}
