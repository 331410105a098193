package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

const overviewTenants = 200

func (d *Dispatcher) apiOverview(ctx context.Context, r queue.OverviewRequest) (answer queue.OverviewAnswer, err error) {
	s, err := d.survey(ctx)
	if err != nil {
		return answer, err
	}
	stores, err := d.answers.stores.get(ctx, d.q.Stores)
	if err != nil {
		return answer, err
	}
	answer = queue.OverviewAnswer{
		Time: d.clock().UTC(), Hosts: map[string]int{}, Waiting: map[string]int{}, Blocks: s.Blocks, Storage: stores,
		Slots: queue.SlotCounts{Busy: s.Busy, Free: s.Free, Out: s.Out}, Pairs: queue.PairCounts{Active: s.Active, Blocked: s.Blocked},
	}
	for state, n := range s.Hosts {
		answer.Hosts[string(state)] = n
	}
	live, _ := d.answers.dispatchers.some("", "", rowsMost)
	answer.Dispatchers = len(live)
	answer.Tenants = tenantCounts(s.Survey)
	for i := range answer.Tenants {
		t := &answer.Tenants[i]
		for reason, n := range t.Waiting {
			answer.Waiting[reason] += n
		}
		if t.OldestDue != nil && (answer.OldestDue == nil || t.OldestDue.Before(*answer.OldestDue)) {
			answer.OldestDue = t.OldestDue
		}
	}
	d.countEvents(ctx, &answer, &r)
	answer.Needs = needs(&answer)
	answer.MoreTenants = max(len(answer.Tenants)-overviewTenants, 0)
	answer.Tenants = answer.Tenants[:min(len(answer.Tenants), overviewTenants)]
	d.history.addPaces(answer.Tenants, answer.Time)
	return answer, nil
}

// tenantCounts lists the tenants of a survey, those with the most waiting jobs first.
func tenantCounts(s *route.Survey) []queue.TenantCounts {
	used, weights := 0.0, 0.0
	for _, t := range s.Tenants {
		used += t.Used
		if takesPart(t) {
			weights += t.Weight
		}
	}
	list := make([]queue.TenantCounts, 0, len(s.Tenants))
	for _, name := range slices.Sorted(maps.Keys(s.Tenants)) {
		t := s.Tenants[name]
		row := queue.TenantCounts{
			Tenant: job.Tenant(name), Weight: t.Weight, MaxRunning: t.MaxRunning, Running: t.Running, Waiting: map[string]int{}, Used: t.Used,
		}
		for reason, n := range t.Waiting {
			row.Waiting[string(reason)] = n
		}
		if !t.OldestDue.IsZero() {
			due := t.OldestDue.UTC()
			row.OldestDue = &due
		}
		if used > 0 {
			row.Share = t.Used / used
		}
		if takesPart(t) {
			row.Due = t.Weight / weights
		}
		list = append(list, row)
	}
	slices.SortStableFunc(list, func(a, b queue.TenantCounts) int { return cmp.Compare(b.Waits(), a.Waits()) })
	return list
}

// addPaces adds what the stored events say of each tenant.
func (h *jobHistory) addPaces(tenants []queue.TenantCounts, now time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for i := range tenants {
		t := &tenants[i]
		pace, counts := h.fold.Pace(t.Tenant, now), h.fold.Counts(t.Tenant)
		t.GPUSeconds, t.WaitP95, t.Dead = pace.GPU.Seconds(), job.Duration(pace.WaitP95), counts.Of(job.Dead)
	}
}

// takesPart reports whether a tenant has jobs that run or could run.
func takesPart(t *route.TenantSurvey) bool { return t.Running > 0 || t.Waiting[route.Turn] > 0 }

// countEvents adds what the stored events say. When many of them are not read yet, it counts those that are, and says so.
func (d *Dispatcher) countEvents(ctx context.Context, answer *queue.OverviewAnswer, r *queue.OverviewRequest) {
	var behind *jetstream.Stopping
	if err := d.history.caughtUpSoon(ctx); errors.As(err, &behind) {
		answer.Reading = behind.Message
	} else if err != nil {
		answer.Reading = err.Error()
	}
	h := d.history
	h.mu.RLock()
	counts, since := h.fold.Counts(""), h.fold.Since()
	steps, until := h.fold.Trend(answer.Time)
	day, begun := h.fold.Day(r.Day, answer.Time)
	h.mu.RUnlock()
	if !r.Day.IsZero() {
		rate := rateOf(&day, answer.Time.Sub(begun), answer.Time)
		answer.Day = &rate
	}
	answer.Counts, answer.Since = counts.States(), since
	if gone := h.offlineSince(answer.Time); len(gone) > 0 {
		answer.Hosts[string(queue.Offline)] = len(gone)
	}
	for _, window := range []time.Duration{time.Minute, 5 * time.Minute, deadWindow, time.Hour} {
		var sum job.Counts
		for i := len(steps) - int(window/job.TrendStep); i < len(steps); i++ {
			sum.Add(&steps[i])
		}
		answer.Rates = append(answer.Rates, rateOf(&sum, window, until))
	}
	for i := range steps {
		if r.Trend {
			answer.Trend = append(answer.Trend, rateOf(&steps[i], job.TrendStep, until.Add(-time.Duration(len(steps)-1-i)*job.TrendStep)))
		}
	}
}

func rateOf(c *job.Counts, window time.Duration, until time.Time) queue.Rate {
	return queue.Rate{
		Window: job.Duration(window), Until: until, Queued: c.Of(job.Queued), Started: c.Of(job.Started), Failed: c.Of(job.Failed),
		Completed: c.Of(job.Completed), Dead: c.Of(job.Dead), Cancelled: c.Of(job.Cancelled),
	}
}
