package route

import (
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Success counts a success of a tenant's job on the pair. It clears that tenant's own failures and the suspicions
// against it; other tenants' stay, and so does the level, which only time lowers. A job at least as big as those that ran
// out of memory clears these failures of all tenants. A job of unknown size clears the failures of jobs of unknown size,
// unless a block is in force, since it may have been small.
//
// at is when it happened, by the host's clock. A success that is older than the newest failure changes
// nothing, since it must not clear what happened after it.
//
// lift reports that the block in force has lost its reason and is to be removed now. changed reports whether
// there is anything to store.
func (s Strikes) Success(tenant Tenant, size int64, at, now time.Time) (next Strikes, lift, changed bool) {
	if at.Before(s.Last) {
		return s, false, false
	}
	before := s
	s = s.clone()
	delete(s.Tenants, tenant)
	delete(s.Guilty, tenant)
	s.Suspects = slices.DeleteFunc(s.Suspects, func(x Suspicion) bool { return x.Tenant == tenant })
	s.fits(size, s.blocked(now))
	lift = s.blocked(now) && s.recovered(tenant, size)
	if lift {
		s.Open = nil
	}
	changed = lift || s.Failures() != before.Failures() || !maps.Equal(s.Memory, before.Memory) || s.Ran != before.Ran ||
		len(s.Suspects) != len(before.Suspects) || !maps.Equal(s.Guilty, before.Guilty)
	if !changed {
		return before, false, false
	}
	return s, lift, true
}

// recovered reports whether the block in force has no reason any more after a success.
func (s *Strikes) recovered(tenant Tenant, size int64) bool {
	b := s.Open
	switch {
	case len(b.Own) > 0:
		return s.Failures() == 0
	case b.forMemory():
		return len(s.Memory) == 0
	case b.Kind.Verdict().Strike != failure.PerTenant:
		return b.HoldsFor(tenant, size)
	case b.forAll():
		return s.Failures() == 0
	}
	return slices.Contains(b.Tenants, tenant)
}

// Lifted removes the block in force after it was lifted by hand, or because the host's capability has changed. Otherwise
// the next failure would count as one that the block covers.
func (s Strikes) Lifted() Strikes {
	s.Open = nil
	return s
}
