package route

import (
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	// warmDepth is how many hashes of a host count as warm: those that it runs, and then its recent ones, of which the agent
	// reports more.
	warmDepth = 4
	// loadLevels is how many levels of load are distinguished.
	loadLevels = 32
)

// Fleet is all that is known of hosts. It is not safe for concurrent use. The zero value is not ready; see
// NewFleet.
type Fleet struct {
	numbers map[HostID]int32
	hosts   []*host  // by number; nil = the number is free
	endsAt  []int64  // by number: when a slot is expected to be free, Unix nanoseconds; or never
	seeds   []uint64 // xxhash of the names, by number, side by side for highest
	unused  []int32
	byName  []int32 // numbers in the order of the names

	present    set // hosts that have presence
	described  set // hosts whose capability is known
	blamed     set // unhealthy hosts of which it is known whose job they ran
	online     set // state online
	free       set // online, with a slot that runs nothing
	spare      set // online, no slot, but room to hold one more job
	home       set
	leaves     bool // hosts at home elsewhere are left to their homes; see LeaveToHomes
	onlyHome   bool // only hosts in assignable may be chosen now
	assignable set  // hosts to which this dispatcher may give waiting jobs, when they are left to homes
	given      grants
	load       [loadLevels]set // online hosts by load
	labels     map[string]*hostSet
	memory     map[int64]*hostSet

	installations     map[uint64]*installation // capabilities by digest
	installationList  []*installation          // the same, the newest last
	installationsMade uint64                   // how many there have been
	freeInstallations []int32                  // numbers that no installation has any more
	unknown           set                      // present hosts whose capability is unknown
	reaches           map[uint64]*reach
	everything        *reach   // of hashes whose requirements are not known
	built             []*reach // whose hosts are up to date

	hashes     map[workflow.Hash]*facts
	idle       ring // facts that nothing refers to
	models     map[string]*model
	tenants    map[Tenant]*tenantFacts
	forgetAt   int // number of tenants at which those without settings, jobs and lanes are removed
	usual      int // the most jobs that a tenant without settings may run at once; 0 = no cap
	blockCount int // blocks in force

	vacant int // jobs that online hosts would take beyond those that they have
	kept   int // slots that Occupy keeps for jobs that no host reports yet

	presence uint64 // rises when hosts come or go
	version  uint64 // rises when hosts come, go or change their labels or what they can run
	renewed  uint64 // rises when the installations that can run a hash may be others
	// changed are the hashes of which some host may take jobs that it could not take before, or the reverse, since
	// the room last asked; beyond changedKept renewed rises instead.
	changed map[*facts]struct{}
	scratch scratch
}

type host struct {
	id           HostID
	present      bool  // PutHost is newer than RemoveHost
	refs         int   // blocks and strikes that hold the number
	blocks       int32 // in force
	struck       int32 // hashes with strikes
	installation *installation

	state    Availability
	slots    int
	prefetch int
	foreign  int
	memory   int64
	home     bool
	labels   []string
	until    time.Time // in state Resting
	why      string
	blamed   *tenantFacts // whose job it ran when it became unhealthy, as long as it is
	blame    JobID        // that job
	running  []run        // as the host reports
	offered  []run        // jobs given to Occupy, until Release or until the host reports them
	former   []run        // of length 0: memory for the next report
	recent   []*facts
	warm     []*facts // running and recent hashes, without repetitions, warmest first
	resident []*model
	begun    []begun
	sums     sums
}

// sums is what a host contributes to the fleet's sums and sets.
type sums struct{ vacant, kept, load int }

type run struct {
	Run
	facts  *facts // nil = it is counted elsewhere now
	tenant *tenantFacts
}

// begun remembers whether a run started on a warm host, until its run time is known.
type begun struct {
	facts *facts
	cold  bool
}

type tenantFacts struct {
	weight     float64
	maxRunning int
	total      int
	slots      int  // taken, as COMFY_SLOTS has it, which all dispatchers share
	elsewhere  bool // another dispatcher gives its jobs to hosts while it has a cap
	running    [priorities]int32
	lanes      int // that refer to it
	down       int // hosts that are unhealthy because of a job of its
}

