package dispatcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAChainSaysWhatItsJobHasBehindIt(t *testing.T) {
	t.Parallel()
	link := func(kind job.EventKind, attempt int, at, sequence uint64) queue.Link {
		return queue.Link{Event: job.Event{EventKind: kind, Attempt: attempt, Host: fmt.Sprint("host-", attempt), Sequence: sequence}, ChainSequence: at}
	}
	chain := []queue.Link{
		link(job.Queued, 0, 3, 7), link(job.Started, 1, 5, 0), link(job.Failed, 1, 6, 8), link(job.Retrying, 1, 9, 0), link(job.Started, 2, 12, 0),
	}
	for n, want := range []int{0, 0, 1, 1, 1, 2} {
		if got := startedIn(chain[:n]); got != want {
			t.Errorf("%d attempts were started within %d events, want %d", got, n, want)
		}
	}
	if got := startedIn([]queue.Link{link(job.Started, 4, 1, 0), link(job.Started, 4, 2, 0)}); got != 5 { // earlier events are not kept any more, and one was resumed by another agent
		t.Errorf("%d attempts", got)
	}
	if got := attemptsOf(chain); len(got) != 1 || got[0].Number != 1 || got[0].Host != "host-1" {
		t.Errorf("attempts %+v", got)
	}
	if a, b, none := sequenceIn(chain), sequenceIn(chain[:2]), sequenceIn(chain[1:2]); a != 8 || b != 7 || none != 0 {
		t.Errorf("sequences %d, %d and %d", a, b, none)
	}
	if first, none := indexOf(chain, 3), indexOf(chain, 4); first != 0 || none != -1 || indexOf(chain, 12) != 4 {
		t.Errorf("places %d and %d", first, none)
	}
	words := refusalsOf([]failure.Attempt{{Kind: failure.Refused, Host: "a", Message: "no"}, {Kind: failure.HostLost, Host: "b", Message: "gone"}, {Kind: failure.Refused, Host: "c", Message: "never"}})
	if diff := cmp.Diff(map[string]string{"a": "no", "c": "never"}, words); diff != "" {
		t.Error(diff)
	}
}

