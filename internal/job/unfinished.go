package job

import (
	"math"
)

// Unfinished is the number and the size of a tenant's unfinished jobs.
type Unfinished struct {
	Jobs  int
	Bytes int64 // of their bodies; 0 for jobs whose queued event is not stored any more, or is of a former version
}

// Unfinished gives those of a tenant.
func (f *Fold) Unfinished(of Tenant) Unfinished {
	t := f.tenant(of)
	if t == nil {
		return Unfinished{}
	}
	h := Unfinished{Bytes: t.bytes}
	for n, state := range rowStates {
		if !state.Terminal() {
			h.Jobs += t.counts[n]
		}
	}
	return h
}

// weigh updates the bytes of a row that is about to change its state.
func (f *Fold) weigh(at uint32, state uint8, bytes int64) {
	r := &f.rows[at]
	now := r.bytes
	switch {
	case rowStates[state].Terminal():
		now = 0
	case bytes > 0:
		now = uint32(min(bytes, math.MaxUint32))
	}
	f.tenants[r.tenant].bytes += int64(now) - int64(r.bytes)
	r.bytes = now
}
