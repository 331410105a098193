package route

import (
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// HoldsFor reports whether b keeps a job of this tenant and size away, while b is in force.
func (b *Block) HoldsFor(tenant Tenant, size int64) bool {
	least, held := b.from(tenant)
	return held && atWorst(size) >= least
}

func (b *Block) forAll() bool { return len(b.Tenants) == 0 || slices.Contains(b.Tenants, Everyone) }

// from is the least size at which b holds for jobs of a tenant; 0 = all sizes. held is false when b does not hold for the tenant.
func (b *Block) from(tenant Tenant) (least int64, held bool) {
	least, held = b.Own[tenant]
	if !b.forAll() && !slices.Contains(b.Tenants, tenant) {
		return least, held
	}
	if common := b.least(); !held || common < least {
		return common, true
	}
	return least, true
}

// least is the size from which b holds for those who are not named in Own.
func (b *Block) least() int64 {
	if b.Kind == failure.OutOfMemory {
		return b.Size
	}
	return 0
}

// covers reports whether b keeps away every job that other would.
func (b *Block) covers(other *Block) bool {
	if other.forAll() && (!b.forAll() || b.least() > other.least()) {
		return false
	}
	for _, tenant := range other.named() {
		theirs, _ := other.from(tenant)
		if ours, held := b.from(tenant); !held || ours > theirs {
			return false
		}
	}
	return true
}

func (b *Block) named() []Tenant {
	names := slices.Collect(maps.Keys(b.Own))
	for _, tenant := range b.Tenants {
		if tenant != Everyone {
			names = append(names, tenant)
		}
	}
	return names
}

// with is b, made to hold as well for the tenants that other names.
func (b Block) with(other *Block) *Block {
	b.Own = maps.Clone(b.Own)
	for _, tenant := range other.named() {
		theirs, _ := other.from(tenant)
		if ours, held := b.from(tenant); held && ours <= theirs {
			continue
		}
		if b.Own == nil {
			b.Own = map[Tenant]int64{}
		}
		b.Own[tenant] = theirs
	}
	return &b
}
