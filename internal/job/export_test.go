package job

// Crowd has most jobs share the hash of another.
func (f *Fold) Crowd() { f.mask = 3 }

// Sizes are what a fold keeps in memory.
type Sizes struct {
	Rows     int // with those that are free
	Index    int
	Requeues int
	Tenants  int
	Places   int // in the order of all
	Names    int // in use
	NameRoom int // with those that are free
}

// Sizes gives what is kept now.
func (f *Fold) Sizes() Sizes {
	s := Sizes{
		Rows: len(f.rows), Index: len(f.index), Requeues: len(f.requeues), Tenants: len(f.tenants), Places: f.order.len(), NameRoom: len(f.names.names),
	}
	for _, users := range f.names.users {
		if users > 0 {
			s.Names++
		}
	}
	return s
}

// TenantPlaces are those in the orders of all tenants together.
func (f *Fold) TenantPlaces() int {
	n := 0
	for _, t := range f.tenants {
		n += t.order.len()
	}
	return n
}

// KeepTexts has names and metadata take no more than so many bytes.
func (f *Fold) KeepTexts(most int) { f.texts.most = most }

// KeepGroups has dead rows fall into no more than so many groups.
func (f *Fold) KeepGroups(most int) { f.deaths.most = most }

// BusyHosts is of how many hosts it is known how long they ran jobs.
func (f *Fold) BusyHosts() int { return len(f.busy) }
