package route

import (
	"maps"
	"math"
	"slices"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Shortage is what is remembered of a tenant's jobs that ran out of memory.
type Shortage struct {
	Failures int `json:"failures"`
	// Size is the smallest of known size that did since the last success of a job that big; 0 = none did.
	Size int64 `json:"size,omitempty"`
	// Unknown: a job of unknown size did since the last success of such a job.
	Unknown bool `json:"unknown,omitempty"`
}

// countShortage counts a job that ran out of memory. It returns how many jobs of its tenant have.
func (s *Strikes) countShortage(f *Strike) int {
	s.Ran = max(s.Ran, f.Ran)
	if s.Memory == nil {
		s.Memory = map[Tenant]Shortage{}
	}
	m := s.Memory[f.Tenant]
	m.Failures++
	switch {
	case f.Size <= 0:
		m.Unknown = true
	case m.Size == 0 || f.Size < m.Size:
		m.Size = f.Size
	}
	s.Memory[f.Tenant] = m
	return m.Failures
}

// least is the size from which a block for these failures holds, where ran is the biggest job that has run on the host; 0 = all sizes.
func (m *Shortage) least(ran int64) int64 {
	switch {
	case !m.Unknown || ran == 0:
		return m.Size
	case m.Size == 0:
		return ran
	}
	return min(m.Size, ran)
}

// setSizes sets for whom b holds: for each tenant from its own size on, and for everyone from the second smallest of these
// sizes on, which no tenant can choose alone.
func (s *Strikes) setSizes(b *Block, limit int) {
	sizes := map[Tenant]int64{}
	for tenant, m := range s.Memory {
		if m.Failures >= limit {
			sizes[tenant] = m.least(s.Ran)
		}
	}
	if len(sizes) < 2 {
		b.Size = sizes[b.Tenant]
		return
	}
	b.Tenants, b.Size = []Tenant{Everyone}, slices.Sorted(maps.Values(sizes))[1]
	maps.DeleteFunc(sizes, func(_ Tenant, size int64) bool { return size >= b.Size })
	if len(sizes) > 0 {
		b.Own = sizes
	}
}

// fits records that a job of a size had enough memory, whatever its tenant.
func (s *Strikes) fits(size int64, blocked bool) {
	unknown := false
	for tenant, m := range s.Memory {
		unknown = unknown || m.Unknown
		switch {
		case size <= 0:
			m.Unknown = m.Unknown && blocked
		case size >= m.Size:
			m.Size = 0
		}
		if s.Memory[tenant] = m; m.Size == 0 && !m.Unknown {
			delete(s.Memory, tenant)
		}
	}
	if unknown {
		s.Ran = max(s.Ran, size)
	}
}

// atWorst is a size as blocks for memory read it: an unknown one counts as the largest possible.
func atWorst(size int64) int64 {
	if size <= 0 {
		return math.MaxInt64
	}
	return size
}

// forMemory reports whether jobs are blocked because memory was too small.
func (b *Block) forMemory() bool { return b.Kind == failure.OutOfMemory }
