package route

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// maxWarmWait bounds the wait for a warm host, however long loading takes.
const maxWarmWait = time.Minute

// ObserveRun records how long a hash runs on a host, and from the difference between runs on warm and on cold
// hosts, how long loading takes.
func (f *Fleet) ObserveRun(hash workflow.Hash, id HostID, ranFor time.Duration) {
	if ranFor <= 0 {
		return
	}
	x := f.use(hash)
	x.ran.observe(ranFor.Seconds())
	n, ok := f.numbers[id]
	if !ok {
		return
	}
	h := f.hosts[n]
	for i := range h.begun {
		if h.begun[i].facts == x {
			if h.begun[i].cold {
				x.cold.observe(ranFor.Seconds())
			} else {
				x.hot.observe(ranFor.Seconds())
			}
			h.begun = append(h.begun[:i], h.begun[i+1:]...)
			return
		}
	}
}

// ObserveLoad records how long loading model files took; together, when there are several.
func (f *Fleet) ObserveLoad(files []string, took time.Duration) {
	for _, name := range files {
		if m := f.models[name]; m != nil && took > 0 {
			m.loads.observe(took.Seconds() / float64(len(files)))
		}
	}
}

// Expected is how long a run of the hash takes, from the last dozen or so; 0 when none has been seen.
func (f *Fleet) Expected(hash workflow.Hash) time.Duration {
	if x := f.hashes[hash]; x != nil {
		return x.expected()
	}
	return 0
}

// loading is how long a host that has none of the models takes longer than a warm one; 0 when unknown.
func (x *facts) loading() time.Duration {
	if x.cold.n > 0 && x.hot.n > 0 {
		return max(x.cold.duration()-x.hot.duration(), 0)
	}
	sum := 0.0
	for _, m := range x.models {
		sum += m.loads.value
	}
	return time.Duration(sum * float64(time.Second))
}

// warmLooked is how many warm hosts are compared at most. Where there are more, one of them is free often enough.
const warmLooked = 64

// await decides whether to wait for a warm host although c, the hosts with a free slot, is not empty. until is
// zero when it does not wait. Otherwise n is the warm host if that may prefetch the job now, or -1.
//
// The wait is worth as long as loading takes when the free slot has other work meanwhile, and half as long when it
// would idle: so the GPU time that idles by it stays below half of what loading would cost.
func (f *Fleet) await(w *Want, x *facts, c set, now time.Time) (n int32, until time.Time) {
	limit := min(x.loading(), maxWarmWait)
	if !w.passing {
		limit /= 2
	}
	if limit <= 0 || len(w.Prefer) > 0 || x.affinity != nil && len(x.affinity.prefer) > 0 {
		return -1, time.Time{}
	}
	warm := 0
	for i := range x.warm {
		if x.warm[i].meets(c) {
			return -1, time.Time{}
		}
		warm += x.warm[i].n
	}
	if warm == 0 || warm > warmLooked {
		return -1, time.Time{}
	}
	deadline := now.Add(limit)
	if !w.Since.IsZero() {
		deadline = w.Since.Add(limit)
	}
	return f.soonest(x, now, deadline)
}

// soonest finds the eligible warm host that is free first, if that is after now and before the deadline. until is zero when there
// is none. n is -1 when there is none, when the host cannot prefetch the job, or when it is too early for that.
func (f *Fleet) soonest(x *facts, now, deadline time.Time) (n int32, until time.Time) {
	n, first := int32(-1), deadline.UnixNano()
	for i := range x.warm {
		x.warm[i].each(func(k int32) {
			at := f.endsAt[k]
			if at <= now.UnixNano() || at > first || !f.scratch.eligible.has(k) || x.probation.has(k) {
				return
			}
			if at < first || n >= 0 && f.hosts[k].id < f.hosts[n].id {
				n, first = k, at
			}
		})
	}
	switch {
	case n < 0:
		return -1, time.Time{}
	case !f.spare.has(n):
		return -1, moment(first)
	case !f.ripe(n, now):
		return -1, moment(first - int64(PrefetchAhead))
	}
	return n, moment(first)
}

