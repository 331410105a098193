package route

import (
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Strikes is the record of a pair (host, hash): failures since its last success, the level that its next block
// will have, and which of its jobs the host went down with. The JSON form is the value in the strikes' bucket, kept for
// Policy.StrikesFor(Level) after each change. It is a value: Add and Success return a new one and leave the old as it is.
type Strikes struct {
	// Tenants counts each tenant's failures, except out_of_memory.
	Tenants map[Tenant]int `json:"tenants,omitempty"`
	// Memory is each tenant's out_of_memory.
	Memory map[Tenant]Shortage `json:"memory,omitempty"`
	// Level is how many blocks the pair has had since these strikes began. A success does not lower it; it starts from 0
	// again when the strikes are gone, by time (Policy.StrikesFor) or because they were cleared.
	Level int `json:"level,omitempty"`
	// Ran is the biggest job of known size that has run on the host, as far as that was seen; 0 = none was.
	Ran int64 `json:"ran,omitempty"`
	// Suspects are the jobs that the host went down with, or became unhealthy with, since the last success of their tenant.
	Suspects []Suspicion `json:"suspects,omitempty"`
	// Guilty are the tenants whose jobs of this hash take hosts down, each with the proof as a text for people.
	Guilty map[Tenant]string `json:"guilty,omitempty"`
	// Open is the last block. It is in force until its Until, which may have passed.
	Open *Block `json:"open,omitempty"`
	// Marks are the last failures that were counted, so that counting one again changes nothing.
	Marks []uint64 `json:"marks,omitempty"`
	// Last is when the newest failure happened, by the host's clock.
	Last time.Time `json:"last,omitzero"`
}

// marksKept bounds Marks. A failure is settled within minutes, or by a dispatcher that starts after a crash; a
// pair that fails more often than this meanwhile is blocked anyway.
const marksKept = 16

// suspectsKept bounds Suspects; the newest are kept.
const suspectsKept = 8

// Suspicion is a job that a host went down with, and how far the job was.
type Suspicion struct {
	Tenant   Tenant        `json:"tenant"`
	Job      JobID         `json:"job"`
	Kind     failure.Kind  `json:"kind"`
	Cause    failure.Cause `json:"cause,omitempty"`
	Node     string        `json:"node,omitempty"`
	Progress float64       `json:"progress,omitempty"`
	NodeRan  time.Duration `json:"node_ran,omitempty"` // nanoseconds
}

// Loss is the suspicion in the form in which it is compared with others.
func (s *Suspicion) Loss(host HostID) failure.Loss {
	return failure.Loss{Job: string(s.Job), Attempt: failure.Attempt{
		Host: string(host), Kind: s.Kind, Cause: s.Cause, Node: s.Node, Progress: s.Progress, NodeRan: s.NodeRan,
	}}
}

// Strike is one failed attempt, as far as its pair is concerned.
type Strike struct {
	Host    HostID
	Hash    workflow.Hash
	Attempt failure.Attempt // its Host is the Host
	Tenant  Tenant
	Job     JobID
	Size    int64         // 0 = unknown
	Ran     int64         // the biggest job of known size that is known to have run there; 0 = none is
	Mark    uint64        // stream sequence of the failed event; 0 = unknown, counted always
	At      time.Time     // when it happened, by the host's clock
	Jitter  time.Duration // added to the block, so that many blocks do not end at one moment; may be 0
}

// OnProbation reports whether the host takes one job of the hash at a time: the pair has been blocked and has
// not succeeded since.
func (s Strikes) OnProbation() bool { return s.Level > 0 && s.Failures() > 0 }

// Clear reports whether there is nothing to keep, so that the key may be removed.
func (s Strikes) Clear() bool {
	return s.Level == 0 && s.Failures() == 0 && s.Open == nil && len(s.Suspects) == 0 && len(s.Guilty) == 0
}

// Failures is how often the pair has failed since its last success.
func (s Strikes) Failures() int {
	n := 0
	for _, k := range s.Tenants {
		n += k
	}
	for _, m := range s.Memory {
		n += m.Failures
	}
	return n
}

func (s Strikes) clone() Strikes {
	s.Tenants, s.Memory, s.Guilty = maps.Clone(s.Tenants), maps.Clone(s.Memory), maps.Clone(s.Guilty)
	s.Marks, s.Suspects = slices.Clone(s.Marks), slices.Clone(s.Suspects)
	return s
}

// Add counts a failure and returns the block that follows from it: a new one, or the one in force, widened
// (to everyone, to smaller jobs, or from big jobs to all), with its Until and Level as they were. It returns nil
// when no block follows, when the kind is no strike, when the host is proven to be at fault, and when the failure was
// counted before.
//
// The rules: failures count per tenant, out_of_memory apart from the others, and the block holds for the tenant whose
// count reaches MaxFailures; when a second tenant's does, it holds for everyone. incapable blocks at once, for everyone
// and for the cap, and is no strike. host_lost blocks nothing; like host_sick, it is remembered as a suspicion, unless the
// prompt waited while another one ran. A failure while a block is in force never lengthens it: it is a job that the host had
// before.
//
// A block for out_of_memory holds the tenant's jobs that are at least as big as its smallest job that ran out, and those of
// unknown size. When a job of unknown size ran out, the block holds all that are at least as big as the biggest that has run
// on this host; where none is known to have run, at least as big as the smallest that ran out; and where no size is known
// at all, every job. For everyone it holds from the second smallest of the tenants' sizes on, so that no tenant can block the
// small jobs of others.
func (s Strikes) Add(f Strike, now time.Time, p Policy) (Strikes, *Block) {
	scope := f.Attempt.Kind.Verdict().Strike
	if scope == failure.NoStrike || f.Attempt.Proven || f.Attempt.Waited || f.Mark != 0 && slices.Contains(s.Marks, f.Mark) {
		return s, nil
	}
	p = p.filled()
	s = s.clone()
	s.mark(f.Mark)
	if f.At.After(s.Last) {
		s.Last = f.At
	}
	if f.Attempt.Lost() {
		s.suspect(&f)
	}
	switch {
	case scope == failure.UntilCapable:
		return s.incapable(f, now, p)
	case scope == failure.Suspected, s.count(f) < p.MaxFailures:
		return s, nil
	}
	b := s.block(f, p.MaxFailures)
	if s.blocked(now) {
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

func (s *Strikes) suspect(f *Strike) {
	a := &f.Attempt
	s.Suspects = append(s.Suspects, Suspicion{
		Tenant: f.Tenant, Job: f.Job, Kind: a.Kind, Cause: a.Cause, Node: a.Node, Progress: a.Progress, NodeRan: a.NodeRan,
	})
	if extra := len(s.Suspects) - suspectsKept; extra > 0 {
		s.Suspects = slices.Delete(s.Suspects, 0, extra)
	}
}

// SetGuilty records that a tenant's jobs of this hash take hosts down.
func (s Strikes) SetGuilty(t Tenant, text string) Strikes {
	s = s.clone()
	if s.Guilty == nil {
		s.Guilty = map[Tenant]string{}
	}
	s.Guilty[t] = text
	return s
}

// count adds the failure and returns the tenant's count.
func (s *Strikes) count(f Strike) int {
	if f.Attempt.Kind == failure.OutOfMemory {
		return s.countShortage(&f)
	}
	if s.Tenants == nil {
		s.Tenants = map[Tenant]int{}
	}
	s.Tenants[f.Tenant]++
	return s.Tenants[f.Tenant]
}

func (s *Strikes) block(f Strike, limit int) *Block {
	b := &Block{
		Host: f.Host, Hash: f.Hash, Kind: f.Attempt.Kind, Message: f.Attempt.Message, Job: f.Job, Tenant: f.Tenant,
		Tenants: []Tenant{f.Tenant},
	}
	if b.forMemory() {
		b.Failures = s.Memory[f.Tenant].Failures
		s.setSizes(b, limit)
		return b
	}
	b.Failures = s.Tenants[f.Tenant]
	if reached(s.Tenants, limit) > 1 {
		b.Tenants = []Tenant{Everyone}
	}
	return b
}

// reached is how many tenants have come to the limit.
func reached(counts map[Tenant]int, limit int) int {
	n := 0
	for _, k := range counts {
		if k >= limit {
			n++
		}
	}
	return n
}

func (s *Strikes) blocked(now time.Time) bool { return s.Open != nil && now.Before(s.Open.Until) }

// widen returns the block in force, extended to what b holds for, or nil when it holds for that already.
func (s Strikes) widen(b *Block) (Strikes, *Block) {
	old := s.Open
	if old.covers(b) {
		return s, nil
	}
	b.Level, b.Until = old.Level, old.Until
	if old.forAll() && (!b.forAll() || old.least() < b.least()) { // the old block holds for more: keep its reason, and add what b holds for
		b = old.with(b)
	} else {
		b = b.with(old)
	}
	s.Open = b
	return s, b
}

func (s Strikes) incapable(f Strike, now time.Time, p Policy) (Strikes, *Block) {
	b := &Block{
		Host: f.Host, Hash: f.Hash, Kind: f.Attempt.Kind, Message: f.Attempt.Message, Job: f.Job, Tenant: f.Tenant,
		Tenants: []Tenant{Everyone}, Failures: 1, Level: s.Level, Until: now.Add(wholeSeconds(p.Cap)),
	}
	if s.blocked(now) && s.Open.Kind == failure.Incapable {
		return s, nil
	}
	s.Open = b
	return s, b
}
