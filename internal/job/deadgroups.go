package job

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// deaths are the dead rows by what they died of. When there are too many groups, the half of them with the fewest rows is forgotten: their rows
// are still listed, and count in no group.
type deaths struct {
	groups map[deathKey]*death
	of     map[uint32]deathKey // by row
	most   int                 // groups
}

// groupsMost is how many groups are kept, of some 4 kB each at most: texts of failures may all differ.
const groupsMost = 20_000

type deathKey struct {
	tenant    uint32
	signature string
}

// death is the rows of a tenant with one signature.
type death struct {
	newest      Event // only the fields that a DeadGroup has
	count       int
	hosts       map[string]int
	first, last time.Time
}

func newDeaths() deaths {
	return deaths{groups: map[deathKey]*death{}, of: map[uint32]deathKey{}, most: groupsMost}
}

// messageKept is how many bytes of a message are kept.
const messageKept = 1024

// count counts a row that has died.
func (d *deaths) count(at, tenant uint32, e *StoredEvent) {
	if e.Dead == nil {
		return
	}
	if _, counted := d.of[at]; counted {
		return
	}
	key := deathKey{tenant, e.Dead.Signature()}
	g := d.groups[key]
	if g == nil {
		g = &death{hosts: map[string]int{}, first: e.Time}
		d.groups[key] = g
	}
	d.of[at] = key
	g.count++
	g.last = e.Time
	if e.Dead.Host != "" {
		g.hosts[e.Dead.Host]++
	}
	g.newest = Event{
		Job: e.Job, Tenant: e.Tenant, Host: e.Dead.Host, Reason: word(e.Dead.Reason), Kind: failure.Kind(word(e.Dead.Kind)), Class: shortText(e.Dead.Class),
		Exception: shortText(e.Dead.Exception), Message: shortText(e.Dead.Message),
	}
	if len(d.groups) > d.most {
		d.forgetSmallest()
	}
}

// forgetSmallest forgets half of the groups: those with the fewest rows, and of these the ones that have not grown for longest.
func (d *deaths) forgetSmallest() {
	keys := slices.SortedFunc(maps.Keys(d.groups), func(a, b deathKey) int {
		return cmp.Or(cmp.Compare(d.groups[a].count, d.groups[b].count), d.groups[a].last.Compare(d.groups[b].last))
	})
	for _, key := range keys[:len(keys)/2] {
		delete(d.groups, key)
	}
	maps.DeleteFunc(d.of, func(_ uint32, key deathKey) bool { return d.groups[key] == nil })
}

func shortText(s string) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(len(s), messageKept)]), "")
}

// forget uncounts a row that is left out.
func (d *deaths) forget(at uint32, host string) {
	key, counted := d.of[at]
	if !counted {
		return
	}
	delete(d.of, at)
	g := d.groups[key]
	if g.hosts[host]--; g.hosts[host] <= 0 {
		delete(g.hosts, host)
	}
	if g.count--; g.count == 0 {
		delete(d.groups, key)
	}
}

// DeadGroup is dead jobs that died in the same way.
type DeadGroup struct {
	Signature   string
	Newest      Event // its Job, Tenant, Host, Reason, Kind, Class, Exception and Message
	Count       int
	Tenants     []Tenant // sorted
	Hosts       []string // sorted
	First, Last time.Time
}

// DeadGroups lists what jobs have died of, of a tenant or of all, the largest group first. An empty kind or reason matches all. Of more than
// 20 000 groups the smallest are missing.
func (f *Fold) DeadGroups(of Tenant, kind failure.Kind, reason failure.Reason) []DeadGroup {
	type merged struct {
		DeadGroup
		hosts map[string]int
	}
	all := map[string]*merged{}
	for key, g := range f.deaths.groups {
		n := &g.newest
		if of != "" && n.Tenant != of || kind != "" && n.Kind != kind || reason != "" && n.Reason != string(reason) {
			continue
		}
		m := all[key.signature]
		if m == nil {
			m = &merged{DeadGroup: DeadGroup{Signature: key.signature, First: g.first}, hosts: map[string]int{}}
			all[key.signature] = m
		}
		m.Count += g.count
		m.Tenants = append(m.Tenants, n.Tenant)
		maps.Copy(m.hosts, g.hosts)
		if g.first.Before(m.First) {
			m.First = g.first
		}
		if g.last.After(m.Last) {
			m.Last, m.Newest = g.last, *n
		}
	}
	list := make([]DeadGroup, 0, len(all))
	for _, m := range all {
		slices.Sort(m.Tenants)
		m.Hosts = slices.Sorted(maps.Keys(m.hosts))
		if since := f.since.Time; m.First.Before(since) {
			m.First = since // those before are forgotten
		}
		list = append(list, m.DeadGroup)
	}
	slices.SortFunc(list, func(a, b DeadGroup) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Signature, b.Signature)
	})
	return list
}
