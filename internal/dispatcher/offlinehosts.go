package dispatcher

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Hosts that have gone are known from their events, by all dispatchers and across restarts of them.

const (
	offlineKept = 24 * time.Hour // how long a host that has gone is listed
	offlineMost = 10_000         // hosts that have gone
)

// takeHost takes in an event of a host.
func (h *jobHistory) takeHost(n *jetstream.Note) {
	host, kind, _ := strings.Cut(strings.TrimPrefix(n.Subject, names.HostEventsPrefix), ".")
	if !job.ValidHost(host) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case queue.HostEventKind(kind) != queue.HostOffline:
		delete(h.offline, host)
	case len(h.offline) < offlineMost:
		h.offline[host] = n.Time
	}
}

// offlineSince gives the hosts that went offline in the last day and are not back, and when.
func (h *jobHistory) offlineSince(now time.Time) map[string]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[string]time.Time{}
	for host, since := range h.offline {
		if now.Sub(since) < offlineKept {
			found[host] = since
		} else {
			delete(h.offline, host)
		}
	}
	return found
}

// withOffline adds the hosts after one that are offline to the present ones, by name, and gives the first so many.
func (d *Dispatcher) withOffline(ctx context.Context, present []queue.HostInfo, after string, most int) ([]queue.HostInfo, error) {
	if err := d.history.caughtUp(ctx); err != nil {
		return nil, err
	}
	gone := d.history.offlineSince(d.clock())
	for i := range present {
		delete(gone, present[i].Host)
	}
	for host, since := range gone {
		if host > after {
			present = append(present, queue.HostInfo{HostState: queue.HostState{Host: host, State: queue.Offline, Time: since.UTC()}})
		}
	}
	slices.SortFunc(present, func(a, b queue.HostInfo) int { return strings.Compare(a.Host, b.Host) })
	return present[:min(len(present), most)], nil
}