// NewFleet returns a fleet without hosts.
func NewFleet() *Fleet {
	f := &Fleet{
		numbers: map[HostID]int32{}, labels: map[string]*hostSet{}, memory: map[int64]*hostSet{},
		installations: map[uint64]*installation{}, hashes: map[workflow.Hash]*facts{}, models: map[string]*model{},
		tenants: map[Tenant]*tenantFacts{},
		changed: map[*facts]struct{}{}, forgetAt: tenantsKept, reaches: map[uint64]*reach{}, everything: &reach{all: true},
	}
	return f
}

// number returns the number of a host, giving it one if it has none.
func (f *Fleet) number(id HostID) int32 {
	if n, ok := f.numbers[id]; ok {
		return n
	}
	h, seed := &host{id: id}, xxhash.Sum64String(string(id))
	n := int32(len(f.hosts))
	if k := len(f.unused); k > 0 {
		n, f.unused = f.unused[k-1], f.unused[:k-1]
		f.hosts[n], f.seeds[n], f.endsAt[n] = h, seed, never
	} else {
		f.hosts, f.seeds, f.endsAt = append(f.hosts, h), append(f.seeds, seed), append(f.endsAt, never)
	}
	f.numbers[id] = n
	at, _ := f.placeByName(id)
	f.byName = slices.Insert(f.byName, at, n)
	return n
}

// placeByName returns where a name is in byName, or would be.
func (f *Fleet) placeByName(id HostID) (int, bool) {
	return slices.BinarySearchFunc(f.byName, id, func(n int32, id HostID) int { return strings.Compare(string(f.hosts[n].id), string(id)) })
}

// freeNumber makes the number free for another host when nothing refers to it.
func (f *Fleet) freeNumber(n int32) {
	h := f.hosts[n]
	if h.present || h.refs > 0 || h.installation != nil {
		return
	}
	delete(f.numbers, h.id)
	at, _ := f.placeByName(h.id)
	f.byName = slices.Delete(f.byName, at, at+1)
	f.hosts[n] = nil
	f.unused = append(f.unused, n)
}

// PutHost sets a host's state as its agent reports it. Jobs that were occupied and that the host now reports as running
// are counted once; the others stay until Release.
func (f *Fleet) PutHost(s HostState) {
	n := f.number(s.ID)
	h := f.hosts[n]
	if !h.present {
		h.present = true
		f.arrived(n)
	}
	h.state, h.slots, h.prefetch, h.foreign = s.State, max(s.Slots, 0), max(s.Prefetch, 0), max(s.Foreign, 0)
	f.describe(n, s)
	f.setBlame(n, s)
	f.putRuns(n, s.Running)
	h.recent = h.recent[:0]
	for _, hash := range s.Recent[:min(len(s.Recent), warmDepth)] {
		h.recent = append(h.recent, f.factsOn(h, hash))
	}
	f.recount(n)
}

// describe sets the properties that seldom change.
func (f *Fleet) describe(n int32, s HostState) {
	h := f.hosts[n]
	h.home, h.until, h.why = s.Home, s.Until, s.Why
	f.home.put(n, s.Home)
	f.assignable.put(n, s.Home || s.Open)
	if h.memory != s.Memory {
		f.setMemory(n, s.Memory)
	}
	if !slices.Equal(h.labels, s.Labels) {
		f.setLabels(n, s.Labels)
	}
}

func (f *Fleet) setMemory(n int32, memory int64) {
	h := f.hosts[n]
	if old := f.memory[h.memory]; old != nil {
		if old.del(n); old.n == 0 {
			delete(f.memory, h.memory)
		}
	}
	h.memory = memory
	if memory > 0 {
		entry(f.memory, memory).add(n)
	}
}

func (f *Fleet) setLabels(n int32, labels []string) {
	h := f.hosts[n]
	for _, l := range h.labels {
		if f.labels[l].del(n); f.labels[l].n == 0 {
			delete(f.labels, l)
		}
	}
	h.labels = slices.Compact(slices.Sorted(slices.Values(labels)))
	for _, l := range h.labels {
		entry(f.labels, l).add(n)
	}
	f.version++
}

func entry[K comparable](m map[K]*hostSet, key K) *hostSet {
	s := m[key]
	if s == nil {
		s = &hostSet{}
		m[key] = s
	}
	return s
}

func contains(runs []run, r Run) bool { return placeIn(runs, &r) >= 0 }

func placeIn(runs []run, r *Run) int {
	for i := range runs {
		if runs[i].Job == r.Job && runs[i].Tenant == r.Tenant {
			return i
		}
	}
	return -1
}

