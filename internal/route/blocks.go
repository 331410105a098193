package route

import (
	"cmp"
	"maps"
	"slices"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// standing is a block in force.
type standing struct {
	Block
	facts  *facts
	number int32
}

// sizedBlocks are the hosts whose out_of_memory block begins at one size.
type sizedBlocks struct {
	size  int64
	hosts hostSet
}

// PutBlock puts a block in force, in place of the pair's former one. It stands until RemoveBlock, whatever Until says:
// a block ends when its key in COMFY_BLOCKS does, by the clock of NATS.
func (f *Fleet) PutBlock(b Block) {
	f.RemoveBlock(b.Host, b.Hash)
	s := &standing{Block: b, facts: f.use(b.Hash), number: f.number(b.Host)}
	s.Tenants, s.Own = slices.Clone(b.Tenants), maps.Clone(b.Own)
	f.blocks[pair{b.Host, b.Hash}] = s
	f.hosts[s.number].refs++
	f.ref(s.facts)
	f.enforce(s)
	f.mark(s.facts)
}

// RemoveBlock ends the block of a pair and reports whether there was one.
func (f *Fleet) RemoveBlock(id HostID, hash workflow.Hash) bool {
	s := f.blocks[pair{id, hash}]
	if s == nil {
		return false
	}
	f.lift(s)
	return true
}

func (f *Fleet) lift(s *standing) {
	delete(f.blocks, pair{s.Host, s.Hash})
	x := s.facts
	x.everyone.del(s.number)
	x.incapable.del(s.number)
	for _, t := range s.Tenants {
		if hosts := x.tenants[t]; hosts != nil {
			if hosts.del(s.number); hosts.n == 0 {
				delete(x.tenants, t)
			}
		}
	}
	if k, found := x.sizeAt(s.Size); found {
		if x.sized[k].hosts.del(s.number); x.sized[k].hosts.n == 0 {
			x.sized = slices.Delete(x.sized, k, k+1)
		}
	}
	x.odd = slices.DeleteFunc(x.odd, func(o *standing) bool { return o == s })
	f.mark(x)
	f.unref(x)
	f.hosts[s.number].refs--
	f.freeNumber(s.number)
}

// enforce adds a block to the sets that Choose reads.
func (f *Fleet) enforce(s *standing) {
	x := s.facts
	if len(s.Own) > 0 || s.forMemory() && !s.forAll() {
		x.odd = append(x.odd, s)
	}
	switch {
	case s.forMemory() && !s.forAll():
	case s.forMemory():
		k, found := x.sizeAt(s.Size)
		if !found {
			x.sized = slices.Insert(x.sized, k, sizedBlocks{size: s.Size})
		}
		x.sized[k].hosts.add(s.number)
	case s.forAll():
		x.everyone.add(s.number)
	default:
		if x.tenants == nil {
			x.tenants = map[Tenant]*hostSet{}
		}
		for _, t := range s.Tenants {
			entry(x.tenants, t).add(s.number)
		}
	}
	if s.Kind == failure.Incapable {
		x.incapable.add(s.number)
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
	for _, o := range x.odd {
		if o.HoldsFor(tenant, size) {
			s.del(o.number)
		}
	}
}

// Blocked gives the block of a pair, as long as it stands.
func (f *Fleet) Blocked(id HostID, hash workflow.Hash) (Block, bool) {
	if s := f.blocks[pair{id, hash}]; s != nil {
		return s.Block, true
	}
	return Block{}, false
}

// BlockCount is how many blocks stand.
func (f *Fleet) BlockCount() int { return len(f.blocks) }

// PutStrikes says what is remembered of a pair: whether it is on probation.
func (f *Fleet) PutStrikes(id HostID, hash workflow.Hash, s Strikes) {
	f.putProbation(id, hash, s.OnProbation())
}

// RemoveStrikes forgets what is remembered of a pair.
func (f *Fleet) RemoveStrikes(id HostID, hash workflow.Hash) { f.putProbation(id, hash, false) }

func (f *Fleet) putProbation(id HostID, hash workflow.Hash, on bool) {
	x := f.use(hash)
	n := f.number(id)
	if x.probation.has(n) == on {
		f.freeNumber(n)
		return
	}
	x.probation.put(n, on)
	if on {
		f.hosts[n].refs++
		f.ref(x)
		return
	}
	f.hosts[n].refs--
	f.unref(x)
	f.freeNumber(n)
}
