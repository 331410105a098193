package route

// grants are the hosts that are given to some tenants: no other tenant's job goes there. With the zero value every
// tenant may have every host.
type grants struct {
	restricted set            // hosts that are given to some tenants only
	of         map[Tenant]set // of these hosts, those of each tenant
}

// PutGrant gives a host to these tenants alone; with an empty list no tenant may have it.
func (f *Fleet) PutGrant(id HostID, tenants []Tenant) {
	n := f.number(id)
	if !f.given.restricted.has(n) {
		f.hosts[n].refs++
	}
	f.given.put(n, tenants)
}

// RemoveGrant gives a host to all tenants again.
func (f *Fleet) RemoveGrant(id HostID) {
	n, ok := f.numbers[id]
	if !ok || !f.given.restricted.has(n) {
		return
	}
	f.given.remove(n)
	f.hosts[n].refs--
	f.freeNumber(n)
}

func (g *grants) put(n int32, tenants []Tenant) {
	g.remove(n)
	g.restricted.add(n)
	if g.of == nil {
		g.of = map[Tenant]set{}
	}
	for _, t := range tenants {
		hosts := g.of[t]
		hosts.add(n)
		g.of[t] = hosts
	}
}

func (g *grants) remove(n int32) {
	g.restricted.del(n)
	for t, hosts := range g.of {
		if hosts.del(n); !hosts.any() {
			delete(g.of, t)
		}
	}
}

// bar reports whether a host does not serve a tenant.
func (g *grants) bar(n int32, t Tenant) bool { return g.restricted.has(n) && !g.of[t].has(n) }

// removeBarred removes from s the hosts that do not serve a tenant.
func (g *grants) removeBarred(s set, t Tenant) {
	theirs := g.of[t]
	for i, w := range g.restricted[:min(len(s), len(g.restricted))] {
		if i < len(theirs) {
			w &^= theirs[i]
		}
		s[i] &^= w
	}
}

// serve reports whether a host that is in both sets serves the tenant.
func (g *grants) serve(a, b set, t Tenant) bool {
	theirs := g.of[t]
	for i := range min(len(a), len(b)) {
		w := a[i] & b[i]
		if w != 0 && i < len(g.restricted) {
			barred := g.restricted[i]
			if i < len(theirs) {
				barred &^= theirs[i]
			}
			w &^= barred
		}
		if w != 0 {
			return true
		}
	}
	return false
}
