package history

import (
	"math"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Held is the number and the size of a tenant's unfinished jobs.
type Held struct {
	Jobs  int
	Bytes int64 // of their bodies; 0 for jobs whose queued event is not stored any more, or is of a former version
}

// Held gives those of a tenant.
func (f *Fold) Held(of job.Tenant) Held {
	t := f.tenant(of)
	if t == nil {
		return Held{}
	}
	h := Held{Bytes: t.bytes}
	for n, state := range states {
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
	case states[state].Terminal():
		now = 0
	case bytes > 0:
		now = uint32(min(bytes, math.MaxUint32))
	}
	f.tenants[r.tenant].bytes += int64(now) - int64(r.bytes)
	r.bytes = now
}
