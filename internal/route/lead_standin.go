package route

// Stand-ins from the lead so that internal/dispatcher compiles: whoever owns Room replaces them (same names and
// signatures, please) and deletes this file.

import (
	"cmp"
	"slices"
	"time"
)

// Each calls visit for every waiting ticket, in no order; visit must not change the room.
func (r *Room) Each(visit func(t *Ticket)) {
	for _, t := range r.tickets {
		visit(t)
	}
}

// Position is the place of a ticket among all that wait, from 1, and how many wait.
func (r *Room) Position(f *Fleet, sequence uint64, now time.Time) (place, of int) {
	for i, t := range r.order(f, now) {
		if t.Sequence == sequence {
			return i + 1, len(r.tickets)
		}
	}
	return 0, len(r.tickets)
}

// ETA is when a ticket may be expected to start; zero when unknown.
func (r *Room) ETA(f *Fleet, sequence uint64, now time.Time) time.Time { return time.Time{} }

// LaneStat is a lane as people ask for it.
type LaneStat struct {
	Tenant   Tenant    `json:"tenant"`
	Priority int       `json:"priority"`
	Depth    int       `json:"depth"`
	Oldest   time.Time `json:"oldest,omitzero"`
	Running  int       `json:"running"`
	Share    float64   `json:"share"` // of the GPU-seconds used lately at this priority, 0 to 1
}

// Lanes lists the lanes in which jobs wait, first in turn first.
func (r *Room) Lanes(f *Fleet, now time.Time) []LaneStat {
	lanes := map[laneKey]*LaneStat{}
	for _, t := range r.tickets {
		k := laneKey{t.Tenant, t.Priority}
		if lanes[k] == nil {
			lanes[k] = &LaneStat{Tenant: t.Tenant, Priority: t.Priority, Oldest: t.Received, Running: f.Running(t.Tenant), Share: r.shares[k]}
		}
		lanes[k].Depth++
		if t.Received.Before(lanes[k].Oldest) {
			lanes[k].Oldest = t.Received
		}
	}
	var list []LaneStat
	for _, l := range lanes {
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b LaneStat) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Tenant, b.Tenant))
	})
	return list
}

// Online reports whether the verdicts that led to the hold include a host that is online.
func (h *Hold) Online() bool {
	return slices.ContainsFunc(h.Hosts, func(v HostVerdict) bool {
		return v.Code != CodeOffline && v.Code != CodeDrain && v.Code != CodeSick
	})
}
