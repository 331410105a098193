package dispatcher

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// The limits beyond which an operator should look at something. The alerts of deploy/alerts.yaml have the same limits.
const (
	waitLong     = 10 * time.Minute
	deadWindow   = 15 * time.Minute
	deadShare    = 0.05 // share of dead jobs among those that ended in deadWindow
	deadLeast    = 5    // dead jobs up to which the share does not count
	storeFull    = 0.8
	starvedShare = 0.5 // part of its due share below which a tenant that waits counts as starved
)

// needs lists what a person should look at, the most urgent first.
func needs(a *queue.OverviewAnswer) []queue.Need {
	list := []queue.Need{}
	add := func(n queue.Need) {
		if n.Count > 0 {
			list = append(list, n)
		}
	}
	present := 0
	for state, n := range a.Hosts {
		if state != string(queue.Offline) {
			present += n
		}
	}
	if present == 0 {
		add(queue.Need{Rule: queue.NoHosts, Count: 1, Text: "no host is there: start an agent beside ComfyUI", Command: "COMFY_HOSTS=http://127.0.0.1:8188 agent"})
	}
	waiting := func(reason route.HoldReason) int { return a.Waiting[string(reason)] }
	addTenants(a, add)
	n := waiting(route.NoneCapable)
	add(queue.Need{Rule: queue.NoHostCanRun, Count: n, Text: plural(n, "job waits", "jobs wait") + " for a host that can run it", Command: "dispatcher jobs --reason none_capable"})
	n = waiting(route.AllBlocked)
	add(queue.Need{Rule: queue.AllBlocked, Count: n, Text: plural(n, "job is", "jobs are") + " blocked on every host that could run it", Command: "dispatcher blocks"})
	addDead(a, add)
	n = a.Hosts[string(queue.Unhealthy)]
	add(queue.Need{Rule: queue.HostsSick, Count: n, Text: plural(n, "host is", "hosts are") + " unhealthy", Command: "dispatcher hosts"})
	n = a.Hosts[string(queue.Offline)]
	add(queue.Need{Rule: queue.HostsMissing, Count: n, Text: plural(n, "host has", "hosts have") + " gone offline in the last 24 h", Command: "dispatcher hosts"})
	for i := range a.Storage {
		if s := &a.Storage[i]; s.Limit > 0 && float64(s.Bytes) > storeFull*float64(s.Limit) {
			add(queue.Need{Rule: queue.StoreFilling, Count: 1, Text: fmt.Sprintf("%s is %d %% full", s.Stream, int(100*float64(s.Bytes)/float64(s.Limit)))})
		}
	}
	return list
}

// addTenants adds tenants whose jobs wait for long, the one that waits longest first.
func addTenants(a *queue.OverviewAnswer, add func(queue.Need)) {
	var late []*queue.TenantCounts
	for i := range a.Tenants {
		if t := &a.Tenants[i]; t.OldestDue != nil && a.Time.Sub(*t.OldestDue) > waitLong {
			late = append(late, t)
		}
	}
	slices.SortFunc(late, func(a, b *queue.TenantCounts) int {
		return cmp.Or(a.OldestDue.Compare(*b.OldestDue), cmp.Compare(a.Tenant, b.Tenant))
	})
	const most = 5
	for _, t := range late[:min(len(late), most)] {
		add(queue.Need{
			Rule: queue.JobsWaitLong, Count: t.Waits(), Tenant: t.Tenant, Command: "dispatcher queue",
			Text: fmt.Sprintf("the oldest due job of tenant %s has waited for %s", t.Tenant, a.Time.Sub(*t.OldestDue).Round(time.Minute)),
		})
		if t.Waiting[string(route.Turn)] > 0 && t.Share < starvedShare*t.Due {
			add(queue.Need{
				Rule: queue.TenantStarved, Count: t.Waiting[string(route.Turn)], Tenant: t.Tenant, Command: "dispatcher queue",
				Text: fmt.Sprintf("tenant %s has %.0f %% of the fleet, and %.0f %% would be its share", t.Tenant, 100*t.Share, 100*t.Due),
			})
		}
	}
}

func addDead(a *queue.OverviewAnswer, add func(queue.Need)) {
	for i := range a.Rates {
		r := &a.Rates[i]
		if ended := r.Completed + r.Dead + r.Cancelled; time.Duration(r.Window) == deadWindow && r.Dead > deadLeast && float64(r.Dead) > deadShare*float64(ended) {
			add(queue.Need{
				Rule: queue.DeadRateHigh, Count: r.Dead, Command: "dispatcher dead",
				Text: fmt.Sprintf("%d of %d jobs that ended in the last %d min are dead", r.Dead, ended, int(deadWindow.Minutes())),
			})
		}
	}
}

func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