func TestAPersonIsToldWhatToLookAt(t *testing.T) {
	t.Parallel()
	now := time.Unix(100_000, 0)
	due := func(before time.Duration) *time.Time { at := now.Add(-before); return &at }
	rate := func(window time.Duration, completed, dead, cancelled int) queue.Rate {
		return queue.Rate{Window: job.Duration(window), Completed: completed, Dead: dead, Cancelled: cancelled}
	}
	online := map[string]int{string(queue.Online): 1}
	for name, c := range map[string]struct {
		answer queue.OverviewAnswer
		want   string
	}{
		"Nothing":       {queue.OverviewAnswer{Hosts: online}, ""},
		"NoHost":        {queue.OverviewAnswer{Hosts: map[string]int{string(queue.Offline): 2}}, "no_hosts 1; hosts_missing 2"},
		"Sick":          {queue.OverviewAnswer{Hosts: map[string]int{string(queue.Unhealthy): 1}}, "hosts_sick 1"},
		"NoneCapable":   {queue.OverviewAnswer{Hosts: online, Waiting: map[string]int{string(route.NoneCapable): 1, string(route.AllBlocked): 3}}, "no_host_can_run 1; all_blocked 3"},
		"FewDead":       {queue.OverviewAnswer{Hosts: online, Rates: []queue.Rate{rate(deadWindow, 0, 5, 0)}}, ""},
		"ManyDead":      {queue.OverviewAnswer{Hosts: online, Rates: []queue.Rate{rate(time.Minute, 0, 9, 0), rate(deadWindow, 100, 6, 13)}}, "dead_rate_high 6"},
		"FewOfMany":     {queue.OverviewAnswer{Hosts: online, Rates: []queue.Rate{rate(deadWindow, 100, 6, 14)}}, ""},
		"StoreFull":     {queue.OverviewAnswer{Hosts: online, Storage: []queue.StoreCounts{{Stream: "S", Bytes: 81, Limit: 100}, {Stream: "T", Bytes: 80, Limit: 100}, {Stream: "U", Bytes: 80}}}, "store_filling 1"},
		"WaitsNotLong":  {queue.OverviewAnswer{Hosts: online, Time: now, Tenants: []queue.TenantCounts{{Tenant: "a", OldestDue: due(waitLong), Waiting: map[string]int{"turn": 1}}}}, ""},
		"WaitsLong":     {queue.OverviewAnswer{Hosts: online, Time: now, Tenants: []queue.TenantCounts{{Tenant: "a", OldestDue: due(11 * time.Minute), Waiting: map[string]int{"turn": 2, "all_blocked": 1}, Share: 0.5, Due: 1}}}, "jobs_wait_long 3 a"},
		"Starves":       {queue.OverviewAnswer{Hosts: online, Time: now, Tenants: []queue.TenantCounts{{Tenant: "a", OldestDue: due(11 * time.Minute), Waiting: map[string]int{"turn": 2}, Share: 0.4, Due: 1}}}, "jobs_wait_long 2 a; tenant_starved 2 a"},
		"BlockedNotDue": {queue.OverviewAnswer{Hosts: online, Time: now, Tenants: []queue.TenantCounts{{Tenant: "a", OldestDue: due(11 * time.Minute), Waiting: map[string]int{"all_blocked": 2}, Share: 0.4, Due: 1}}}, "jobs_wait_long 2 a"},
	} {
		var got []string
		for _, n := range needs(&c.answer) {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %d %s", n.Rule, n.Count, n.Tenant)))
			if n.Text == "" {
				t.Errorf("%s: %s has no text", name, n.Rule)
			}
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "; ")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWhatToLookAtIsSaidOfOneAndOfSeveral(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]string{
		1: {
			"no_host_can_run: 1 job waits for a host that can run it (dispatcher jobs --reason none_capable)",
			"all_blocked: 1 job is blocked on every host that could run it (dispatcher blocks)",
			"hosts_sick: 1 host is unhealthy (dispatcher hosts)", "hosts_missing: 1 host has gone offline in the last 24 h (dispatcher hosts)",
		},
		2: {
			"no_host_can_run: 2 jobs wait for a host that can run it (dispatcher jobs --reason none_capable)",
			"all_blocked: 2 jobs are blocked on every host that could run it (dispatcher blocks)",
			"dead_rate_high: 6 of 10 jobs that ended in the last 15 min are dead (dispatcher dead)",
			"hosts_sick: 2 hosts are unhealthy (dispatcher hosts)", "hosts_missing: 2 hosts have gone offline in the last 24 h (dispatcher hosts)",
			"store_filling: S is 81 % full ()",
		},
	} {
		a := queue.OverviewAnswer{
			Hosts:   map[string]int{string(queue.Unhealthy): n, string(queue.Offline): n},
			Waiting: map[string]int{string(route.NoneCapable): n, string(route.AllBlocked): n},
		}
		if n == 2 {
			a.Rates = []queue.Rate{{Window: job.Duration(deadWindow), Completed: 4, Dead: 6}}
			a.Storage = []queue.StoreCounts{{Stream: "S", Bytes: 81, Limit: 100}}
		}
		var got []string
		for _, need := range needs(&a) {
			got = append(got, fmt.Sprintf("%s: %s (%s)", need.Rule, need.Text, need.Command))
		}
		same(t, fmt.Sprint("of ", n), got, want)
	}
}

func TestTenantsAreCountedWithTheirSharesAndThoseWithMostJobsFirst(t *testing.T) {
	t.Parallel()
	due := time.Unix(100_000, 0)
	rows := func(s *route.Survey) (rows []string) {
		for _, c := range tenantCounts(s) {
			rows = append(rows, fmt.Sprint(c.Tenant, " ", c.Weight, c.MaxRunning, c.Running, c.Waiting, c.Used, c.Share, c.Due, c.OldestDue != nil && c.OldestDue.Equal(due)))
		}
		return rows
	}
	tenants := map[route.Tenant]*route.TenantSurvey{
		"acme": {Weight: 1, MaxRunning: 7, Running: 2, Used: 30},
		"bolt": {Weight: 3, Waiting: map[route.HoldReason]int{route.Turn: 2}, OldestDue: due, Used: 10},
		"carl": {Weight: 4, Waiting: map[route.HoldReason]int{route.NoneCapable: 5}},
		"dora": {Weight: 9, Waiting: map[route.HoldReason]int{route.NoneCapable: 5}},
	}
	same(t, "tenants", rows(&route.Survey{Tenants: tenants}), []string{
		"carl 4 0 0 map[none_capable:5] 0 0 0 false", "dora 9 0 0 map[none_capable:5] 0 0 0 false",
		"bolt 3 0 0 map[turn:2] 10 0.25 0.75 true", "acme 1 7 2 map[] 30 0.75 0.25 false",
	})
	none := map[route.Tenant]*route.TenantSurvey{"acme": {Weight: 1}}
	same(t, "of a fleet that has done nothing", rows(&route.Survey{Tenants: none}), []string{"acme 1 0 0 map[] 0 0 0 false"})
}

func TestTenantsThatWaitLongestAreNamedFirst(t *testing.T) {
	t.Parallel()
	a := queue.OverviewAnswer{Time: time.Unix(100_000, 0), Hosts: map[string]int{string(queue.Online): 1}}
	for n := range 7 {
		at := a.Time.Add(-time.Duration(20+n) * time.Minute)
		a.Tenants = append(a.Tenants, queue.TenantCounts{Tenant: job.Tenant(fmt.Sprint("t", n)), OldestDue: &at, Waiting: map[string]int{"all_blocked": 1}})
	}
	var got []string
	for _, n := range needs(&a) {
		got = append(got, n.Text)
	}
	if len(got) != 5 || got[0] != "the oldest due job of tenant t6 has waited for 26m0s" || !strings.Contains(got[4], " t2 ") {
		t.Errorf("%q", got)
	}
}

func TestPlacementsAreCountedForASecond(t *testing.T) {
	t.Parallel()
	var p pace
	now := time.Unix(1000, 0)
	for range 30 {
		p.count(now)
	}
	for after, want := range map[time.Duration]int{0: 30, handTime * 9: 30, handTime * 10: 0, time.Hour: 0} {
		q := p
		if got := q.perSecond(now.Add(after)); got != want {
			t.Errorf("%s later: %d, want %d", after, got, want)
		}
	}
	p.count(now.Add(5 * handTime))
	if got := p.perSecond(now.Add(12 * handTime)); got != 1 {
		t.Errorf("of two windows %d are left", got)
	}
	p.count(now) // by a clock that goes back
	if got := p.perSecond(now.Add(12 * handTime)); got != 2 {
		t.Errorf("%d", got)
	}
}

func TestAQuotaIsNearFromFourFifthsOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		quota      quota
		held       job.Unfinished
		near, fits bool
	}{
		{quota{}, job.Unfinished{Jobs: 1000, Bytes: 1000}, false, true},
		{quota{jobs: 10}, job.Unfinished{Jobs: 8}, false, true},
		{quota{jobs: 10}, job.Unfinished{Jobs: 9}, true, true},
		{quota{jobs: 10}, job.Unfinished{Jobs: 10, Bytes: 1}, true, true},
		{quota{jobs: 10}, job.Unfinished{Jobs: 11}, true, false},
		{quota{bytes: 100}, job.Unfinished{Jobs: 1, Bytes: 80}, false, true},
		{quota{bytes: 100}, job.Unfinished{Jobs: 1, Bytes: 81}, true, true},
		{quota{bytes: 100}, job.Unfinished{Jobs: 1, Bytes: 100}, true, true},
		{quota{bytes: 100}, job.Unfinished{Jobs: 1, Bytes: 101}, true, false},
		{quota{jobs: 10, bytes: 100}, job.Unfinished{Jobs: 1, Bytes: 99}, true, true},
	} {
		if c.quota.near(c.held) != c.near || c.quota.fits(c.held) != c.fits {
			t.Errorf("%+v of %+v: near %t, fits %t", c.held, c.quota, c.quota.near(c.held), c.quota.fits(c.held))
		}
	}
}