// never is the expected end of a run whose duration is unknown.
const never = math.MaxInt64

// freeAt is when a host with exactly as many jobs as slots is expected to have a free one, in Unix nanoseconds;
// never for others and when a job's run time is unknown. Jobs that are being offered to it count as well: of those that
// come together, the second one is placed before the host has reported that it runs the first.
func (h *host) freeAt() int64 {
	first := int64(never)
	if h.foreign > 0 || h.used() != h.slots {
		return never
	}
	for _, runs := range [...][]run{h.running, h.offered} {
		for i := range runs {
			took := runs[i].facts.expected()
			if took == 0 {
				return never
			}
			first = min(first, runs[i].Since.Add(took).UnixNano())
		}
	}
	return first
}

// PrefetchAhead is how long before the expected end of a job its host may be given the next one. That is enough to hide
// the delay of the network, which is milliseconds, and not more: a prefetched job is bound to its host, while a better
// host may become free first, or a more urgent job may come.
const PrefetchAhead = 2 * time.Second

// ripe reports whether a host without a free slot may prefetch a job by now. Where run times are unknown, it always may.
func (f *Fleet) ripe(n int32, now time.Time) bool {
	return f.endsAt[n] == never || f.endsAt[n]-now.UnixNano() <= int64(PrefetchAhead)
}

// sooner returns, of the busy hosts c that can hold one job more, the one on which the job would run first: the
// one that is free first, or a warm one that is free before the other would have loaded. It is -1 when rank must decide:
// when the job or its hash prefers hosts, when it is unknown when a host is free, and when several should be free
// already, to which c is reduced then. until is set when it is too early to have the host hold the job.
func (f *Fleet) sooner(w *Want, x *facts, c set, now time.Time) (n int32, until time.Time) {
	if len(w.Prefer) > 0 || x.affinity != nil && len(x.affinity.prefer) > 0 {
		return -1, time.Time{}
	}
	first, n := f.firstFree(c, now.UnixNano())
	if n < 0 {
		return -1, time.Time{}
	}
	t := f.scratch.term
	clear(t)
	for i := range x.warm {
		x.warm[i].addTo(t)
	}
	t.and(c)
	if at, warm := f.firstFree(t, now.UnixNano()); warm >= 0 && at <= first+int64(x.loading()) {
		first, n = at, warm
		c.copyFrom(t)
	}
	switch early := first - int64(PrefetchAhead); {
	case early > now.UnixNano():
		return -1, moment(early)
	case first > now.UnixNano():
		return n, time.Time{}
	}
	f.keepOverdue(c, now.UnixNano())
	return -1, time.Time{}
}

// firstFree is the member of c that is expected to be free first, and when, not before now; equal times go by
// name. It is -1 when nothing is known of any, and any member when one should be free already.
func (f *Fleet) firstFree(c set, now int64) (first int64, n int32) {
	first, n = math.MaxInt64, -1
	for k, w := range c {
		ends := f.endsAt[k<<6:]
		if w == math.MaxUint64 && slices.Min(ends[:64]) > first {
			continue
		}
		for ; w != 0; w &= w - 1 {
			at := bits.TrailingZeros64(w)
			end := ends[at]
			if end > first || end == never {
				continue
			}
			if end <= now {
				return now, int32(k<<6 + at)
			}
			if i := int32(k<<6 + at); end < first || f.hosts[i].id < f.hosts[n].id {
				first, n = end, i
			}
		}
	}
	return first, n
}

// keepOverdue keeps those of c that should be free already.
func (f *Fleet) keepOverdue(c set, now int64) {
	for k, w := range c {
		for ; w != 0; w &= w - 1 {
			at := bits.TrailingZeros64(w)
			if end := f.endsAt[k<<6+at]; end > now {
				c[k] &^= 1 << at
			}
		}
	}
}
