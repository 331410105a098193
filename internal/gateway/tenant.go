package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// tenant is what a gateway has of one tenant in memory: its jobs, and the newest live messages of those that run.
type tenant struct {
	name    job.Tenant
	rows    *Rows
	hub     *hub
	live    *liveJobs // of the Comfy API v2, as streams is
	streams streams
	hidden  *hidden
}

// tenant gives a tenant, which begins to follow its jobs with the first request.
func (g *Gateway) tenant(ctx context.Context, name job.Tenant) (*tenant, error) {
	g.mu.Lock()
	t := g.tenants[name]
	known := t != nil
	if !known {
		t = g.newTenant(name)
		g.tenants[name] = t
		if g.closing {
			t.hub.close()
		}
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

func (g *Gateway) newTenant(name job.Tenant) *tenant {
	t := &tenant{name: name, rows: newRows(g.q, name), live: newLiveJobs(), hidden: g.hidden}
	record := func(ctx context.Context, row *Row) (*hostRecord, error) { return g.hostRecord(ctx, name, row) }
	sendLast := func(id job.ID, attempt int) {
		_ = g.q.PublishFrame(name, &queue.Frame{Job: id, Attempt: attempt}) // without it the end comes a moment later
	}
	t.hub = newHub(t.rows, record, sendLast)
	return t
}

// find finds a job of the tenant as it is stored now; nil when there is none. Jobs that a gateway no longer lists are read from their
// events.
func (g *Gateway) find(ctx context.Context, of *tenant, id job.ID) (*Row, error) {
	if !id.Valid() {
		return nil, nil
	}
	of.rows.expire()
	row, known := of.rows.Row(id)
	if known && row.Ended() {
		return &row, nil
	}
	var chain []queue.Link
	var unread error
	read := func() { chain, unread = g.q.Chain(ctx, of.name, id) }
	var reading sync.WaitGroup
	if !known { // reading the chain at the same time misses nothing that was stored when the request came
		reading.Go(read)
	}
	err := of.rows.refresh(ctx)
	reading.Wait()
	if err != nil {
		return nil, fmt.Errorf("read the jobs of tenant %s: %w", of.name, err)
	}
	row, still := of.rows.Row(id)
	if still {
		return &row, nil
	}
	if known { // it has ended since, and is no longer listed
		read()
	}
	return chainRow(chain), unread
}

// chainRow is a job as its events have left it; nil when there are none.
func chainRow(chain []queue.Link) *Row {
	if len(chain) == 0 {
		return nil
	}
	var row Row
	for i := range chain {
		row = row.with(&chain[i].Event, chain[i].ChainSequence, chain[i].Stored)
	}
	return &row
}

// earlier finds a job of an id that a client has chosen for a new one; nil when there is none. It asks the streams once, at the same
// time: a job that lives for no longer than that may be missed, and then an id that comes twice is refused by its chain.
func (g *Gateway) earlier(ctx context.Context, of *tenant, id job.ID) (*Row, error) {
	if row, known := of.rows.Row(id); known {
		return &row, nil
	}
	var chain []queue.Link
	var unread error
	var reading sync.WaitGroup
	reading.Go(func() { chain, unread = g.q.Chain(ctx, of.name, id) })
	err := of.rows.scan(ctx)
	reading.Wait()
	if err := errors.Join(err, unread); err != nil {
		return nil, fmt.Errorf("look for an earlier job %s of tenant %s: %w", id, of.name, err)
	}
	if row, known := of.rows.Row(id); known {
		return &row, nil
	}
	return chainRow(chain), nil
}

// run keeps what a gateway has of a tenant up to date until ctx ends.
func (t *tenant) run(ctx context.Context, q *queue.Queue, log *slog.Logger) {
	var all sync.WaitGroup
	all.Go(func() { t.hub.run(ctx) })
	all.Go(func() { t.rows.follow(ctx, log) })
	all.Go(func() { t.live.follow(ctx, q, t.name, log) })
	all.Go(func() { t.live.forgetEnded(ctx, t.rows) })
	all.Go(func() {
		followAgain(ctx, log.With("tenant", t.name), "the frames of a tenant", func() error {
			return q.FollowFrames(ctx, t.name, func(f queue.Frame) { t.hub.frame(ctx, f) })
		})
	})
	all.Wait()
}

// runTenants runs every tenant that a request has begun, until ctx ends.
func (g *Gateway) runTenants(ctx context.Context) error {
	defer close(g.ended)
	var all errgroup.Group
	all.Go(func() error {
		followAgain(ctx, g.log, "what tenants hide", func() error { return g.q.WatchHidden(ctx, g.hid) })
		return nil
	})
	all.Go(func() error {
		g.catalogs.follow(ctx, g.log)
		return nil
	})
	for {
		select {
		case t := <-g.begin:
			all.Go(func() error {
				t.run(ctx, g.q, g.log)
				return nil
			})
		case <-ctx.Done():
			return all.Wait()
		}
	}
}

// followPause is how long a gateway waits before it tries again to follow something.
const followPause = 250 * time.Millisecond

// followAgain calls follow, which follows something in NATS, anew each time that it breaks off, until ctx ends.
func followAgain(ctx context.Context, log *slog.Logger, what string, follow func() error) {
	for {
		err := follow()
		if ctx.Err() != nil {
			return
		}
		log.Warn("cannot follow "+what+", trying again", "error", err)
		if !queue.Pause(ctx, followPause) {
			return
		}
	}
}

// endSockets closes the websockets of all tenants, so that their clients connect elsewhere, and waits until they are closed. When ctx ends
// their connections are cut.
func (g *Gateway) endSockets(ctx context.Context) {
	g.mu.Lock()
	g.closing = true
	tenants := slices.Collect(maps.Values(g.tenants))
	g.mu.Unlock()
	for _, t := range tenants {
		t.hub.close()
	}
	defer context.AfterFunc(ctx, func() {
		for _, t := range tenants {
			t.hub.cut()
		}
	})()
	for _, t := range tenants {
		t.hub.serving.Wait()
	}
}
