package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// gatewayFlags say where a gateway listens and for whom.
type gatewayFlags struct {
	Keys     gatewayKeys      `name:"gateway-keys" placeholder:"TENANT=KEY,…" help:"Keys of tenants for the gateway, or @FILE with one a line. Without keys every request is the default tenant's, and the gateway listens on this machine only."`
	ListenAs gatewayListeners `name:"gateway-listen-as" placeholder:"ADDR=TENANT,…" help:"Further addresses of the gateway, each for one tenant, for programs that cannot send a key."`
	Frontend string           `name:"gateway-frontend" type:"path" placeholder:"DIR" help:"Folder with ComfyUI's page, which the gateway serves: the static folder of the Python package comfyui-frontend-package."`

	Extensions gatewayExtensions `name:"gateway-extensions" placeholder:"all|none|PACK,…" unset:"all; none in a closed fleet" help:"Of which node packs of the hosts the gateway serves the scripts, which ComfyUI's page runs with the tenant's key: all, none, or only those that are named."`
}

// config is that of a gateway on an address. In a closed fleet a host is not trusted with the keys of tenants, so that scripts of its node
// packs are served only when the operator says so. In an open one whoever reaches NATS may do everything anyhow.
func (f *gatewayFlags) config(listen string, closed bool, log *slog.Logger, registry prometheus.Registerer) gateway.Config {
	extensions := f.Extensions.Extensions
	if closed && !f.Extensions.given {
		extensions.Off = true
	}
	return gateway.Config{Listen: listen, Keys: f.Keys, ListenAs: f.ListenAs, Frontend: f.Frontend, Extensions: extensions, Logger: log, Registerer: registry}
}

// gatewayKeys are keys and the tenants that they stand for.
type gatewayKeys map[string]job.Tenant

// UnmarshalText reads acme=KEY,bolt=KEY, or @file with one pair a line.
func (k *gatewayKeys) UnmarshalText(text []byte) error {
	list, separator := string(text), ","
	if file, isFile := strings.CutPrefix(list, "@"); isFile {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the keys of the gateway: %w", err)
		}
		list, separator = string(content), "\n"
	}
	keys := gatewayKeys{}
	for one := range strings.SplitSeq(list, separator) {
		if one = strings.TrimSpace(one); one == "" || strings.HasPrefix(one, "#") {
			continue
		}
		tenant, key, found := strings.Cut(one, "=")
		if !found || !job.Tenant(tenant).Valid() || key == "" {
			return errors.New("a key of the gateway has not the form tenant=KEY; write them like acme=KEY1,bolt=KEY2")
		}
		if other, taken := keys[key]; taken && other != job.Tenant(tenant) {
			return fmt.Errorf("tenants %s and %s have the same key; give each its own", other, tenant)
		}
		keys[key] = job.Tenant(tenant)
	}
	*k = keys
	return nil
}

// gatewayListeners are addresses and their tenants.
type gatewayListeners map[string]job.Tenant

// UnmarshalText reads 127.0.0.1:8189=acme,127.0.0.1:8190=bolt.
func (l *gatewayListeners) UnmarshalText(text []byte) error {
	listeners := gatewayListeners{}
	for one := range strings.SplitSeq(string(text), ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		addr, tenant, _ := strings.Cut(one, "=")
		if !strings.Contains(addr, ":") || !job.Tenant(tenant).Valid() {
			return fmt.Errorf("%q is not an address with a tenant; write it like 127.0.0.1:8189=acme", one)
		}
		listeners[addr] = job.Tenant(tenant)
	}
	*l = listeners
	return nil
}

// gatewayExtensions are the node packs whose scripts a gateway serves.
type gatewayExtensions struct {
	gateway.Extensions
	given bool
}

