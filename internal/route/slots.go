package route

// PutSlots sets how many slots of a tenant with a cap are taken, and whether another dispatcher gives its jobs to hosts:
// then this one chooses a host for none of them.
func (f *Fleet) PutSlots(t Tenant, taken int, elsewhere bool) {
	facts := f.tenant(t)
	facts.slots, facts.elsewhere = taken, elsewhere
}

// Cap is the most jobs that a tenant may run at once; 0 = no cap.
func (f *Fleet) Cap(t Tenant) int {
	if facts := f.tenants[t]; facts != nil {
		return max(facts.maxRunning, 0)
	}
	return f.usual
}

// Elsewhere reports whether a tenant has a cap, and another dispatcher keeps it.
func (f *Fleet) Elsewhere(t Tenant) bool {
	facts := f.tenants[t]
	return facts != nil && facts.maxRunning > 0 && facts.elsewhere
}

// full reports whether the tenant runs as many jobs as it may.
func (t *tenantFacts) full() bool { return t.maxRunning > 0 && max(t.total, t.slots) >= t.maxRunning }

func (f *Fleet) capped(t Tenant) bool {
	facts := f.tenants[t]
	return facts != nil && facts.full()
}

// closed reports whether no job of the tenant may be given to a host now from here.
func (t *tenantFacts) closed() bool { return t.maxRunning > 0 && (t.elsewhere || t.full()) }
