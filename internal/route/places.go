package route

import "time"

// Position is the place of a ticket among all that wait, from 1, and how many wait; 0 when it is not there. It counts as
// before it: lanes of higher priority, with age; of its own lane, lower sequences; of every other lane with its aged priority, as
// many as have their turn before it, by weight and by what both have used. Lanes of tenants that may start nothing now
// do not count. Tickets that are not due come last.
func (r *Room) Position(f *Fleet, sequence uint64, now time.Time) (place, of int) {
	r.lookAt(f, now)
	i := r.records.find(sequence)
	if i < 0 {
		return 0, r.records.n
	}
	x := r.records.at(i)
	if x.at < 0 {
		return r.records.n, r.records.n
	}
	own := x.class.lane.dueBelow(sequence)
	return own + r.ahead(f, x.class.lane, own) + 1, r.records.n
}

// PlaceOf is the place that a job would get if it came now.
func (r *Room) PlaceOf(f *Fleet, t Tenant, priority int, now time.Time) int {
	r.lookAt(f, now)
	priority = r.CountsAs(t, priority)
	l := r.lanes[laneKey{t, priority}]
	if l == nil {
		l = &lane{tenant: t, priority: priority, since: r.now, ceiling: r.ceiling(t)}
		l.tag = r.starts(f)[l.priority] * f.weight(t)
		l.facts = &tenantFacts{weight: f.weight(t)}
	}
	return l.depth + r.ahead(f, l, l.depth) + 1
}

// ahead is how many tickets of other lanes come before a ticket of lane l that comes after own others of that lane.
func (r *Room) ahead(f *Fleet, l *lane, own int) int {
	step, scale := int64(r.ageStep()), r.scale(r.now)
	if l.facts == nil {
		l.resolveTenant(f)
	}
	aged, rank, weight, n := l.agedPriority(r.now, step), l.rank(scale), f.weight(l.tenant), 0
	for _, o := range r.lanes {
		if o == l || o.depth == 0 {
			continue
		}
		o.resolveTenant(f)
		closed := o.tenant != l.tenant && (o.facts.full() || o.facts.liable())
		switch other := o.agedPriority(r.now, step); {
		case closed || other < aged:
		case other > aged:
			n += o.depth
		default:
			turns := int(float64(own) * f.weight(o.tenant) / weight)
			if o.rank(scale) < rank {
				turns++
			}
			n += min(o.depth, turns)
		}
	}
	return n
}

// ETA is when a ticket may be expected to start; zero when unknown. It is the work of those before it, by the
// usual run time of the ticket's own lane, spread over all slots that may take the ticket, and no more of them than its
// tenant may have. While the tenant runs as many jobs as it may, it is not before the first of these is expected to end.
func (r *Room) ETA(f *Fleet, sequence uint64, now time.Time) time.Time {
	place, _ := r.Position(f, sequence, now)
	i := r.records.find(sequence)
	if i < 0 {
		return time.Time{}
	}
	x := r.records.at(i)
	t := x.ticket()
	w, facts := t.Want(), f.use(t.Hash)
	took := facts.ran.value
	if took == 0 {
		took = x.class.lane.run.value
	}
	tenant := f.tenant(t.Tenant)
	if took == 0 || tenant.liable() || facts.withheld[t.Tenant] || !f.eligible(&w, facts, now) {
		return time.Time{}
	}
	slots := 0
	f.scratch.eligible.each(func(n int32) { slots += f.hosts[n].slots })
	if tenant.maxRunning > 0 {
		slots = min(slots, tenant.maxRunning)
	}
	if slots == 0 {
		return time.Time{}
	}
	eta := now.Add(time.Duration(float64(place) / float64(slots) * took * float64(time.Second)))
	if tenant.full() {
		free := f.endsFirst(t.Tenant)
		if free.IsZero() {
			return free
		}
		eta = latestOf(eta, free)
	}
	return latestOf(eta, t.NotBefore)
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// endsFirst is when the first of a tenant's runs is expected to end; zero when that is not known.
func (f *Fleet) endsFirst(t Tenant) (first time.Time) {
	for _, h := range f.hosts {
		if h == nil {
			continue
		}
		for i := range h.running {
			run := &h.running[i]
			if run.Tenant != t || run.facts == nil || run.facts.expected() == 0 {
				continue
			}
			if end := run.Since.Add(run.facts.expected()); first.IsZero() || end.Before(first) {
				first = end
			}
		}
	}
	return first
}
