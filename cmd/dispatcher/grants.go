package main

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// grantTime bounds the writing of grants.
const grantTime = 10 * time.Second

func grantOf(given *natsserver.HostGrant) queue.HostGrant {
	g := queue.HostGrant{Slots: given.Slots, Time: given.Since}
	for _, tenant := range given.Tenants {
		g.Tenants = append(g.Tenants, job.Tenant(tenant))
	}
	return g
}

// grant stores for the dispatchers which tenants each host serves: at once all that the folder says, and from then on every
// change, before the server gets the account that it concerns.
func (g *guard) grant(ctx context.Context, q *queue.Queue) error {
	if g == nil || g.folder == nil {
		return nil
	}
	g.q.Store(q)
	given, err := g.folder.HostGrants()
	if err != nil {
		return err
	}
	for i := range given {
		if err := q.PutGrant(ctx, given[i].Host, grantOf(&given[i])); err != nil {
			return fmt.Errorf("store which tenants each host serves: %w", err)
		}
	}
	return nil
}

// rest stops storing changes of grants, which grant has begun.
func (g *guard) rest() {
	if g != nil {
		g.q.Store(nil)
	}
}

// granted stores what an account says of a host, once the streams are open.
func (g *guard) granted(ctx context.Context, token string) error {
	q := g.q.Load()
	if q == nil {
		return nil // grant stores it when the streams are open
	}
	given, is, err := natsserver.HostGrantIn(token)
	if err != nil || !is {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	return q.PutGrant(ctx, given.Host, grantOf(&given))
}

// pushGrants stores for the dispatchers of another nats-server which tenants each host serves, with a dispatcher's credentials.
func pushGrants(ctx context.Context, folder *natsserver.AccessFolder, to daemon.NATS) error {
	given, err := folder.HostGrants()
	if err != nil {
		return err
	}
	creds, err := folder.Dispatcher()
	if err != nil {
		return err
	}
	to.Creds, to.Options = creds, nil
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	nc, err := daemon.Connect(ctx, to)
	if err != nil {
		return err
	}
	defer nc.Close()
	granted := map[string]queue.HostGrant{}
	for i := range given {
		granted[given[i].Host] = grantOf(&given[i])
	}
	return queue.PutGrants(ctx, nc, queue.Config{}, granted)
}
