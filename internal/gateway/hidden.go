package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// hidden are the jobs that tenants have removed from what they see of their history, on this gateway or another. What a tenant has hidden
// is forgotten when it is as old as the events of jobs that are kept: then the job is in no history.
type hidden struct {
	mu    sync.Mutex // guards all below
	jobs  map[job.Tenant]map[job.ID]bool
	upTo  map[job.Tenant]uint64
	order []hiddenSince // jobs in the order in which they were hidden
}

// hiddenSince is a job and when this gateway learnt that it is hidden.
type hiddenSince struct {
	tenant job.Tenant
	job    job.ID
	at     time.Time
}

func newHidden() *hidden {
	return &hidden{jobs: map[job.Tenant]map[job.ID]bool{}, upTo: map[job.Tenant]uint64{}}
}

// add hides what a tenant has hidden; age is how long events are kept, 0: for ever.
func (h *hidden) add(one queue.Hidden, now time.Time, age time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for age > 0 && len(h.order) > 0 && now.Sub(h.order[0].at) > age {
		h.forgetOldest()
	}
	if one.Job == "" {
		h.upTo[one.Tenant] = max(h.upTo[one.Tenant], one.UpTo)
		return
	}
	of := h.jobs[one.Tenant]
	if of == nil {
		of = map[job.ID]bool{}
		h.jobs[one.Tenant] = of
	}
	if !of[one.Job] {
		of[one.Job] = true
		h.order = append(h.order, hiddenSince{one.Tenant, one.Job, now})
	}
}

// forgetOldest forgets the job that was hidden first; h.mu must be held.
func (h *hidden) forgetOldest() {
	oldest := h.order[0]
	h.order = h.order[1:]
	delete(h.jobs[oldest.tenant], oldest.job)
	if len(h.jobs[oldest.tenant]) == 0 {
		delete(h.jobs, oldest.tenant)
	}
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

// hid takes note of what a tenant has hidden.
func (g *Gateway) hid(one queue.Hidden) { g.hidden.add(one, g.q.Now(), g.q.EventsAge()) }

// hide removes jobs that have ended from what a tenant sees of its history: all, or those that are named. The jobs, their events
// and their files stay stored.
func (g *Gateway) hide(ctx context.Context, of *tenant, all bool, ids []job.ID) error {
	if all {
		upTo := of.rows.upTo()
		if err := g.q.HideUpTo(ctx, of.name, upTo); err != nil {
			return err
		}
		g.hid(queue.Hidden{Tenant: of.name, UpTo: upTo})
	}
	for _, id := range ids {
		row, found := of.rows.Row(id)
		if !found || !row.Ended() {
			continue
		}
		if err := g.q.HideJob(ctx, of.name, id); err != nil {
			return err
		}
		g.hid(queue.Hidden{Tenant: of.name, Job: id})
	}
	return nil
}