func TestTenantsAreEqualFromAThirdOn(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		works []int
		gone  int // the work of a tenant that has left
		even  bool
	}{
		{[]int{40}, 0, true}, {[]int{20, 20}, 0, true}, {[]int{50, 10}, 0, true}, {[]int{51, 10}, 0, false}, {[]int{51, 10}, 3, false}, {[]int{20, 20}, 3, true},
	} {
		tenants, b := map[job.Tenant]*tenantWork{}, balance{}
		for n, work := range c.works {
			tenants[job.Tenant(fmt.Sprint("t", n))] = &tenantWork{work: work, seen: now.Add(1 - mixedTime)}
			b.work += work
		}
		if c.gone > 0 {
			tenants["gone"] = &tenantWork{work: c.gone, seen: now.Add(-mixedTime)}
		}
		if got := b.equal(tenants, now); got != c.even {
			t.Errorf("%v: %t", c.works, got)
		}
	}
}

// stoppedClock is a wire of which only the clock is used.
type stoppedClock struct {
	wire
	now *time.Time
}

func (c stoppedClock) Now() time.Time { return *c.now }

func TestWebhooksAreChangedAsARequestSays(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0).UTC()
	d := &Dispatcher{q: stoppedClock{now: &now}}
	yes, no := true, false
	w := queue.WebhookSettings{Owner: "acme", Name: "hook", URL: "https://a/b", Events: []string{"job.dead"}}
	d.changeWebhook(&w, &jetstream.SetWebhookRequest{})
	d.changeWebhook(&w, &jetstream.SetWebhookRequest{Named: &yes, Disable: &yes})
	if w.URL != "https://a/b" || len(w.Events) != 1 || !w.Named || w.Disabled == nil || !w.Disabled.Equal(now) || w.Reason == "" {
		t.Errorf("%+v", w)
	}
	err := enabled(&w)
	if _, conflict := err.(*jetstream.Conflict); !conflict || !strings.Contains(err.Error(), "webhook hook of acme is disabled (it was disabled by a call)") { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	now = now.Add(time.Hour)
	d.changeWebhook(&w, &jetstream.SetWebhookRequest{Disable: &yes})
	if w.Disabled.Equal(now) {
		t.Error("it was disabled again")
	}
	d.changeWebhook(&w, &jetstream.SetWebhookRequest{URL: "https://c/d", Events: []string{"job.*", "host.*"}, Named: &no, Disable: &no})
	if w.URL != "https://c/d" || len(w.Events) != 2 || w.Named || w.Disabled != nil || w.Reason != "" || enabled(&w) != nil {
		t.Errorf("%+v", w)
	}
	if own, fleet := ownTenant("acme"), ownTenant(names.Fleet); own != "acme" || fleet != "" {
		t.Errorf("settings of %q and %q", own, fleet)
	}
	for address, want := range map[string]string{"https://u:p@a:1/secret?x=1": "https://a:1", "/path": "", "http://[": "", "": ""} {
		if got := hostOf(address); got != want {
			t.Errorf("the host of %q is %q", address, got)
		}
	}
}

