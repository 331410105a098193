package route

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"unique"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// keptBlock is a block in force (for how long: BlockFor, policy.go), as it is kept: in some 130 bytes with the name of its job and its place in the sets,
// since there may be a hundred thousand.
type keptBlock struct {
	shared   unique.Handle[sharedFacts]
	job      JobID
	until    int64
	size     int64
	number   int32 // of the host
	failures uint16
	level    uint16
}

// sharedFacts is what many blocks have in common.
type sharedFacts struct {
	kind    failure.Kind
	tenant  Tenant
	tenants string // those that it holds for, each with a space after it
	message string
}

// wholeBlock is a block that keptBlock has no room for, since it has sizes of tenants: it is kept whole beside it. There are few.
type wholeBlock struct {
	Block
	number int32
}

// sizedBlocks are the hosts whose out_of_memory block begins at one size.
type sizedBlocks struct {
	size  int64
	hosts hostSet
}

// keptWhole reports whether it needs a wholeBlock.
func (b *Block) keptWhole() bool { return len(b.Own) > 0 || b.forMemory() && !b.forAll() }

// PutBlock puts a block in force, in place of the pair's former one. It is in force until RemoveBlock, whatever Until says:
// a block ends when its key in COMFY_BLOCKS does, by the clock of NATS.
func (f *Fleet) PutBlock(b Block) {
	f.RemoveBlock(b.Host, b.Hash)
	x, n := f.use(b.Hash), f.number(b.Host)
	at, _ := x.blockAt(n)
	x.blocks = slices.Insert(x.blocks, at, keptBlockOf(&b, n))
	if b.keptWhole() {
		b.Tenants, b.Own = slices.Clone(b.Tenants), maps.Clone(b.Own)
		x.whole = append(x.whole, &wholeBlock{b, n})
	}
	f.blockCount++
	f.hosts[n].blocks++
	f.hosts[n].refs++
	f.ref(x)
	x.enforce(&b, n)
	f.noteChanged(x)
}

func keptBlockOf(b *Block, n int32) *keptBlock {
	var tenants strings.Builder
	for _, t := range b.Tenants {
		tenants.WriteString(string(t) + " ")
	}
	return &keptBlock{
		shared: unique.Make(sharedFacts{b.Kind, b.Tenant, tenants.String(), b.Message}),
		job:    b.Job, until: nanos(b.Until), size: b.Size, number: n,
		failures: uint16(min(max(b.Failures, 0), math.MaxUint16)), level: uint16(min(max(b.Level, 0), math.MaxUint16)),
	}
}

// blockAt is the place of a host's block among those of a hash, and whether there is one.
func (x *facts) blockAt(n int32) (int, bool) {
	return slices.BinarySearchFunc(x.blocks, n, func(s *keptBlock, n int32) int { return cmp.Compare(s.number, n) })
}

// block gives the block of a host in full; nil when there is none.
func (x *facts) block(h *host, n int32) *Block {
	at, inForce := x.blockAt(n)
	if !inForce {
		return nil
	}
	if k := slices.IndexFunc(x.whole, func(b *wholeBlock) bool { return b.number == n }); k >= 0 {
		return &x.whole[k].Block
	}
	s := x.blocks[at]
	c := s.shared.Value()
	b := &Block{
		Host: h.id, Hash: x.hash, Kind: c.kind, Message: c.message, Job: s.job, Tenant: c.tenant,
		Failures: int(s.failures), Level: int(s.level), Size: s.size, Until: moment(s.until),
	}
	for t := range strings.FieldsSeq(c.tenants) {
		b.Tenants = append(b.Tenants, Tenant(t))
	}
	return b
}

// RemoveBlock ends the block of a pair and reports whether there was one.
func (f *Fleet) RemoveBlock(id HostID, hash workflow.Hash) bool {
	b, x, n := f.find(id, hash)
	if b == nil {
		return false
	}
	at, _ := x.blockAt(n)
	x.blocks = slices.Delete(x.blocks, at, at+1)
	if len(x.blocks) == 0 {
		x.blocks = nil
	}
	x.whole = slices.DeleteFunc(x.whole, func(b *wholeBlock) bool { return b.number == n })
	x.lift(b, n)
	f.blockCount--
	f.hosts[n].blocks--
	f.noteChanged(x)
	f.unref(x)
	f.hosts[n].refs--
	f.freeNumber(n)
	return true
}

// find gives the block of a pair, nil when there is none, and the facts and the number that it is found by.
func (f *Fleet) find(id HostID, hash workflow.Hash) (*Block, *facts, int32) {
	x := f.hashes[hash]
	n, known := f.numbers[id]
	if x == nil || !known {
		return nil, nil, 0
	}
	return x.block(f.hosts[n], n), x, n
}

// lift takes a block out of the sets that Choose reads.
func (x *facts) lift(b *Block, n int32) {
	x.everyone.del(n)
	x.incapable.del(n)
	for _, t := range b.Tenants {
		if hosts := x.tenants[t]; hosts != nil {
			if hosts.del(n); hosts.n == 0 {
				delete(x.tenants, t)
			}
		}
	}
	if k, found := x.sizeAt(b.Size); found {
		if x.sized[k].hosts.del(n); x.sized[k].hosts.n == 0 {
			x.sized = slices.Delete(x.sized, k, k+1)
		}
	}
}

