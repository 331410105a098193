package route

import (
	"slices"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// arrived adds a host that has presence now to the sets.
func (f *Fleet) arrived(n int32) {
	f.version++
	f.presence++
	f.present.add(n)
	h := f.hosts[n]
	if h.installation == nil {
		f.unknown.add(n)
	} else {
		h.installation.hosts.add(n)
	}
	for _, r := range f.built {
		r.hosts.put(n, r.meets(h.installation))
	}
	if words := (len(f.hosts) + 63) / 64; words > len(f.scratch.eligible) {
		f.scratch.grow(words)
	}
}

// departed is the reverse of arrived.
func (f *Fleet) departed(n int32) {
	f.version++
	f.presence++
	f.present.del(n)
	f.unknown.del(n)
	if k := f.hosts[n].installation; k != nil {
		k.hosts.del(n)
	}
	for _, r := range f.built {
		r.hosts.del(n)
	}
}

func (h *host) used() int { return len(h.running) + len(h.offered) + h.foreign }

// vacant is how many more jobs the host would take.
func (h *host) vacant() int {
	if h.state != Online {
		return 0
	}
	return max(h.slots+h.prefetch-h.used(), 0)
}

// find returns a job on the host; nil when it is not there.
func (h *host) find(r *Run) *run {
	if i := placeIn(h.running, r); i >= 0 {
		return &h.running[i]
	}
	if i := placeIn(h.offered, r); i >= 0 {
		return &h.offered[i]
	}
	return nil
}

// putRuns counts what a host runs now and did not run before, and then uncounts what is gone.
func (f *Fleet) putRuns(n int32, list []Run) {
	h := f.hosts[n]
	running := h.former[:0]
	for i := range list {
		running = append(running, f.accepted(n, &list[i]))
	}
	former := h.running
	h.running = running
	h.offered = slices.DeleteFunc(h.offered, func(r run) bool {
		if !contains(running, r.Run) {
			return false
		}
		former = append(former, r)
		return true
	})
	for i := range former {
		if former[i].facts != nil {
			f.uncount(n, &former[i])
		}
	}
	clear(former)
	h.former = former[:0]
}

// accepted is a job that a host reports as running, counted now unless it was before. Of a job that another dispatcher
// offered it is recorded here whether it started warm.
func (f *Fleet) accepted(n int32, r *Run) run {
	h := f.hosts[n]
	before := h.find(r)
	if before != nil && before.facts != nil && before.Hash == r.Hash && before.Priority == r.Priority {
		same := run{Run: *r, facts: before.facts, tenant: before.tenant}
		before.facts = nil
		return same
	}
	fresh := run{Run: *r, facts: f.factsOn(h, r.Hash)}
	if before == nil {
		h.noteStart(fresh.facts)
	}
	f.count(n, &fresh)
	return fresh
}

// withdraw removes the i-th offer.
func (f *Fleet) withdraw(n int32, i int) {
	h := f.hosts[n]
	gone := h.offered[i]
	h.offered = slices.Delete(h.offered, i, i+1)
	f.uncount(n, &gone)
}

// count adds a run to the sums of its tenant and hash, and uncount subtracts it when the host has it no more.
func (f *Fleet) count(n int32, r *run) {
	r.tenant = f.tenant(r.Tenant)
	r.tenant.running[clampPriority(r.Priority)]++
	r.tenant.total++
	r.facts.running.add(n)
	f.ref(r.facts)
}

func (f *Fleet) uncount(n int32, r *run) {
	r.tenant.running[clampPriority(r.Priority)]--
	r.tenant.total--
	if h := f.hosts[n]; !runs(h.running, r.facts) && !runs(h.offered, r.facts) {
		r.facts.running.del(n)
	}
	f.unref(r.facts)
}

func runs(list []run, x *facts) bool {
	return slices.ContainsFunc(list, func(r run) bool { return r.facts == x })
}

// factsOn is use for a hash that is probably warm on a host.
func (f *Fleet) factsOn(h *host, hash workflow.Hash) *facts {
	for _, x := range h.warm {
		if x.hash == hash {
			return x
		}
	}
	return f.use(hash)
}

// recount updates all sums and sets after a change of a host's state, runs or recent hashes.
func (f *Fleet) recount(n int32) {
	h := f.hosts[n]
	f.warm(n)
	used, online := h.used(), h.state == Online
	f.load[h.sums.load].del(n)
	f.vacant -= h.sums.vacant
	f.kept -= h.sums.kept
	h.sums = sums{vacant: h.vacant(), kept: len(h.offered), load: h.loadLevel()}
	f.vacant += h.sums.vacant
	f.kept += h.sums.kept
	f.online.put(n, online)
	f.free.put(n, online && used < h.slots)
	f.spare.put(n, online && used >= h.slots && used < h.slots+h.prefetch)
	f.endsAt[n] = never
	if online {
		f.load[h.sums.load].add(n)
		f.endsAt[n] = h.freeAt()
	}
}

// warm updates which hashes are warm on a host.
func (f *Fleet) warm(n int32) {
	h := f.hosts[n]
	var room [warmDepth]*facts
	warm := h.warmest(room[:0])
	if slices.Equal(warm, h.warm) {
		return
	}
	for i, x := range warm {
		f.ref(x)
		if i < len(h.warm) {
			h.warm[i].warm[i].del(n)
		}
		x.warmAt(i).add(n)
	}
	for i, x := range h.warm {
		if i >= len(warm) {
			x.warm[i].del(n)
		}
		f.unref(x)
	}
	h.warm = append(h.warm[:0], warm...)
	f.updateModels(n)
}

// warmest appends the hashes that are warm on the host: the ones it runs, the last accepted first, then the recent.
func (h *host) warmest(warm []*facts) []*facts {
	add := func(x *facts) {
		if len(warm) < warmDepth && !slices.Contains(warm, x) {
			warm = append(warm, x)
		}
	}
	for i := len(h.offered) - 1; i >= 0; i-- {
		add(h.offered[i].facts)
	}
	for i := len(h.running) - 1; i >= 0; i-- {
		add(h.running[i].facts)
	}
	for _, x := range h.recent {
		add(x)
	}
	return warm
}

// loadLevel is a host's load: runs, offers and foreign prompts per slot, in eighths.
func (h *host) loadLevel() int { return min(h.used()*8/max(h.slots, 1), loadLevels-1) }

func clampPriority(p int) int { return min(max(p, 0), priorities-1) }

// noteStart records whether a run of the hash starts warm.
func (h *host) noteStart(facts *facts) {
	const kept = 8
	if len(h.begun) == kept {
		h.begun = slices.Delete(h.begun, 0, 1)
	}
	h.begun = append(h.begun, begun{facts, !slices.Contains(h.warm, facts)})
}
