package job

// Unseen is how many jobs of a tenant were cancelled before a dispatcher had received them.
func (f *Fold) Unseen(of Tenant) int {
	if t := f.tenant(of); t != nil {
		return t.unseen
	}
	return 0
}

// setUnseen records whether a row is of such a job, and counts these rows.
func (f *Fold) setUnseen(at uint32, unseen bool) {
	r := &f.rows[at]
	if r.unseen == unseen {
		return
	}
	r.unseen = unseen
	if unseen {
		f.tenants[r.tenant].unseen++
	} else {
		f.tenants[r.tenant].unseen--
	}
}