// enforce adds a block to the sets that Choose reads.
func (x *facts) enforce(b *Block, n int32) {
	switch {
	case b.forMemory() && !b.forAll():
	case b.forMemory():
		k, found := x.sizeAt(b.Size)
		if !found {
			x.sized = slices.Insert(x.sized, k, sizedBlocks{size: b.Size})
		}
		x.sized[k].hosts.add(n)
	case b.forAll():
		x.everyone.add(n)
	default:
		if x.tenants == nil {
			x.tenants = map[Tenant]*hostSet{}
		}
		for _, t := range b.Tenants {
			entry(x.tenants, t).add(n)
		}
	}
	if b.Kind == failure.Incapable {
		x.incapable.add(n)
	}
}

func (x *facts) sizeAt(size int64) (int, bool) {
	return slices.BinarySearchFunc(x.sized, size, func(b sizedBlocks, size int64) int { return cmp.Compare(b.size, size) })
}

// removeBlocked removes from s the hosts that are blocked for a tenant and size.
func (x *facts) removeBlocked(s set, tenant Tenant, size int64) {
	x.everyone.removeFrom(s)
	if len(x.tenants) > 0 {
		if hosts := x.tenants[tenant]; hosts != nil {
			hosts.removeFrom(s)
		}
	}
	for i := range x.sized {
		if x.sized[i].size > atWorst(size) {
			break
		}
		x.sized[i].hosts.removeFrom(s)
	}
	for _, b := range x.whole {
		if b.HoldsFor(tenant, size) {
			s.del(b.number)
		}
	}
}

// Blocked gives the block of a pair, while it is in force.
func (f *Fleet) Blocked(id HostID, hash workflow.Hash) (Block, bool) {
	if b, _, _ := f.find(id, hash); b != nil {
		return *b, true
	}
	return Block{}, false
}

// HasBlock reports whether a pair has a block in force.
func (f *Fleet) HasBlock(id HostID, hash workflow.Hash) bool {
	x := f.hashes[hash]
	n, known := f.numbers[id]
	if x == nil || !known {
		return false
	}
	_, inForce := x.blockAt(n)
	return inForce
}

// BlockCount is how many blocks are in force.
func (f *Fleet) BlockCount() int { return f.blockCount }

// Counts is how many blocks are in force on a host, and how many of its pairs have strikes.
func (f *Fleet) Counts(id HostID) (blocks, struck int) {
	if n, known := f.numbers[id]; known {
		return int(f.hosts[n].blocks), int(f.hosts[n].struck)
	}
	return 0, 0
}

// EachBlock visits the pair of every block, in no order. It calls pause after each workflow, with blocks or without, and ends when that
// returns false. The fleet may change meanwhile: a block that is added then may be visited or not.
func (f *Fleet) EachBlock(pause func() bool) iter.Seq2[HostID, workflow.Hash] {
	return func(visit func(HostID, workflow.Hash) bool) {
		var blocked []int32
		for hash, x := range f.hashes {
			blocked = blocked[:0]
			for _, s := range x.blocks {
				blocked = append(blocked, s.number)
			}
			for _, n := range blocked {
				if _, inForce := x.blockAt(n); inForce && !visit(f.hosts[n].id, hash) {
					return
				}
			}
			if !pause() {
				return
			}
		}
	}
}

// PutStrikes sets what is remembered of a pair: that it has strikes, and whether it is on probation.
func (f *Fleet) PutStrikes(id HostID, hash workflow.Hash, s Strikes) {
	x, n := f.use(hash), f.number(id)
	if f.note(&x.struck, x, n, true) {
		f.hosts[n].struck++
	}
	f.note(&x.probation, x, n, s.OnProbation())
}

// RemoveStrikes forgets what is remembered of a pair.
func (f *Fleet) RemoveStrikes(id HostID, hash workflow.Hash) {
	x, n := f.use(hash), f.number(id)
	f.note(&x.probation, x, n, false)
	if f.note(&x.struck, x, n, false) {
		f.hosts[n].struck--
	}
	f.freeNumber(n)
}

// Struck reports whether a pair has strikes.
func (f *Fleet) Struck(id HostID, hash workflow.Hash) bool {
	x := f.hashes[hash]
	n, known := f.numbers[id]
	return x != nil && known && x.struck.has(n)
}

// OnProbation reports whether a pair had a block and has not succeeded since.
func (f *Fleet) OnProbation(id HostID, hash workflow.Hash) bool {
	x := f.hashes[hash]
	n, known := f.numbers[id]
	return x != nil && known && x.probation.has(n)
}

// EachStruck visits every pair with strikes, as EachBlock does.
func (f *Fleet) EachStruck(pause func() bool) iter.Seq2[HostID, workflow.Hash] {
	return func(visit func(HostID, workflow.Hash) bool) {
		var struck []int32
		for hash, x := range f.hashes {
			struck = struck[:0]
			x.struck.each(func(n int32) { struck = append(struck, n) })
			for _, n := range struck {
				if x.struck.has(n) && !visit(f.hosts[n].id, hash) {
					return
				}
			}
			if !pause() {
				return
			}
		}
	}
}

// note puts a host into a set of a hash, or takes it out, and reports whether that is a change. While it is in the
// set, the host keeps its number and the hash its facts.
func (f *Fleet) note(s *hostSet, x *facts, n int32, member bool) bool {
	if s.has(n) == member {
		return false
	}
	s.put(n, member)
	if member {
		f.hosts[n].refs++
		f.ref(x)
		return true
	}
	f.hosts[n].refs--
	f.unref(x)
	return true
}
