package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// openTimeout bounds the connection and the look at the streams.
const openTimeout = 15 * time.Second

// client are the flags of a command that asks a running fleet. It makes no stream.
type client struct {
	daemon.NATSFlags `embed:"" group:"nats"`
}

// open connects; done closes what open opened.
func (f *client) open(ctx context.Context, c *console) (q *jetstream.Queue, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	nc, err := daemon.Connect(ctx, f.NATS("dispatcher-cli", daemon.Logger(c.err, slog.LevelWarn, false)))
	if err != nil {
		return nil, nil, err
	}
	q, err = jetstream.Open(ctx, nc, jetstream.Config{Domain: f.Domain, APIPrefix: f.APIPrefix(), NoConsumers: f.NoConsumers(), ReadOnly: true})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return q, func() {
		q.Close()
		nc.Close()
	}, nil
}

// tenantFlag is whose jobs a command is about.
type tenantFlag struct {
	Tenant string `default:"default" placeholder:"NAME" help:"Whose jobs (${default})."`
}

// jobRef is a job as a person names it: its id, or tenant/id.
type jobRef struct {
	tenant job.Tenant
	id     job.ID
}

func (f *tenantFlag) ref(text string) (jobRef, error) {
	ref := jobRef{tenant: job.Tenant(f.Tenant), id: job.ID(text)}
	if tenant, id, found := strings.Cut(text, "/"); found {
		ref = jobRef{tenant: job.Tenant(tenant), id: job.ID(id)}
	}
	if !ref.tenant.Valid() {
		return jobRef{}, fmt.Errorf("%q is no tenant name; use 1 to 64 of A-Z a-z 0-9 _ -", ref.tenant)
	}
	if !ref.id.Valid() {
		return jobRef{}, fmt.Errorf("%q is no job id; use 1 to 120 of A-Z a-z 0-9 _ -, or tenant/id", text)
	}
	return ref, nil
}

// word is how a person names the job on the command line.
func (r jobRef) word() string {
	if r.tenant == "default" {
		return string(r.id)
	}
	return string(r.tenant) + "/" + string(r.id)
}

func (r jobRef) missing() error {
	return fmt.Errorf("tenant %s has no job %s; events are kept for a limited time, and `dispatcher dead show %s` tells of one that died longer ago; "+
		"--tenant says whose job it is", r.tenant, r.id, r.word())
}
