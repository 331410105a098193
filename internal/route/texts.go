package route

import (
	"fmt"
	"strings"
	"time"
)

// textHosts is how many hosts a text names; the others are counted.
const textHosts = 3

// awayText says why no host is online.
func (f *Fleet) awayText(w *Want, x *facts, now time.Time) string {
	listed := f.scratch.chosen
	listed.copyFrom(f.described)
	for i, w := range f.present[:min(len(f.present), len(listed))] {
		listed[i] |= w
	}
	f.given.removeBarred(listed, w.Tenant)
	return f.enumerated("no host is online", listed, func(n int32) string {
		return fmt.Sprintf("%s is %s", f.hosts[n].id, f.verdict(w, x, n, now).Code)
	})
}

// lackText says what the online hosts lack.
func (f *Fleet) lackText(w *Want, x *facts, online set, now time.Time) string {
	return f.enumerated("no host that is online can run it", online, func(n int32) string {
		return fmt.Sprintf("%s: %s", f.hosts[n].id, f.withHost(f.verdict(w, x, n, now), n).Text)
	})
}

func (f *Fleet) nameOf(n int32) string { return string(f.hosts[n].id) }

// enumerated tells the first hosts of a set by name, and how many more there are.
func (f *Fleet) enumerated(what string, hosts set, tell func(n int32) string) string {
	var list []string
	for _, n := range f.byName {
		if len(list) == textHosts {
			break
		}
		if hosts.has(n) {
			list = append(list, tell(n))
		}
	}
	if len(list) == 0 {
		return what
	}
	more := ""
	if n := hosts.count() - len(list); n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return what + ": " + strings.Join(list, "; ") + more
}
