package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) apiWaiting(ctx context.Context, r jetstream.WaitingRequest) (jetstream.WaitingAnswer, error) {
	return d.waitingFor(ctx, r, ofOperator)
}

func (d *Dispatcher) tenantWaiting(ctx context.Context, tenant job.Tenant, r jetstream.WaitingRequest) (jetstream.WaitingAnswer, error) {
	r.Tenant = tenant
	return d.waitingFor(ctx, r, ofTenant)
}

// waitingFor lists the jobs that wait in their order, of a tenant or of all. The order is that of a survey; what is said of each
// job is found out now, and a job that does not wait any more is left out.
func (d *Dispatcher) waitingFor(ctx context.Context, r jetstream.WaitingRequest, to view) (answer jetstream.WaitingAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	s, err := d.survey(ctx)
	if err != nil {
		return answer, err
	}
	order := s.order()
	answer.Waiting, answer.Of = []jetstream.WaitingRow{}, len(order)
	which, next := somePlaces(order, r.Tenant, max(r.After, 0), p.rows)
	var rows []jetstream.WaitingRow
	if err := d.answerInSlices(ctx, func(pause func() bool) {
		rows = d.loop.waitingRows(order, which, to, pause)
	}); err != nil {
		return answer, err
	}
	d.history.name(ctx, rows)
	if answer.Waiting, err = takeFirst(p, rows); err != nil {
		return answer, err
	}
	if answer.Next = next; len(answer.Waiting) < len(rows) {
		answer.Next = answer.Waiting[len(answer.Waiting)-1].Place
	}
	return answer, nil
}

// somePlaces gives the places of the first tickets of a tenant, or of all, after a place, and where to go on; 0 when there are
// no more.
func somePlaces(order []route.Placed, tenant job.Tenant, after, most int) (which []int, next int) {
	for i := after; i < len(order); i++ {
		if tenant != "" && order[i].Tenant != route.Tenant(tenant) {
			continue
		}
		if len(which) == most {
			return which, which[most-1] + 1
		}
		which = append(which, i)
	}
	return which, 0
}

// waitingRows says of the tickets at some places why they wait.
func (l *loop) waitingRows(order []route.Placed, which []int, to view, pause func() bool) []jetstream.WaitingRow {
	rows := make([]jetstream.WaitingRow, 0, len(which))
	for _, i := range which {
		t, waits := l.room.Get(order[i].Sequence)
		if waits && t.Tenant == order[i].Tenant {
			rows = append(rows, l.waitingRow(&t, to, l.now()))
			rows[len(rows)-1].Place = i + 1
		}
		for range 8 { // since a row takes as long as several steps
			if !pause() {
				return rows
			}
		}
	}
	return rows
}

func (l *loop) waitingRow(t *route.Ticket, to view, now time.Time) jetstream.WaitingRow {
	row := jetstream.WaitingRow{
		Job: job.ID(t.Job), Tenant: job.Tenant(t.Tenant), Priority: job.Priority(t.Priority), Hash: t.Hash, Attempt: t.Attempt, Received: t.Received.UTC(),
	}
	want := t.Want()
	want.Whole = bool(to)
	hold := l.fleet.Hold(want, now)
	row.Reason, row.Text = hold.Reason, hold.Text
	if !hold.Until.IsZero() {
		until := hold.Until.UTC()
		row.Until = &until
	}
	if at := l.room.ETA(l.fleet, t.Sequence, now); !at.IsZero() {
		at = at.UTC()
		row.ETA = &at
	}
	return row
}

// name adds what people call jobs and their workflows, as far as the events of these are read.
func (h *jobHistory) name(ctx context.Context, rows []jetstream.WaitingRow) {
	_ = h.caughtUpSoon(ctx) // some have names all the same
	h.mu.RLock()
	defer h.mu.RUnlock()
	for i := range rows {
		texts := h.fold.Texts(rows[i].Tenant, rows[i].Job)
		rows[i].Name, rows[i].Title = texts.Name, texts.Title
	}
}
