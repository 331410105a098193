package job

// Counts are numbers of rows by state.
type Counts [8]int

// Of gives the number of a state.
func (c *Counts) Of(state EventKind) int {
	if n, known := stateNumber(state); known {
		return c[n]
	}
	return 0
}

func stateNumber(state EventKind) (uint8, bool) {
	for n, s := range rowStates {
		if s == state {
			return uint8(n), true
		}
	}
	return 0, false
}

// Counts gives the number of rows by state: of a tenant, or of all when it is empty.
func (f *Fold) Counts(of Tenant) Counts {
	var all Counts
	if of != "" {
		if t := f.tenant(of); t != nil {
			all = t.counts
		}
		return all
	}
	for _, t := range f.tenants {
		for i, n := range t.counts {
			all[i] += n
		}
	}
	return all
}

// States gives the numbers of rows by state, without those of which there are none.
func (c *Counts) States() map[EventKind]int {
	counts := map[EventKind]int{}
	for i, state := range rowStates {
		if c[i] > 0 {
			counts[state] = c[i]
		}
	}
	return counts
}

// Add adds counts to others.
func (c *Counts) Add(others *Counts) {
	for i, n := range others {
		c[i] += n
	}
}
