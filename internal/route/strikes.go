package route

import (
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Strikes is what is remembered of a pair (host, hash): failures since its last success and the level that its
// next block will have. The JSON form is the value in the strikes' bucket, kept for Policy.StrikesFor(Level)
// after each change. It is a value: Add and Success return a new one and leave the old as it is.
type Strikes struct {
	// Tenants counts the failures that may be one tenant's doing (execution_error, timeout).
	Tenants map[Tenant]int `json:"tenants,omitempty"`
	// Common counts all other failures.
	Common int `json:"common,omitempty"`
	// Level is how many blocks the pair has had; a success does not lower it, only time does.
	Level int `json:"level,omitempty"`
	// Size is the smallest job that ran out of memory since the last success of a job that big; 0 = none did.
	Size int64 `json:"size,omitempty"`
	// Open is the last block; it stands until its time is over, whatever time it is now.
	Open *Block `json:"open,omitempty"`
	// Marks are the last failures that were counted, so that counting one again changes nothing.
	Marks []uint64 `json:"marks,omitempty"`
	// Last is when the newest failure happened, by the host's clock.
	Last time.Time `json:"last,omitzero"`
}

// marksKept bounds Marks. A failure is settled within minutes, or by a dispatcher that starts after a crash; a
// pair that fails more often than this meanwhile is blocked anyway.
const marksKept = 16

// Strike is one failed attempt, as far as its pair is concerned.
type Strike struct {
	Host    HostID
	Hash    workflow.Hash
	Kind    failure.Kind
	Tenant  Tenant
	Job     JobID
	Message string
	Size    int64
	Mark    uint64        // stream sequence of the failed event; 0 = unknown, counted always
	At      time.Time     // when it happened, by the host's clock
	Jitter  time.Duration // added to the block, so that many blocks do not end at one moment; may be 0
}

// OnProbation reports whether the host takes one job of the hash at a time: the pair has been blocked and has
// not succeeded since.
func (s Strikes) OnProbation() bool { return s.Level > 0 && s.failures() > 0 }

// Clear reports whether nothing is remembered, so that the key may go.
func (s Strikes) Clear() bool { return s.Level == 0 && s.failures() == 0 && s.Open == nil }

func (s Strikes) failures() int {
	n := s.Common
	for _, k := range s.Tenants {
		n += k
	}
	return n
}

func (s Strikes) clone() Strikes {
	s.Tenants, s.Marks = maps.Clone(s.Tenants), slices.Clone(s.Marks)
	return s
}

// Add counts a failure and returns the block that follows from it: a new one, or the one that stands, widened
// (to everyone, to smaller jobs, or from big jobs to all), with its Until and Level as they were. It returns nil
// when no block follows, when the kind is no strike, and when the failure was counted before.
//
// The rules: execution_error and timeout count per tenant, and their block holds for the tenant whose count
// reaches MaxFailures; when a second tenant's does, it holds for everyone. Other kinds count together and hold
// for everyone. out_of_memory holds jobs at least as big as the smallest that met it. incapable blocks at once,
// for the cap, and is no strike. A failure while a block stands never lengthens it: it is a job that the host
// had before.
func (s Strikes) Add(f Strike, now time.Time, p Policy) (Strikes, *Block) {
	scope := f.Kind.Verdict().Strike
	if scope == failure.NoStrike || scope == failure.WholeHost || f.Mark != 0 && slices.Contains(s.Marks, f.Mark) {
		return s, nil
	}
	p = p.filled()
	s = s.clone()
	s.mark(f.Mark)
	if f.At.After(s.Last) {
		s.Last = f.At
	}
	if scope == failure.UntilCapable {
		return s.incapable(f, now, p)
	}
	reached := s.count(f, scope, p.MaxFailures)
	if !reached {
		return s, nil
	}
	b := s.block(f, scope, p.MaxFailures)
	if s.standing(now) {
		return s.widen(b)
	}
	b.Level, b.Until = s.Level, now.Add(p.BlockFor(s.Level, f.Jitter))
	s.Level++
	s.Open = b
	return s, b
}

func (s *Strikes) mark(m uint64) {
	if m == 0 {
		return
	}
	s.Marks = append(s.Marks, m)
	if extra := len(s.Marks) - marksKept; extra > 0 {
		s.Marks = slices.Delete(s.Marks, 0, extra)
	}
}

// count adds the failure and reports whether its count has reached the limit.
func (s *Strikes) count(f Strike, scope failure.Scope, limit int) bool {
	if scope == failure.PerTenant {
		if s.Tenants == nil {
			s.Tenants = map[Tenant]int{}
		}
		s.Tenants[f.Tenant]++
		return s.Tenants[f.Tenant] >= limit
	}
	s.Common++
	if f.Kind == failure.OutOfMemory && (s.Size == 0 || f.Size < s.Size) {
		s.Size = max(f.Size, 1)
	}
	return s.Common >= limit
}

func (s *Strikes) block(f Strike, scope failure.Scope, limit int) *Block {
	b := &Block{
		Host: f.Host, Hash: f.Hash, Kind: f.Kind, Message: f.Message, Job: f.Job,
		Tenants: []Tenant{Everyone}, Failures: s.Common,
	}
	if f.Kind == failure.OutOfMemory {
		b.Size = s.Size
	}
	if scope == failure.PerTenant {
		b.Failures = s.Tenants[f.Tenant]
		if s.tenantsAt(limit) < 2 {
			b.Tenants = []Tenant{f.Tenant}
		}
	}
	return b
}

func (s *Strikes) tenantsAt(limit int) int {
	n := 0
	for _, k := range s.Tenants {
		if k >= limit {
			n++
		}
	}
	return n
}

func (s *Strikes) standing(now time.Time) bool { return s.Open != nil && now.Before(s.Open.Until) }

// widen returns the standing block made to hold for what b holds for too, or nil when it does already.
func (s Strikes) widen(b *Block) (Strikes, *Block) {
	old := s.Open
	if old.covers(b) {
		return s, nil
	}
	b.Level, b.Until = old.Level, old.Until
	if !old.forAll() || !b.forAll() {
		// Two blocks of different reach become one that covers both: for everyone, whatever the size.
		b.Tenants = []Tenant{Everyone}
		if old.Kind != b.Kind && b.Kind == failure.OutOfMemory {
			b.Kind, b.Message, b.Size = old.Kind, old.Message, 0
		}
	}
	s.Open = b
	return s, b
}

// covers reports whether b keeps away every job that other would.
func (b *Block) covers(other *Block) bool {
	if b.Kind == failure.OutOfMemory && (other.Kind != failure.OutOfMemory || other.Size < b.Size) {
		return false
	}
	if b.forAll() {
		return true
	}
	for _, t := range other.Tenants {
		if !slices.Contains(b.Tenants, t) {
			return false
		}
	}
	return true
}

func (s Strikes) incapable(f Strike, now time.Time, p Policy) (Strikes, *Block) {
	b := &Block{
		Host: f.Host, Hash: f.Hash, Kind: f.Kind, Message: f.Message, Job: f.Job,
		Tenants: []Tenant{Everyone}, Failures: 1, Level: s.Level, Until: now.Add(wholeSeconds(p.Cap)),
	}
	if s.standing(now) && s.Open.Kind == failure.Incapable {
		return s, nil
	}
	s.Open = b
	return s, b
}

// Success counts a success of a tenant's job on the pair. It clears the common count and that tenant's own;
// other tenants' counts stay, and so does the level, which only time lowers. A job smaller than one that ran out
// of memory says nothing about memory: it leaves the common count as it is when the last block was for memory.
//
// at is when it happened, by the host's clock. One that is older than the newest failure comes late: it changes
// nothing, since it must not clear what happened after it.
//
// lift reports that the standing block has lost its reason and is to be removed now. changed reports whether
// there is anything to store.
func (s Strikes) Success(tenant Tenant, size int64, at, now time.Time) (next Strikes, lift, changed bool) {
	if at.Before(s.Last) || s.Tenants[tenant] == 0 && (s.Common == 0 || size < s.Size) && !s.standing(now) {
		return s, false, false
	}
	before := s.failures()
	s = s.clone()
	delete(s.Tenants, tenant)
	if size >= s.Size {
		s.Common, s.Size = 0, 0
	}
	lift = s.standing(now) && s.recovered(tenant, size)
	if lift {
		s.Open = nil
	}
	return s, lift, lift || s.failures() != before
}

// Lifted forgets the standing block, which somebody has lifted: by hand, or because the host's capability has
// changed. Without it the next failure would be taken for one that the block covers.
func (s Strikes) Lifted() Strikes {
	s.Open = nil
	return s
}

// recovered reports whether a success takes the reason from the standing block.
func (s *Strikes) recovered(tenant Tenant, size int64) bool {
	b := s.Open
	switch {
	case b.Kind.Verdict().Strike != failure.PerTenant:
		return b.HoldsFor(tenant, size)
	case b.forAll():
		return s.failures() == 0
	}
	return slices.Contains(b.Tenants, tenant)
}
