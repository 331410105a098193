package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// openTimeout bounds the connection and the look at the streams.
const openTimeout = 15 * time.Second

// client are the flags of a command that asks a running fleet. It makes no stream.
type client struct {
	daemon.NATSFlags `embed:"" group:"nats"`

	gateway bool // the command is a gateway
}

// open connects and opens the streams, for those who look after the fleet; done closes what open opened.
func (f *client) open(ctx context.Context, c *daemon.Console) (q *queue.Queue, done func(), err error) {
	if own := f.OwnTenant(); own != "" {
		return nil, nil, fmt.Errorf("this needs the credentials of an operator (`dispatcher access operator`): those of tenant %s are for its own jobs, "+
			"with submit, status, why, cancel, watch, queue, jobs, wait, fetch and dead", own)
	}
	if err := f.mayAsk(); err != nil {
		return nil, nil, err
	}
	a, err := f.connect(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if q, err = a.queue(ctx); err != nil {
		a.close()
		return nil, nil, err
	}
	return q, a.close, nil
}

// connect connects and opens nothing else.
func (f *client) connect(ctx context.Context, c *daemon.Console) (*asker, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	nc, err := daemon.Connect(ctx, f.NATS("dispatcher-cli", daemon.Logger(c.Err, slog.LevelWarn, false)))
	if err != nil {
		return nil, err
	}
	return &asker{nc: nc, flags: f, own: f.OwnTenant() != ""}, nil
}

// asTenant connects to ask for the jobs of a tenant, that of the credentials when none is named.
func (f *client) asTenant(ctx context.Context, c *daemon.Console, named string) (*asker, *jetstream.Client, error) {
	tenant, err := f.allowed(named)
	if err != nil {
		return nil, nil, err
	}
	a, err := f.connect(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return a, a.of(tenant), nil
}

// asker is a connection to a running fleet.
type asker struct {
	nc    *nats.Conn
	flags *client
	own   bool         // with a tenant's credentials, which are good for its calls and nothing else
	q     *queue.Queue // nil until it is needed
}

// of asks for the jobs of a tenant.
func (a *asker) of(tenant job.Tenant) *jetstream.Client { return jetstream.NewClient(a.nc, tenant) }

// queue opens the streams.
func (a *asker) queue(ctx context.Context) (*queue.Queue, error) {
	if a.q != nil {
		return a.q, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	f := &a.flags.NATSFlags
	var err error
	a.q, err = queue.Open(ctx, a.nc, queue.Config{Domain: f.Domain, APIPrefix: f.APIPrefix(), NoConsumers: f.NoConsumers(), NoRemovals: f.NoRemovals(), ReadOnly: true})
	return a.q, err
}

// instead opens the streams when a call found no dispatcher and there is another way to what it is about; else it gives
// the call's error.
func (a *asker) instead(ctx context.Context, err error) (*queue.Queue, error) {
	if a.own || !errors.Is(err, nats.ErrNoResponders) {
		return nil, err
	}
	return a.queue(ctx)
}

func (a *asker) close() {
	if a.q != nil {
		a.q.Close()
	}
	a.nc.Close()
}

// tenantFlags are the flags of a command about the jobs of one tenant.
type tenantFlags struct {
	client
	Tenant string `placeholder:"NAME" unset:"the tenant of the credentials, else default" help:"The tenant whose jobs are meant."`
}

const defaultTenant = "default"

// whose is the tenant that the command is about. With a tenant's credentials there is no other.
func (f *tenantFlags) whose() (job.Tenant, error) { return f.allowed(f.Tenant) }

// allowed is a tenant by its name; empty is that of the credentials, else the default. The dispatchers will be asked about it.
func (f *client) allowed(name string) (job.Tenant, error) {
	if err := f.mayAsk(); err != nil {
		return "", err
	}
	return f.named(name)
}

func (f *client) named(name string) (job.Tenant, error) {
	own := f.OwnTenant()
	switch {
	case name == "" && own == "":
		return defaultTenant, nil
	case name == "" || name == own:
		return job.Tenant(own), nil
	case !job.Tenant(name).Valid():
		return "", fmt.Errorf("%q is not a tenant name; give 1 to 64 of A-Z a-z 0-9 _ -", name)
	case own != "":
		return "", fmt.Errorf("NATS_CREDS has the credentials of tenant %s, which do not work for tenant %s; use those of %[2]s, or leave the tenant out", own, name)
	}
	return job.Tenant(name), nil
}

// mayAsk refuses credentials that no dispatcher answers, before NATS refuses each subject and the answer is waited for.
func (f *client) mayAsk() error {
	switch holder := f.Holder(); {
	case holder == "gateway" && !f.gateway:
		return errors.New("these are the credentials of a gateway, which only work for `dispatcher gateway`; set NATS_CREDS to those of a tenant or an operator")
	case !f.NoConsumers():
		return nil
	case holder == "watcher":
		return errors.New("these are the credentials of a watcher, which only work for `dispatcher watch`; set NATS_CREDS to those of a tenant or an operator")
	default:
		return fmt.Errorf("these are the credentials of %s, which only work for its agent; set NATS_CREDS to those of a tenant or an operator", holder)
	}
}

// ref reads a job as a person names it: its id, or tenant/id.
func (f *tenantFlags) ref(text string) (jobRef, error) {
	name, id, found := strings.Cut(text, "/")
	if !found {
		name, id = f.Tenant, text
	}
	tenant, err := f.allowed(name)
	if err != nil {
		return jobRef{}, err
	}
	if !job.ID(id).Valid() {
		return jobRef{}, fmt.Errorf("%q is not a job id; give 1 to 120 of A-Z a-z 0-9 _ -, or tenant/id", text)
	}
	return jobRef{tenant: tenant, id: job.ID(id)}, nil
}

func (f *tenantFlags) refs(texts []string) ([]jobRef, error) {
	refs := make([]jobRef, 0, len(texts))
	for _, text := range texts {
		ref, err := f.ref(text)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// jobRef is a job of a tenant.
type jobRef struct {
	tenant job.Tenant
	id     job.ID
}

// word is how a person names the job on the command line.
func (r jobRef) word() string {
	if r.tenant == defaultTenant {
		return string(r.id)
	}
	return string(r.tenant) + "/" + string(r.id)
}

func (r jobRef) missing() error {
	return fmt.Errorf("tenant %s has no job %s; events are kept for a limited time, and `dispatcher dead show %s` shows one that died longer ago; "+
		"name its tenant with --tenant", r.tenant, r.id, r.word())
}
