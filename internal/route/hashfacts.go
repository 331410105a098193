package route

import (
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	// hashesKept bounds what is remembered of hashes that no block, strike, affinity, run or warm host refers to:
	// requirements and run times of the ones used last.
	hashesKept = 16384
	// modelsCompared is how many models of a workflow are looked at to find hosts that share them.
	modelsCompared = 15
)

// facts is what is known of a hash.
type facts struct {
	hash workflow.Hash
	seed uint64
	refs int    // blocks, strikes, affinity, runs and warm hosts that refer to it
	next *facts // in Fleet.idle
	prev *facts

	known        bool // requirements are
	requirements workflow.Requirements
	compiled     workflow.Compiled
	models       []*model
	reach        *reach // nil = not asked for yet
	judged       uint64 // Fleet.installationsMade when reach was found

	blocks    []*keptBlock // by host number
	everyone  hostSet      // hosts with a block for all tenants and sizes
	incapable hostSet      // those of kind incapable
	tenants   map[Tenant]*hostSet
	sized     []sizedBlocks // out_of_memory for all tenants, smallest first
	whole     []*wholeBlock
	struck    hostSet // hosts with strikes of the hash
	probation hostSet
	withheld  map[Tenant]bool // whose jobs of the hash go to no host
	running   hostSet
	warm      []hostSet // by position among a host's warm hashes
	affinity  *affinity
	leaders   leaders

	ran  mean // seconds
	cold mean // seconds, of runs that had to load their models
	hot  mean // seconds, of runs that had not
}

type affinity struct{ prefer, exclude []string }

// model is a model file that hosts have loaded or workflows need.
type model struct {
	name  string
	hosts hostSet // where it is warm
	loads mean    // seconds
	refs  int     // facts that need it
}

// installation is one capability, which all hosts that are installed alike share.
type installation struct {
	capability workflow.Capability
	digest     uint64
	refs       int // hosts that have it, present or not
	hosts      set // those that are present
	number     int32
	made       uint64 // Fleet.installationsMade when it came
}

// ring keeps facts in the order of their last use.
type ring struct {
	head, tail *facts // newest, oldest
	n          int
}

func (r *ring) oldest() *facts           { return r.tail }
func (r *ring) contains(x *facts) bool   { return r.head == x || x.prev != nil }
func (r *ring) touch(x *facts)           { r.remove(x); r.push(x) }
func (r *ring) link(newer, older *facts) { setLink(newer, older, r) }

func setLink(newer, older *facts, r *ring) {
	if newer != nil {
		newer.next = older
	} else {
		r.head = older
	}
	if older != nil {
		older.prev = newer
	} else {
		r.tail = newer
	}
}

func (r *ring) push(x *facts) {
	r.link(x, r.head)
	r.link(nil, x)
	if r.tail == nil {
		r.tail = x
	}
	r.n++
}

func (r *ring) remove(x *facts) {
	if !r.contains(x) {
		return
	}
	r.link(x.prev, x.next)
	x.prev, x.next = nil, nil
	r.n--
}

// use returns the facts of a hash, making them if there are none.
func (f *Fleet) use(hash workflow.Hash) *facts {
	x := f.hashes[hash]
	if x != nil {
		if x.refs == 0 {
			f.idle.touch(x)
		}
		return x
	}
	x = &facts{hash: hash, seed: xxhash.Sum64String(string(hash))}
	f.hashes[hash] = x
	f.keepIdle(x)
	return x
}

// keepIdle keeps the facts of a hash to which nothing refers, as long as they are among those used last.
func (f *Fleet) keepIdle(x *facts) {
	f.idle.push(x)
	if f.idle.n > hashesKept {
		f.forget(f.idle.oldest())
	}
}

func (f *Fleet) ref(x *facts) {
	if x.refs++; x.refs == 1 {
		f.idle.remove(x)
	}
}

func (f *Fleet) unref(x *facts) {
	if x.refs--; x.refs == 0 {
		f.keepIdle(x)
	}
}

func (f *Fleet) forget(x *facts) {
	f.idle.remove(x)
	f.dropReach(x)
	f.setModels(x, nil)
	delete(f.hashes, x.hash)
}

// Known reports whether the requirements of a hash are known. Without them every host counts as capable.
func (f *Fleet) Known(hash workflow.Hash) bool {
	x := f.hashes[hash]
	return x != nil && x.known
}

