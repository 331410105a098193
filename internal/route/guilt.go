package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// hostsDownMost is how many hosts may be unhealthy because of one tenant before its jobs wait. So all other hosts stay
// for the other tenants, whatever one submits.
const hostsDownMost = 2

// Blame names the job that a host ran when it became unhealthy.
type Blame struct {
	Tenant Tenant
	Job    JobID
}

// setBlame counts an unhealthy host against the tenant whose job it ran.
func (f *Fleet) setBlame(n int32, s HostState) {
	h := f.hosts[n]
	if h.blamed != nil {
		h.blamed.down--
		h.blamed, h.blame = nil, ""
		f.blamed.del(n)
	}
	if s.State == Unhealthy && s.Blame.Tenant != "" {
		h.blamed, h.blame = f.tenant(s.Blame.Tenant), s.Blame.Job
		h.blamed.down++
		f.blamed.add(n)
	}
}

// liable reports whether so many hosts are unhealthy because of the tenant's jobs that it gets no further ones.
func (t *tenantFacts) liable() bool { return t.down >= hostsDownMost }

func (f *Fleet) liable(t Tenant) bool {
	facts := f.tenants[t]
	return facts != nil && facts.liable()
}

// tenantWaits reports whether no host may take the job now for a reason of its tenant: its cap, hosts that are out because
// of it, or a workflow of it that is withheld.
func (f *Fleet) tenantWaits(w *Want) bool {
	if facts := f.tenants[w.Tenant]; facts != nil && (facts.closed() || facts.liable()) {
		return true
	}
	x := f.hashes[w.Hash]
	return x != nil && x.withheld[w.Tenant]
}

// downText names the hosts that are out because of a tenant, and its jobs that they ran.
func (f *Fleet) downText(t Tenant) string {
	var names []string
	f.blamed.each(func(n int32) {
		if h := f.hosts[n]; h.blamed == f.tenants[t] {
			names = append(names, fmt.Sprintf("%s (job %s)", h.id, h.blame))
		}
	})
	slices.Sort(names)
	return fmt.Sprintf("%d hosts are out since they ran jobs of tenant %s: %s; its other jobs wait until one of them is back",
		len(names), t, strings.Join(names, ", "))
}

// Withhold keeps all jobs of a tenant and hash from every host, or allows them again: while it is decided whether they
// take hosts down, and if they do, until they have ended.
func (f *Fleet) Withhold(hash workflow.Hash, t Tenant, on bool) {
	x := f.use(hash)
	switch {
	case x.withheld[t] == on:
		return
	case on && x.withheld == nil:
		x.withheld = map[Tenant]bool{t: true}
		f.ref(x)
	case on:
		x.withheld[t] = true
		f.ref(x)
	default:
		delete(x.withheld, t)
		f.unref(x)
	}
}

// Prospects says whether a job that the asked hosts have refused may be asked of another: whether one is left that is
// present and capable of it, and whether one of those is better, since it is known to have all that the job needs while
// one that was asked is known to lack something.
func (f *Fleet) Prospects(w Want, asked []string, has func(workflow.Capability) bool) (left, better bool) {
	x := f.use(w.Hash)
	c := f.scratch.eligible
	c.copyFrom(f.capable(x))
	x.incapable.removeFrom(c)
	f.given.removeBarred(c, w.Tenant)
	f.applyWishes(&w, x, c)
	lacked := false
	for _, name := range asked {
		n, known := f.numbers[HostID(name)]
		if !known {
			continue
		}
		if k := f.hosts[n].installation; k != nil && !has(k.capability) {
			lacked = true
		}
		c.del(n)
	}
	return c.any(), lacked && slices.ContainsFunc(f.installationList, func(k *installation) bool { return k.hosts.meets(c) && has(k.capability) })
}

// Varied reports whether hosts differ in what they can run.
func (f *Fleet) Varied() bool { return len(f.installations) > 1 }

// Lacking lists the online hosts that are known to lack something, as long as one that is right for the job is not;
// nil when all have it or none has, and when they are more than most.
func (f *Fleet) Lacking(w Want, has func(workflow.Capability) bool, most int) []string {
	if !f.Varied() {
		return nil
	}
	lacking, n := make([]*installation, 0, len(f.installations)), 0
	for _, k := range f.installationList {
		if !has(k.capability) {
			lacking = append(lacking, k)
			n += k.hosts.count()
		}
	}
	if n == 0 || n > most || !f.right(w, lacking) {
		return nil
	}
	hosts := make([]string, 0, n)
	for _, k := range lacking {
		k.hosts.each(func(n int32) { hosts = append(hosts, string(f.hosts[n].id)) })
	}
	slices.Sort(hosts)
	return hosts
}

// right reports whether a host of another installation than these is online and right for the job.
func (f *Fleet) right(w Want, without []*installation) bool {
	c := f.scratch.chosen
	f.fit(&w, f.use(w.Hash), c)
	f.terms(w.Avoid)
	c.andNot(f.scratch.term)
	for _, k := range without {
		c.andNot(k.hosts)
	}
	return c.any()
}
