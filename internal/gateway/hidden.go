package gateway

import (
	"context"
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// hidden are the jobs that tenants have removed from what they see of their history, on this gateway or another.
type hidden struct {
	mu   sync.Mutex // guards all below
	jobs map[job.Tenant]map[job.ID]bool
	upTo map[job.Tenant]uint64
}

func newHidden() *hidden {
	return &hidden{jobs: map[job.Tenant]map[job.ID]bool{}, upTo: map[job.Tenant]uint64{}}
}

func (h *hidden) add(one queue.Hidden) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if one.Job == "" {
		h.upTo[one.Tenant] = max(h.upTo[one.Tenant], one.UpTo)
		return
	}
	if h.jobs[one.Tenant] == nil {
		h.jobs[one.Tenant] = map[job.ID]bool{}
	}
	h.jobs[one.Tenant][one.Job] = true
}

func (h *hidden) hides(of job.Tenant, row *Row) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return row.Ended() && (row.Mark <= h.upTo[of] || h.jobs[of][row.Job])
}

// hides reports whether the tenant has removed a job from its history.
func (t *tenant) hides(row *Row) bool { return t.hidden.hides(t.name, row) }

// shownEnded are the jobs in the tenant's history, in the order of their ends.
func (t *tenant) shownEnded() []Row {
	shown := []Row{}
	for _, row := range t.rows.Ended() {
		if !t.hides(&row) {
			shown = append(shown, row)
		}
	}
	return shown
}

// hide removes jobs that have ended from what a tenant sees of its history: all, or those that are named. Nothing else forgets them.
func (g *Gateway) hide(ctx context.Context, of *tenant, all bool, ids []job.ID) error {
	if all {
		upTo := of.rows.upTo()
		if err := g.q.HideUpTo(ctx, of.name, upTo); err != nil {
			return err
		}
		g.hidden.add(queue.Hidden{Tenant: of.name, UpTo: upTo})
	}
	for _, id := range ids {
		row, found := of.rows.Row(id)
		if !found || !row.Ended() {
			continue
		}
		if err := g.q.HideJob(ctx, of.name, id); err != nil {
			return err
		}
		g.hidden.add(queue.Hidden{Tenant: of.name, Job: id})
	}
	return nil
}