// PutRequirements sets what workflows of a hash need; the first call counts.
func (f *Fleet) PutRequirements(hash workflow.Hash, r workflow.Requirements) {
	x := f.use(hash)
	if x.known {
		return
	}
	x.known, x.requirements, x.compiled = true, r, r.Compile()
	f.dropReach(x)
	x.judged = 0
	f.noteChanged(x)
	names := make([]string, 0, len(r.Models))
	for _, m := range r.Models {
		names = append(names, m.File)
	}
	slices.Sort(names)
	f.setModels(x, slices.Compact(names))
	for i := range x.warm {
		x.warm[i].each(f.updateModels)
	}
}

func (f *Fleet) setModels(x *facts, names []string) {
	for _, m := range x.models {
		if m.refs--; m.refs == 0 {
			delete(f.models, m.name)
		}
	}
	x.models = nil
	for _, name := range names[:min(len(names), modelsCompared)] {
		m := f.models[name]
		if m == nil {
			m = &model{name: name}
			f.models[name] = m
		}
		m.refs++
		x.models = append(x.models, m)
	}
}

// updateModels sets which models are warm on a host, from its warm hashes.
func (f *Fleet) updateModels(n int32) {
	h := f.hosts[n]
	for _, m := range h.resident {
		m.hosts.del(n)
	}
	h.resident = h.resident[:0]
	for _, x := range h.warm {
		for _, m := range x.models {
			if !m.hosts.has(n) {
				m.hosts.add(n)
				h.resident = append(h.resident, m)
			}
		}
	}
}

// PutCapability sets what a host can run. Hosts of equal capability share one copy.
func (f *Fleet) PutCapability(id HostID, c workflow.Capability) {
	n := f.number(id)
	h := f.hosts[n]
	if h.installation != nil && h.installation.capability.Equal(c) {
		return
	}
	f.dropInstallation(n)
	digest := c.Digest()
	k := f.installations[digest]
	for k != nil && !k.capability.Equal(c) { // a host may report an invented capability that has the digest of another
		digest++
		k = f.installations[digest]
	}
	if k == nil {
		k = &installation{capability: c, digest: digest}
		f.addInstallation(k)
	}
	k.refs++
	h.installation = k
	f.described.add(n)
	if h.present {
		f.unknown.del(n)
		f.arrived(n)
	}
}

// Capability is what a host can run. When that is unknown it is the zero Capability.
func (f *Fleet) Capability(id HostID) workflow.Capability {
	if n, ok := f.numbers[id]; ok && f.hosts[n].installation != nil {
		return f.hosts[n].installation.capability
	}
	return workflow.Capability{}
}

// RemoveCapability forgets what a host can run: it counts as capable of everything.
func (f *Fleet) RemoveCapability(id HostID) {
	n, ok := f.numbers[id]
	if !ok || f.hosts[n].installation == nil {
		return
	}
	f.dropInstallation(n)
	if f.hosts[n].present {
		f.arrived(n)
	}
	f.freeNumber(n)
}

func (f *Fleet) dropInstallation(n int32) {
	h := f.hosts[n]
	if h.installation == nil {
		return
	}
	f.described.del(n)
	h.installation.hosts.del(n)
	if h.installation.refs--; h.installation.refs == 0 {
		f.removeInstallation(h.installation)
	}
	h.installation = nil
}

func (x *facts) warmAt(i int) *hostSet {
	for len(x.warm) <= i {
		x.warm = append(x.warm, hostSet{})
	}
	return &x.warm[i]
}

// PutAffinity sets the rule of a hash; each entry is a host's name or a label. Without entries the rule is gone.
func (f *Fleet) PutAffinity(hash workflow.Hash, prefer, exclude []string) {
	x := f.use(hash)
	if x.affinity != nil {
		x.affinity = nil
		f.unref(x)
	}
	if len(prefer)+len(exclude) > 0 {
		x.affinity = &affinity{prefer: slices.Clone(prefer), exclude: slices.Clone(exclude)}
		f.ref(x)
	}
	f.noteChanged(x)
}

// mean is a running mean of roughly the last twelve observations.
type mean struct {
	value float64
	n     int
}

func (m *mean) observe(v float64) {
	m.n = min(m.n+1, 12)
	m.value += (v - m.value) / float64(m.n)
}

func (m *mean) duration() time.Duration { return time.Duration(m.value * float64(time.Second)) }

// expected is how long a run of the hash takes; 0 when none has been seen.
func (x *facts) expected() time.Duration { return x.ran.duration() }