func TestTheLastTriesOfAWebhookAreKept(t *testing.T) {
	t.Parallel()
	var l lastTries
	try := func(webhook string, at int) {
		t := jetstream.WebhookTry{Tenant: "acme", Webhook: webhook, ID: fmt.Sprint(at), Outcome: jetstream.Delivered, Time: time.Unix(int64(at), 0)}
		body := fmt.Sprintf(`{"tenant":"acme","webhook":%q,"id":%q,"outcome":"delivered","time":%q}`, webhook, t.ID, t.Time.UTC().Format(time.RFC3339))
		l.add(&jetstream.Note{Subject: names.TrySubject("acme", webhook, names.NoJob, names.TestEvent, "delivered"), Body: []byte(body)})
	}
	for at := range triesKept + 5 {
		try("hook", at)
	}
	l.add(&jetstream.Note{Subject: "comfy.events.jobs.acme.one.dead", Body: []byte("{}")})
	key := names.WebhookKey("acme", "hook")
	if all := l.newest(key, 1000, time.Time{}); len(all) != triesKept || all[0].ID != "24" || all[triesKept-1].ID != "5" {
		t.Errorf("%d tries: %+v", len(all), all)
	}
	if some := l.newest(key, 3, time.Unix(23, 0)); len(some) != 2 || some[1].ID != "23" {
		t.Errorf("%+v", some)
	}
	if some := l.newest(key, 3, time.Time{}); len(some) != 3 {
		t.Errorf("%+v", some)
	}
	for n := range triedMost {
		try(fmt.Sprint("other-", n), 1)
	}
	if len(l.of) != triedMost || len(l.newest(names.WebhookKey("acme", fmt.Sprint("other-", triedMost-1)), 1, time.Time{})) != 0 {
		t.Errorf("tries of %d webhooks are kept", len(l.of))
	}
	if try("hook", 99); l.newest(key, 1, time.Time{})[0].ID != "99" {
		t.Error("a webhook whose tries are kept gets no more")
	}
	if l.forgetAll(); len(l.newest(key, 9, time.Time{})) != 0 {
		t.Error("tries were not forgotten")
	}
}
