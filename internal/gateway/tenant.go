package gateway

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
)

// tenant is what a gateway has of one tenant in memory: its jobs, and the newest live messages of those that run.
type tenant struct {
	name    job.Tenant
	rows    *Rows
	live    *liveJobs
	streams streams // of the Comfy API v2
}

// tenant gives a tenant, which begins to follow its jobs with the first request.
func (g *Gateway) tenant(ctx context.Context, name job.Tenant) (*tenant, error) {
	g.mu.Lock()
	t := g.tenants[name]
	known := t != nil
	if !known {
		t = &tenant{name: name, rows: newRows(g.q, name), live: newLiveJobs()}
		g.tenants[name] = t
	}
	g.mu.Unlock()
	if known {
		return t, nil
	}
	select {
	case g.begin <- t:
		return t, nil
	case <-g.ended:
	case <-ctx.Done():
	}
	g.mu.Lock()
	delete(g.tenants, name)
	g.mu.Unlock()
	return nil, &failed{http503, "stopping", "this gateway is stopping: send the request again"}
}

// rowsOf gives a tenant's jobs, with everything that was stored when it was called.
func (g *Gateway) rowsOf(ctx context.Context, name job.Tenant) (*Rows, error) {
	t, err := g.tenant(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := t.rows.refresh(ctx); err != nil {
		return nil, fmt.Errorf("read the jobs of tenant %s: %w", name, err)
	}
	return t.rows, nil
}

// runTenants runs every tenant that a request has begun, until ctx ends.
func (g *Gateway) runTenants(ctx context.Context) error {
	defer close(g.ended)
	var all errgroup.Group
	for {
		select {
		case t := <-g.begin:
			all.Go(func() error {
				t.rows.follow(ctx, g.log)
				return nil
			})
			all.Go(func() error {
				t.live.follow(ctx, g.q, t.name, g.log)
				return nil
			})
			all.Go(func() error {
				t.live.sweep(ctx, t.rows)
				return nil
			})
		case <-ctx.Done():
			return all.Wait()
		}
	}
}

// closeSockets closes the websockets of all tenants, so that their clients connect elsewhere.
func (g *Gateway) closeSockets() {}
