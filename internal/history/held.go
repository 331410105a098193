package history

import (
	"math"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Held is what a tenant's unfinished jobs are together.
type Held struct {
	Jobs  int
	Bytes int64 // of their bodies, as far as events tell: those of a former version, and jobs whose first event is gone, do not
}

// Held gives a tenant's.
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

// weigh keeps the bytes of a row that is about to have a state.
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