// UnmarshalText reads all, none, or the names of packs.
func (e *gatewayExtensions) UnmarshalText(text []byte) error {
	*e = gatewayExtensions{given: true}
	for one := range strings.SplitSeq(string(text), ",") {
		one = strings.TrimSpace(one)
		switch {
		case one == "":
		case one == "all" || one == "none":
			if strings.TrimSpace(string(text)) != one {
				return fmt.Errorf("%q must be alone; write all, none, or the names of node packs, as rgthree-comfy,ComfyUI-KJNodes", one)
			}
			e.Off = one == "none"
		case strings.ContainsAny(one, `/\`):
			return fmt.Errorf("%q is no node pack; write the names of their folders in custom_nodes, as rgthree-comfy,ComfyUI-KJNodes", one)
		default:
			e.Packs = append(e.Packs, one)
		}
	}
	return nil
}

// gatewayCmd runs a gateway beside a fleet.
type gatewayCmd struct {
	client
	daemon.LogFlags `embed:"" group:"log"`

	Gateway string `default:"127.0.0.1:8188" placeholder:"ADDR" help:"Where the gateway listens; beyond this machine it needs keys. Port 0 is any free one."`
	gatewayFlags
	HTTP string `name:"http" placeholder:"ADDR" unset:"off" help:"Serve /healthz, /readyz and /metrics here, as :8080."`
}

// Help is shown after the flags.
func (*gatewayCmd) Help() string {
	return `Programs that were written for ComfyUI are pointed at the gateway in place of a ComfyUI: its web page, scripts, and the Comfy
API v2. Any number of gateways may serve one fleet; in a closed one NATS_CREDS is a file of ` + "`dispatcher access gateway`" + `.
Put the keys into the environment, where ps does not show them.

Examples:
  dispatcher gateway
  COMFYHERD_GATEWAY_KEYS=acme=KEY1,bolt=KEY2 dispatcher gateway --gateway 0.0.0.0:8188
  dispatcher gateway --gateway-listen-as 127.0.0.1:8189=acme`
}

// Run serves until it is stopped.
func (g *gatewayCmd) Run(ctx context.Context, c *daemon.Console) error {
	log, err := g.Logger(c.Err)
	if err != nil {
		return err
	}
	stop, kill, release := daemon.Signals(ctx)
	defer release()
	g.gateway = true
	q, done, err := g.open(stop, c)
	if err != nil {
		return daemon.UnlessStopped(stop, err)
	}
	defer done()
	registry := daemon.Registry("gateway")
	served, err := gateway.New(q, g.config(g.Gateway, g.Holder() != "", log, registry))
	if err != nil {
		return err
	}
	c.Say("gateway   http://%s", served.Addr())
	ready := func() (bool, string) { return q.Connected(), "NATS cannot be reached" }
	return daemon.UnlessStopped(stop, daemon.Together(stop, kill, served.Run, g.HTTP, ready, registry))
}

// gateway makes the gateway of `dispatcher run`; nil when there is none. It is on by default when NATS is in this process, since
// then this command alone is the whole fleet, but the default address may be taken, as by a ComfyUI. Where NATS asks for
// credentials, a gateway without keys would let everybody on this machine in, so it needs keys there.
func (r *runCmd) gateway(q *queue.Queue, l *link, c *daemon.Console, log *slog.Logger, registry prometheus.Registerer) (*gateway.Gateway, error) {
	addr := r.Gateway
	if addr == "off" || addr == "" && l.server == nil {
		return nil, nil
	}
	if l.guard.closed() && len(r.Keys) == 0 {
		if addr != "" || len(r.ListenAs) > 0 { // with these, too, the first address would be for everybody
			return nil, errors.New("NATS asks for credentials and the gateway would not: give --gateway-keys, as acme=KEY, or leave out --gateway and --gateway-listen-as")
		}
		c.Say("gateway   off, since NATS asks for credentials and the gateway would not; give it --gateway-keys")
		return nil, nil
	}
	if addr == "" {
		addr = gateway.DefaultListen
	}
	served, err := gateway.New(q, r.config(addr, l.guard != nil && l.guard.folder != nil || r.Holder() != "", log, registry))
	if r.Gateway == "" && errors.Is(err, syscall.EADDRINUSE) {
		c.Say("gateway   off, since %s is taken, perhaps by ComfyUI; choose another address with --gateway", addr)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.Say("gateway   http://%s for programs that were written for ComfyUI; --gateway off turns it off", served.Addr())
	return served, nil
}

// comfyAddress is where an example has ComfyUI listen: where it does by itself, unless the gateway has that address.
func comfyAddress(served *gateway.Gateway) string {
	if served != nil && served.Addr() == gateway.DefaultListen {
		return "127.0.0.1:8189"
	}
	return gateway.DefaultListen
}

// beside runs the gateway beside the dispatcher; when one of them ends, the other is stopped.
func beside(served *gateway.Gateway, run func(stop, kill context.Context) error) func(stop, kill context.Context) error {
	if served == nil {
		return run
	}
	return func(stop, kill context.Context) error {
		stop, finish := context.WithCancel(stop)
		defer finish()
		var both errgroup.Group
		for _, one := range []func(stop, kill context.Context) error{run, served.Run} {
			both.Go(func() error {
				defer finish()
				return one(stop, kill)
			})
		}
		return both.Wait()
	}
}
