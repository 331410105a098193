package dispatcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A store that is full drops its oldest files, no matter which tenant's. So a tenant has a part of COMFY_INPUTS, and no piece is
// stored that would have NATS drop a file: above four fifths of the store only tenants with less than an equal part may
// put more, and close to its end none may.
//
// Every dispatcher counts all tenants from what is stored, once a second while pieces come, and adds those that it has let
// in since. So a tenant exceeds its part at most by what other dispatchers take in between two counts. Counting may take one
// tenth of the time: of a store with a million files it takes seconds, and so a count is used for that much longer.

const (
	partOfStore = 4                      // which part of the store a tenant may have: one of so many
	inputsAge   = time.Second            // of a count that is used
	refusalAge  = 200 * time.Millisecond // of a count by which pieces are refused
	countTimes  = 10                     // a count is used at least so many times as long as it took
)

// inputShares says whether a tenant may put more into COMFY_INPUTS.
type inputShares struct {
	count func(context.Context) (queue.InputsUse, error)
	own   func(job.Tenant) int64 // what was set for a tenant; 0 is the usual part

	turn chan struct{} // holds one while a call counts

	mu           sync.Mutex // guards all below
	use          queue.InputsUse
	counts       int // begun
	counted      time.Time
	took         time.Duration
	pending      map[*pendingPiece]struct{}
	pendingBytes map[job.Tenant]int64
}

// pendingPiece is one that was let in and may not be in the count.
type pendingPiece struct {
	tenant job.Tenant
	bytes  int64
	over   int // number of the first count that includes its outcome; 0 while it is under way
}

func newInputShares(count func(context.Context) (queue.InputsUse, error), own func(job.Tenant) int64) *inputShares {
	return &inputShares{
		count: count, own: own, turn: make(chan struct{}, 1), pending: map[*pendingPiece]struct{}{}, pendingBytes: map[job.Tenant]int64{},
	}
}

// admit lets a piece in, or says why the tenant may put no more. bytes is what the piece is counted with, and want is how much of
// the file is still to come, this piece included; there must be room for the larger of both. done must be called when the piece
// was stored, or could not be.
func (s *inputShares) admit(ctx context.Context, tenant job.Tenant, bytes, want int64) (done func(), err error) {
	if err := s.look(ctx, inputsAge); err != nil {
		return nil, err
	}
	c := &pendingPiece{tenant: tenant, bytes: bytes}
	if s.enter(c, want) == nil {
		return func() { s.done(c) }, nil
	}
	if err := s.look(ctx, refusalAge); err != nil {
		return nil, err
	}
	if err := s.enter(c, want); err != nil {
		return nil, err
	}
	return func() { s.done(c) }, nil
}

func (s *inputShares) enter(c *pendingPiece, want int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(c.tenant, max(c.bytes, want)); err != nil {
		return err
	}
	s.pending[c] = struct{}{}
	s.pendingBytes[c.tenant] += c.bytes
	return nil
}

func (s *inputShares) done(c *pendingPiece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.over = s.counts + 1
}

// refusal says why a tenant may not have so much more.
func (s *inputShares) refusal(tenant job.Tenant, more int64) error {
	most, whole := s.own(tenant), s.use.Most
	if most == 0 {
		most = whole / partOfStore
	}
	has := s.use.Tenants[tenant] + s.pendingBytes[tenant] + more
	if most > 0 && has > most {
		return &jetstream.TooBig{Message: fmt.Sprintf("with this tenant %s has %d bytes of input files and may have %d: %s, or have the operator raise it with `dispatcher tenants set %s --max-file-bytes SIZE`",
			tenant, has, most, s.wait(), tenant)}
	}
	if whole == 0 {
		return nil
	}
	all, tenants := s.use.Bytes+more, len(s.use.Tenants)
	for other, bytes := range s.pendingBytes {
		all += bytes
		if _, counted := s.use.Tenants[other]; !counted {
			tenants++
		}
	}
	if has == more {
		tenants++ // it has no files yet
	}
	equal := whole / int64(tenants+1) // one part is left for the next tenant
	switch {
	case all > whole/50*49:
		return s.full("object store COMFY_INPUTS is full")
	case all > whole/5*4 && has > equal:
		return s.full(fmt.Sprintf("object store COMFY_INPUTS is nearly full, and with this tenant %s has %d bytes of it, more than its equal part of %d", tenant, has, equal))
	}
	return nil
}

func (s *inputShares) full(what string) error {
	return &jetstream.Failed{Message: fmt.Sprintf("507 insufficient storage: %s: %s, or have the operator raise --inputs-bytes of the dispatchers", what, s.wait())}
}

// wait says when there is more room.
func (s *inputShares) wait() string {
	if s.use.Age == 0 {
		return "put smaller or fewer files"
	}
	return fmt.Sprintf("files are removed %v after they were put", s.use.Age)
}

// look counts anew when the count is older than age, unless counting takes too long for that.
func (s *inputShares) look(ctx context.Context, age time.Duration) error {
	if s.isRecent(age) {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.isRecent(age) { // another one has counted meanwhile
		return nil
	}
	s.mu.Lock()
	s.counts++
	begun := time.Now()
	s.mu.Unlock()
	use, err := s.count(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return err
	}
	s.use, s.counted, s.took = use, time.Now(), time.Since(begun)
	for c := range s.pending {
		if c.over != 0 && c.over <= s.counts {
			s.forget(c)
		}
	}
	return nil
}

func (s *inputShares) isRecent(age time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.counted.IsZero() && time.Since(s.counted) <= max(age, countTimes*s.took)
}

func (s *inputShares) forget(c *pendingPiece) {
	delete(s.pending, c)
	if s.pendingBytes[c.tenant] -= c.bytes; s.pendingBytes[c.tenant] == 0 {
		delete(s.pendingBytes, c.tenant)
	}
}