// RemoveHost forgets a host's state: it is offline. Its capability, blocks and strikes stay.
func (f *Fleet) RemoveHost(id HostID) {
	n, ok := f.numbers[id]
	if !ok || !f.hosts[n].present {
		return
	}
	h := f.hosts[n]
	f.putRuns(n, nil)
	for len(h.offered) > 0 {
		f.withdraw(n, len(h.offered)-1)
	}
	h.running, h.offered, h.former, h.recent, h.begun = nil, nil, nil, nil, nil
	h.state, h.present, h.home = "", false, false
	f.setBlame(n, HostState{})
	f.recount(n)
	f.setLabels(n, nil)
	f.setMemory(n, 0)
	f.home.del(n)
	f.assignable.del(n)
	f.departed(n)
	f.freeNumber(n)
}

// Occupy counts a job against a host from the moment it is offered, so that one slot is not given twice before the host
// reports the job. Occupying again changes nothing. Undo it with Release once the offer is answered.
func (f *Fleet) Occupy(id HostID, r Run) {
	n, ok := f.numbers[id]
	if !ok || !f.hosts[n].present || f.hosts[n].find(&r) != nil {
		return
	}
	h := f.hosts[n]
	taken := run{Run: r, facts: f.factsOn(h, r.Hash)}
	h.noteStart(taken.facts)
	f.count(n, &taken)
	h.offered = append(h.offered, taken)
	f.recount(n)
}

// Release undoes Occupy. When the offer was accepted, call PutHost with the state in the answer first: jobs that the
// host reports as running are not affected.
func (f *Fleet) Release(id HostID, tenant Tenant, job JobID) {
	n, ok := f.numbers[id]
	if !ok {
		return
	}
	if i := placeIn(f.hosts[n].offered, &Run{Tenant: tenant, Job: job}); i >= 0 {
		f.withdraw(n, i)
		f.recount(n)
	}
}

// Slots is how many more jobs the hosts would take, whichever these are, and how many of their slots are occupied.
func (f *Fleet) Slots() (vacant, occupied int) { return f.vacant, f.kept }

// PutUsualCap sets the most jobs that each tenant may run at once for which PutTenant was not called; 0 = no cap. Call it
// before anything else.
func (f *Fleet) PutUsualCap(maxRunning int) { f.usual = max(maxRunning, 0) }

// PutTenant sets a tenant's weight (1 when 0 or less) and the most jobs it may run at once (0 = no cap).
func (f *Fleet) PutTenant(t Tenant, weight float64, maxRunning int) {
	facts := f.tenant(t)
	facts.weight, facts.maxRunning = weight, maxRunning
}

func (f *Fleet) tenant(t Tenant) *tenantFacts {
	facts := f.tenants[t]
	if facts == nil {
		f.forgetTenants()
		facts = &tenantFacts{maxRunning: f.usual}
		f.tenants[t] = facts
	}
	return facts
}

// tenantsKept is how many tenants there may be before those without settings, jobs and lanes are removed.
const tenantsKept = 1024

// forgetTenants removes tenants without settings, runs and lanes.
func (f *Fleet) forgetTenants() {
	if len(f.tenants) < f.forgetAt {
		return
	}
	for name, t := range f.tenants {
		if t.total == 0 && t.lanes == 0 && t.down == 0 && t.maxRunning == f.usual && t.slots == 0 && (t.weight <= 0 || t.weight == 1) {
			delete(f.tenants, name)
		}
	}
	f.forgetAt = max(tenantsKept, 2*len(f.tenants))
}

func (f *Fleet) weight(t Tenant) float64 {
	if facts := f.tenants[t]; facts != nil && facts.weight > 0 {
		return facts.weight
	}
	return 1
}

// changedKept bounds Fleet.changed while no Room reads it.
const changedKept = 4096

// noteChanged records that the blocks, requirements or affinity of a hash have changed.
func (f *Fleet) noteChanged(x *facts) {
	if len(f.changed) >= changedKept {
		clear(f.changed)
		f.renewed++
	}
	f.changed[x] = struct{}{}
}

// Len is how many hosts have presence, whatever their state.
func (f *Fleet) Len() int { return f.present.count() }

// Running is how many jobs of a tenant are on hosts, or have one of its slots.
func (f *Fleet) Running(t Tenant) int {
	if facts := f.tenants[t]; facts != nil {
		return max(facts.total, facts.slots)
	}
	return 0
}
