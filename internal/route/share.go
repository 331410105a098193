package route

import (
	"math"
	"slices"
	"time"
)

const (
	// ShareHalfLife is how long it takes until GPU-seconds that a tenant has used count half.
	ShareHalfLife = 10 * time.Minute
	// usualRun is the assumed cost of a job, in GPU-seconds, while no job of its lane has ended.
	usualRun = 1.0
	// maxScale is the scale at which the unit of shares is reset.
	maxScale = 1 << 40
)

// lane is a tenant's jobs that count as of one priority. Old use must count less than new use.
// Instead of reducing every sum as time passes, newer seconds are worth more: one used at time t counts 2^((t-epoch)/ShareHalfLife).
type lane struct {
	// Every decision reads these fields of every lane; together they fill one cache line.
	since    int64 // when it was served last or got its first job, whichever is later
	priority int
	facts    *tenantFacts
	tag      float64
	run      mean // GPU-seconds of its jobs
	ceiling  int  // of the tenant

	used      float64
	tenant    Tenant
	depth     int          // due tickets
	members   int          // tickets, due or not
	published []*published // the same by the priority that they were published with
	fresh     bool         // it is in Room.newcomers
}

type laneKey struct {
	tenant   Tenant
	priority int
}

// countDue counts a ticket that has become due.
func (r *Room) countDue(l *lane, dueSince int64) {
	if l.depth == 0 {
		l.since = max(l.since, dueSince)
	}
	if l.depth == 0 && !l.fresh {
		l.fresh = true
		r.newcomers = append(r.newcomers, l)
	}
	l.depth++
}

func (r *Room) lane(t Tenant, priority int) *lane {
	key := laneKey{t, r.CountsAs(t, priority)}
	l := r.lanes[key]
	if l == nil {
		r.forgetLanes()
		l = &lane{tenant: t, priority: key.priority, ceiling: r.ceiling(t)}
		r.lanes[key] = l
	}
	return l
}

// Charge adds GPU-seconds to what a tenant has used at a priority. Call it when a run has ended, successful or
// not, with the time that the GPU was taken. Jobs still running are counted by what the lane's jobs usually take.
func (r *Room) Charge(t Tenant, priority int, gpuSeconds float64, now time.Time) {
	if gpuSeconds <= 0 || math.IsNaN(gpuSeconds) || math.IsInf(gpuSeconds, 0) {
		return
	}
	l := r.lane(t, priority)
	worth := gpuSeconds * r.scale(now.UnixNano())
	l.tag += worth
	l.used += worth
	l.run.observe(gpuSeconds)
}

// scale is what a GPU-second counts now.
func (r *Room) scale(now int64) float64 {
	if r.epoch == 0 {
		r.epoch = now
	}
	s := math.Exp2(float64(now-r.epoch) / float64(ShareHalfLife))
	if s < maxScale {
		return s
	}
	for _, l := range r.lanes {
		l.tag /= s
		l.used /= s
	}
	for p := range r.virtual {
		r.virtual[p] /= s
	}
	r.epoch = now
	return 1
}

// agedPriority is a lane's priority with its age: one more for each step that it has had jobs and none of them was chosen, up to the
// most that its tenant's jobs count as.
func (l *lane) agedPriority(now, step int64) int {
	if now-l.since < step {
		return l.priority
	}
	return l.priority + int(min((now-l.since)/step, int64(max(l.ceiling-l.priority, 0))))
}

// rank orders lanes: the lower comes first. It is what the lane has used and is using, per weight.
func (l *lane) rank(scale float64) float64 {
	cost := usualRun
	if l.run.n > 0 {
		cost = l.run.value
	}
	weight := l.facts.weight
	if weight <= 0 {
		weight = 1
	}
	return (l.tag + cost*scale*float64(l.running())) / weight
}

// running is how many jobs of the lane run: they are counted by the priority that they were published with.
func (l *lane) running() int32 {
	n := l.facts.running[l.priority]
	if l.priority == l.ceiling {
		for p := l.priority + 1; p < priorities; p++ {
			n += l.facts.running[p]
		}
	}
	return n
}

// levelNewcomers makes lanes that were empty start level with those that waited: a lane gets no credit for the time
// in which it had no jobs.
func (r *Room) levelNewcomers(f *Fleet) {
	starts := r.virtual
	behind := func(l *lane) bool { return l.tag < starts[l.priority]*f.weight(l.tenant) }
	if slices.ContainsFunc(r.newcomers, behind) { // otherwise none of them gains by the lowest rank
		starts = r.starts(f)
	}
	for _, l := range r.newcomers {
		l.fresh = false
		l.tag = max(l.tag, starts[l.priority]*f.weight(l.tenant))
	}
	clear(r.newcomers)
	r.newcomers = r.newcomers[:0]
}

// starts are the ranks at which lanes begin that were empty: that of the lane that was served last, and no more than the
// lowest of the lanes that wait now. What a lane is using is estimated from its last runs, so that after a long run its
// rank falls again; a newcomer must not go on waiting until the other has really used that much.
func (r *Room) starts(f *Fleet) [priorities]float64 {
	scale := r.scale(r.now) // before the ranks are read, since it may reset their unit
	starts := r.virtual
	for _, l := range r.lanes {
		if l.depth > 0 && !l.fresh {
			l.resolveTenant(f)
			starts[l.priority] = min(starts[l.priority], l.rank(scale))
		}
	}
	return starts
}

// resolveTenant sets the lane's tenant, which is kept as long as the lane is.
func (l *lane) resolveTenant(f *Fleet) {
	if l.facts == nil {
		l.facts = f.tenant(l.tenant)
		l.facts.lanes++
	}
}

func (l *lane) forgetTenant() {
	if l.facts != nil {
		l.facts.lanes--
		l.facts = nil
	}
}

// forgetLanes removes lanes without tickets that have used next to nothing lately.
func (r *Room) forgetLanes() {
	if len(r.lanes) < r.forgetAt {
		return
	}
	scale := r.scale(max(r.now, r.epoch))
	for key, l := range r.lanes {
		if l.members == 0 && !l.fresh && l.used < scale {
			l.forgetTenant()
			delete(r.lanes, key)
		}
	}
	r.forgetAt = max(1024, 2*len(r.lanes))
}
