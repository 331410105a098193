package route

import (
	"slices"
	"time"
)

// permits applies the rules that concern one host only, in constant time.
func (f *Fleet) permits(w *Want, x *facts, n int32) bool {
	if !f.free.has(n) && !f.spare.has(n) || x.probation.n > 0 && x.probation.has(n) && x.running.has(n) {
		return false
	}
	return f.able(x, n) && !x.withheld[w.Tenant] && !x.blocked(n, w.Tenant, w.Size) && f.allowed(w, x, n)
}

func (f *Fleet) able(x *facts, n int32) bool { return f.reachOf(x).meets(f.hosts[n].installation) }

// blocked reports whether one host is blocked for a tenant and size.
func (x *facts) blocked(n int32, tenant Tenant, size int64) bool {
	if x.everyone.has(n) {
		return true
	}
	if hosts := x.tenants[tenant]; hosts != nil && hosts.has(n) {
		return true
	}
	for i := range x.sized {
		if x.sized[i].size <= atWorst(size) && x.sized[i].hosts.has(n) {
			return true
		}
	}
	return slices.ContainsFunc(x.whole, func(b *wholeBlock) bool { return b.number == n && b.HoldsFor(tenant, size) })
}

// allowed reports whether the host is excluded neither by the job, nor by the affinity, nor by a grant.
func (f *Fleet) allowed(w *Want, x *facts, n int32) bool {
	if f.given.bar(n, w.Tenant) || len(w.Only) > 0 && !f.named(w.Only, n) || f.named(w.Exclude, n) {
		return false
	}
	return x.affinity == nil || !f.named(x.affinity.exclude, n)
}

// named reports whether one of the names and labels stands for a host.
func (f *Fleet) named(list []string, n int32) bool {
	h := f.hosts[n]
	for _, term := range list {
		if term == string(h.id) || isLabel(term) && slices.Contains(h.labels, term) {
			return true
		}
	}
	return false
}

// suits applies the rules that compare a permitted host with the others: an avoided host may take the job only when no
// other could, and one without a free slot only when no other has one.
func (f *Fleet) suits(w *Want, x *facts, n int32, now time.Time) bool {
	avoided := f.named(w.Avoid, n)
	if !avoided && f.free.has(n) {
		return true
	}
	return f.eligible(w, x, now) && f.scratch.eligible.has(n) && (f.free.has(n) || !f.idleElsewhere(x))
}

// idleElsewhere reports whether a host of scratch.eligible has a free slot that the job could have.
func (f *Fleet) idleElsewhere(x *facts) bool {
	f.candidates(x, f.scratch.chosen, f.free)
	return f.scratch.chosen.any()
}

// untilWarm returns until when the job should wait for a warm host instead of the permitted host n; zero when it should not.
func (f *Fleet) untilWarm(w *Want, x *facts, n int32, now time.Time) time.Time {
	if !f.free.has(n) || len(x.warm) == 0 || x.loading() <= 0 || !f.eligible(w, x, now) || !f.idleElsewhere(x) {
		return time.Time{}
	}
	_, until := f.await(w, x, f.scratch.chosen, now)
	return until
}
