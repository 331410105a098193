package route

import "slices"

// arrived makes the sets know a host that has presence now.
func (f *Fleet) arrived(n int32) {
	f.version++
	f.presence++
	h := f.hosts[n]
	if h.kind == nil {
		f.unknown.add(n)
	} else {
		h.kind.hosts.add(n)
	}
	for facts := f.built.oldest(); facts != nil; facts = f.built.newer(facts) {
		facts.capable.put(n, facts.met(h.kind))
	}
	if words := (len(f.hosts) + 63) / 64; words > len(f.scratch.eligible) {
		f.scratch.grow(words)
	}
}

// departed is the reverse of arrived.
func (f *Fleet) departed(n int32) {
	f.version++
	f.presence++
	f.unknown.del(n)
	if k := f.hosts[n].kind; k != nil {
		k.hosts.del(n)
	}
	for facts := f.built.oldest(); facts != nil; facts = f.built.newer(facts) {
		facts.capable.del(n)
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

// runs calls visit for every job on the host.
func (h *host) runs(visit func(r *run)) {
	for i := range h.running {
		visit(&h.running[i])
	}
	for i := range h.offered {
		visit(&h.offered[i])
	}
}

// uncount takes a host's runs and warmth out of all sums and sets; recount puts them in.
func (f *Fleet) uncount(n int32) {
	h := f.hosts[n]
	h.runs(func(r *run) {
		t := f.tenant(r.Tenant)
		t.running[clampPriority(r.Priority)]--
		t.total--
		r.facts.running.del(n)
		f.drop(r.facts)
	})
	for i, facts := range h.warm {
		facts.warm[i].del(n)
		f.drop(facts)
	}
	h.warm = h.warm[:0]
	f.vacant -= h.vacant()
	f.kept -= len(h.offered)
	f.online.del(n)
	f.free.del(n)
	f.spare.del(n)
	f.load[h.level()].del(n)
}

func (f *Fleet) recount(n int32) {
	h := f.hosts[n]
	h.runs(func(r *run) {
		t := f.tenant(r.Tenant)
		t.running[clampPriority(r.Priority)]++
		t.total++
		r.facts.running.add(n)
		f.hold(r.facts)
	})
	h.rewarm()
	for i, facts := range h.warm {
		facts.warmAt(i).add(n)
		f.hold(facts)
	}
	f.reside(n)
	f.vacant += h.vacant()
	f.kept += len(h.offered)
	f.endsAt[n] = never
	if h.state != Online {
		return
	}
	f.online.add(n)
	used := h.used()
	f.free.put(n, used < h.slots)
	f.spare.put(n, used >= h.slots && used < h.slots+h.prefetch)
	f.load[h.level()].add(n)
	f.endsAt[n] = h.freeAt()
}

// rewarm lists the hashes that are warm on the host: the ones it runs, the last accepted first, then the recent.
func (h *host) rewarm() {
	warm := func(facts *facts) {
		if len(h.warm) < warmDepth && !slices.Contains(h.warm, facts) {
			h.warm = append(h.warm, facts)
		}
	}
	for i := len(h.offered) - 1; i >= 0; i-- {
		warm(h.offered[i].facts)
	}
	for i := len(h.running) - 1; i >= 0; i-- {
		warm(h.running[i].facts)
	}
	for _, facts := range h.recent {
		warm(facts)
	}
}

// level is a host's load: runs, offers and foreign prompts per slot, in eighths.
func (h *host) level() int { return min(h.used()*8/max(h.slots, 1), levels-1) }

func clampPriority(p int) int { return min(max(p, 0), priorities-1) }

// begin remembers whether a run of the hash starts warm.
func (h *host) begin(facts *facts) {
	const kept = 8
	if len(h.begun) == kept {
		h.begun = slices.Delete(h.begun, 0, 1)
	}
	h.begun = append(h.begun, begun{facts, !slices.Contains(h.warm, facts)})
}
