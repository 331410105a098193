package route

import (
	"slices"
	"sort"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// capableKept bounds the sets of capable hosts that are kept up to date, each of one bit per host.
const capableKept = 4096

// reach is which installations can run some workflows, and so which hosts. Workflows that the same installations can run
// share one, so that a host that comes or goes changes a few of these and no workflow.
type reach struct {
	met   set // installations, by number
	all   bool
	key   uint64 // of Fleet.reaches
	refs  int    // workflows and pools that have it
	hosts set    // present hosts of these installations, and those whose installation is not known; nil = not kept up to date
}

// meets reports whether hosts of an installation are capable; nil is an installation that is not known.
func (r *reach) meets(k *installation) bool { return r.all || k == nil || r.met.has(k.number) }

// reachOf returns the reach of a hash, looking at the installations that have come since it was asked for last.
func (f *Fleet) reachOf(x *facts) *reach {
	switch {
	case x.reach != nil && (x.reach.all || x.judged == f.installationsMade):
		return x.reach
	case !x.known:
		x.reach = f.everything
		x.reach.refs++
		return x.reach
	}
	met, changed := f.scratch.met[:0], x.reach == nil
	if x.reach != nil {
		met = append(met, x.reach.met...)
	}
	from := sort.Search(len(f.installationList), func(i int) bool { return f.installationList[i].made > x.judged })
	for _, k := range f.installationList[from:] {
		if x.compiled.MetBy(k.capability) {
			met.add(k.number)
			changed = true
		}
	}
	x.judged, f.scratch.met = f.installationsMade, met
	if changed {
		next := f.reachFor(met)
		f.dropReach(x)
		x.reach = next
	}
	return x.reach
}

// reachFor returns the reach of a set of installations, and counts one more reference to it.
func (f *Fleet) reachFor(met set) *reach {
	met = met[:trimmed(met)]
	key := contentKey(met)
	for f.reaches[key] != nil && !slices.Equal(f.reaches[key].met[:trimmed(f.reaches[key].met)], met) {
		key++
	}
	r := f.reaches[key]
	if r == nil {
		r = &reach{met: slices.Clone(met), key: key}
		f.reaches[key] = r
	}
	r.refs++
	return r
}

// dropReach forgets which hosts are capable of a hash.
func (f *Fleet) dropReach(x *facts) {
	if x.reach != nil {
		f.releaseReach(x.reach)
	}
	x.reach = nil
}

func (f *Fleet) releaseReach(r *reach) {
	if r.refs--; r.refs > 0 || r.all {
		return
	}
	delete(f.reaches, r.key)
	if k := slices.Index(f.built, r); k >= 0 {
		f.built = slices.Delete(f.built, k, k+1)
	}
}

// capable is the present hosts that are not known to lack anything that a hash needs. It must not be changed.
func (f *Fleet) capable(x *facts) set { return f.hostsIn(f.reachOf(x)) }

// hostsIn returns the hosts of a reach.
func (f *Fleet) hostsIn(r *reach) set {
	if r.hosts != nil {
		return r.hosts
	}
	r.hosts = make(set, max(len(f.scratch.eligible), 1))
	r.hosts.copyFrom(f.unknown)
	for _, k := range f.installationList {
		if r.meets(k) {
			for i, w := range k.hosts {
				r.hosts[i] |= w
			}
		}
	}
	if f.built = append(f.built, r); len(f.built) > capableKept {
		f.built[0].hosts = nil
		f.built = slices.Delete(f.built, 0, 1)
	}
	return r.hosts
}

// addInstallation gives a new installation its number.
func (f *Fleet) addInstallation(k *installation) {
	f.installationsMade++
	f.renewed++
	k.made, k.number = f.installationsMade, int32(len(f.installationList))
	if n := len(f.freeInstallations); n > 0 {
		k.number, f.freeInstallations = f.freeInstallations[n-1], f.freeInstallations[:n-1]
	}
	f.installations[k.digest] = k
	f.installationList = append(f.installationList, k)
}

// removeInstallation makes the number of an installation that no host has any more free for another.
func (f *Fleet) removeInstallation(k *installation) {
	for _, r := range f.reaches {
		r.met.del(k.number)
	}
	f.freeInstallations = append(f.freeInstallations, k.number)
	at := slices.Index(f.installationList, k)
	f.installationList = slices.Delete(f.installationList, at, at+1)
	delete(f.installations, k.digest)
}

// Reach is how many online hosts can run a hash, how many are online, and on how many it is blocked. Of a hash that is not known
// no host is capable.
func (f *Fleet) Reach(hash workflow.Hash) (capable, online, blocked int) {
	online = f.online.count()
	x := f.hashes[hash]
	if x == nil {
		return 0, online, 0
	}
	able := f.scratch.planes[0]
	able.copyFrom(f.capable(x))
	able.and(f.online)
	x.incapable.removeFrom(able)
	return able.count(), online, len(x.blocks)
}
