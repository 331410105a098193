package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// deadGroup is letters of jobs that died in the same way. Its JSON has the names of the call dead with group, as far as these are in it.
type deadGroup struct {
	Signature string         `json:"signature"`
	Reason    failure.Reason `json:"reason"`
	Kind      failure.Kind   `json:"kind,omitempty"`
	Message   string         `json:"message,omitempty"` // of the newest
	Count     int            `json:"count"`
	Tenants   []string       `json:"tenants"`
	Hosts     []string       `json:"hosts,omitempty"`
	Since     time.Time      `json:"first"`
	Until     time.Time      `json:"last"`
}

// deadGroups groups letters, the largest group first. The call dead groups by the events that are stored, and letters are kept for longer.
func deadGroups(letters []letter) []deadGroup {
	bySignature := map[string]*deadGroup{}
	tenants, hosts := map[string]map[string]bool{}, map[string]map[string]bool{}
	for i := range letters {
		l := &letters[i]
		signature := l.event.Signature()
		g := bySignature[signature]
		if g == nil {
			g = &deadGroup{Signature: signature, Since: l.event.Time}
			bySignature[signature], tenants[signature], hosts[signature] = g, map[string]bool{}, map[string]bool{}
		}
		g.Count++
		tenants[signature][string(l.Tenant)] = true
		if l.event.Host != "" {
			hosts[signature][l.event.Host] = true
		}
		if l.event.Time.Before(g.Since) {
			g.Since = l.event.Time
		}
		if !l.event.Time.Before(g.Until) {
			g.Until, g.Reason, g.Kind, g.Message = l.event.Time, l.Reason, l.event.Kind, daemon.FirstLine(l.event.Message)
		}
	}
	groups := make([]deadGroup, 0, len(bySignature))
	for signature, g := range bySignature {
		g.Tenants, g.Hosts = slices.Sorted(maps.Keys(tenants[signature])), slices.Sorted(maps.Keys(hosts[signature]))
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Signature, b.Signature))
	})
	return groups
}

// tellGroups prints the groups of letters.
func (d *deadListCmd) tellGroups(c *daemon.Console, letters []letter, now time.Time) error {
	groups := deadGroups(letters)
	if d.JSON {
		for i := range groups {
			if err := c.JSON(&groups[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(groups) == 0 {
		c.Say("no dead letter matches")
		return nil
	}
	rows := [][]string{{"JOBS", "REASON", "KIND", "TENANTS", "HOSTS", "FIRST", "LAST", "MESSAGE"}}
	for i := range groups {
		g := &groups[i]
		rows = append(rows, []string{
			count(g.Count), string(g.Reason), string(g.Kind), some(g.Tenants), some(g.Hosts), daemon.Ago(g.Since, now), daemon.Ago(g.Until, now), daemon.Short(g.Message, 80),
		})
	}
	return c.Table(rows)
}

// some lists the first names, and says how many others there are.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(names[:most], " "), len(names)-most)
}
