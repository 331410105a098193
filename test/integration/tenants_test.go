package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// order collects the job events of a fleet, and gives them as words "tenant/job.kind" in the order they were stored.
type order struct{ *collector }

func (f *fleet) order() order { return order{f.notes("comfy.events.jobs.>")} }

func (o order) words() []string {
	var words []string
	for _, n := range o.of("") {
		tenant, rest, _ := strings.Cut(strings.TrimPrefix(n.Subject, "comfy.events.jobs."), ".")
		words = append(words, tenant+"/"+rest)
	}
	return words
}

// has waits until a word was stored.
func (f *fleet) has(o order, word string) {
	f.t.Helper()
	f.eventually(word, func() bool { return index(o.words(), word) >= 0 })
}

func index(words []string, word string) int {
	for i, w := range words {
		if w == word {
			return i
		}
	}
	return -1
}

func TestAFloodOfOneTenantDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	const jobs = 40
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b")})
	o := f.order()
	busy := []jetstream.Receipt{f.occupy("a", 1), f.occupy("b", 2)}
	for n := range jobs {
		f.published("acme", job.Spec{ID: job.ID(fmt.Sprint("flood-", n)), Workflow: nap(1.5, 0, n)}) // longer than a claim takes on a busy machine
	}
	f.knownToBoth("acme", jobs-2) // each host holds one behind the one that it runs
	single := f.submit("bolt", job.Spec{ID: "single", Workflow: nap(0.1, 0, jobs)})
	f.knownToBoth("bolt", 1)
	f.cancel(busy...)
	f.end(single)
	f.has(o, "bolt/single.completed")
	words := o.words()
	before := count(words[:index(words, "bolt/single.started")], started("acme/flood-"))
	// Those that were held, and at most one more on each host.
	if before > 4 {
		t.Errorf("%d jobs of the flood were started before the other tenant's", before)
	}
	if left := jobs - count(words[:index(words, "bolt/single.completed")], started("acme/flood-")); left < jobs/2 {
		t.Errorf("the flood was nearly over: %d jobs had not started", left)
	}
	for n := range jobs { // otherwise the fleet stops when they have ended
		if _, err := f.q.Cancel(f.context(), "acme", job.ID(fmt.Sprint("flood-", n)), "test", false); err != nil {
			t.Error(err)
		}
	}
}

// knownToBoth waits until each of two dispatchers has this many waiting jobs of a tenant; either of them may answer a call.
func (f *fleet) knownToBoth(tenant job.Tenant, jobs int) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("%d waiting jobs of %s in both dispatchers", jobs, tenant), func() bool {
		for range 20 {
			if f.waits(tenant, job.Usual) != jobs {
				return false
			}
		}
		return true
	})
}

func TestAFreshJobTakesNoSlotThatOneOfHigherPriorityWaitsFor(t *testing.T) {
	t.Parallel()
	const urgent = 40
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	o := f.order()
	busy := f.occupy("a", 1)
	f.await(f.submit("acme", onlyOn("a", picture(2))), job.Started) // is held behind it
	publish := func(tenant string, priority job.Priority, id string, color int) {
		spec := job.Spec{ID: job.ID(id), Workflow: picture(color)}
		if _, err := f.q.Submit(f.context(), job.Lane{Tenant: job.Tenant(tenant), Priority: priority}, spec); err != nil {
			t.Fatal(err)
		}
	}
	for n := range urgent {
		publish("acme", 9, fmt.Sprint("urgent-", n), n)
	}
	f.eventually("all of them waiting", func() bool { return f.waits("acme", 9) == urgent })
	f.cancel(busy)
	f.eventually("all of them started", func() bool {
		publish("bolt", 0, fmt.Sprint("idle-", len(o.words())), 3)
		return count(o.words(), started("acme/urgent-")) == urgent
	})
	all := o.words()
	words := all
	for left := urgent; left > 2; left-- { // the last two may be on their way when one of the others is placed
		words = words[slices.IndexFunc(words, started("acme/urgent-"))+1:]
	}
	if early := count(all[:len(all)-len(words)], started("bolt/")); early > 0 {
		t.Errorf("%d jobs of priority 0 were started while others of priority 9 waited", early)
	}
}

func started(of string) func(word string) bool {
	return func(word string) bool { return strings.HasPrefix(word, of) && strings.HasSuffix(word, ".started") }
}

// waits is how many jobs of a lane wait, as the dispatcher tells it.
func (f *fleet) waits(tenant job.Tenant, priority job.Priority) int {
	f.t.Helper()
	for _, l := range call[jetstream.QueueAnswer](f, "queue", struct{}{}).Lanes {
		if l.Tenant == route.Tenant(tenant) && l.Priority == int(priority) {
			return l.Depth
		}
	}
	return 0
}

func TestTenantsShareByWeight(t *testing.T) {
	t.Parallel()
	f := start(t, setup{noAgents: true, hosts: names("a"), dispatchers: 1})
	o := f.order()
	weight := 3.0
	if got := call[queue.TenantsAnswer](f, "tenants", queue.TenantsRequest{Tenant: "acme", Weight: &weight}); got.Tenants["acme"].Weight != 3 {
		t.Errorf("tenants are %v", got.Tenants)
	}
	const each = 40
	for n := range each {
		f.published("bolt", job.Spec{Workflow: nap(0.1, 0, n)})
		f.published("acme", job.Spec{Workflow: nap(0.1, 0, n)})
	}
	f.eventually("all jobs in the queue", func() bool {
		waiting := map[string]int{}
		for _, l := range call[jetstream.QueueAnswer](f, "queue", struct{}{}).Lanes {
			waiting[string(l.Tenant)] = l.Depth
		}
		return waiting["acme"] == each && waiting["bolt"] == each
	})
	f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.drained()
	f.eventually("all ends told", func() bool {
		return count(o.words(), func(w string) bool { return strings.HasSuffix(w, ".completed") }) == 2*each
	})
	// Of the first forty runs' time three quarters are due to the tenant of weight 3, or thirty of forty when all take the
	// same. Shares are of time, so a run in which the machine stood still makes up for many.
	used, longest := o.used(t, each)
	if far := math.Abs(used["acme"]/3 - used["bolt"]); far > 2*longest+0.2 {
		t.Errorf("the tenant of weight 3 had %.2f s beside %.2f s of one of weight 1, want three times as much; the longest run took %.2f s",
			used["acme"], used["bolt"], longest)
	}
}

// used gives the seconds that the first n jobs to be started ran for, by tenant, and the most that one of them did.
func (o order) used(t *testing.T, n int) (used map[string]float64, longest float64) {
	t.Helper()
	ran := map[string]float64{}
	for _, note := range o.of(".completed") {
		e, err := job.DecodeEvent(job.Completed, note.Body)
		if err != nil {
			t.Fatal(err)
		}
		ran[string(e.Tenant)+"/"+string(e.Job)] = time.Duration(e.RanFor).Seconds()
	}
	used = map[string]float64{}
	for _, w := range o.words() {
		id, starts := strings.CutSuffix(w, ".started")
		if !starts || n == 0 {
			continue
		}
		tenant, _, _ := strings.Cut(id, "/")
		used[tenant] += ran[id]
		longest = max(longest, ran[id])
		n--
	}
	return used, longest
}

func TestATenantRunsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a", "b", "c")})
	most := 1
	call[queue.TenantsAnswer](f, "tenants", queue.TenantsRequest{Tenant: "acme", MaxRunning: &most})
	var jobs []jetstream.Receipt
	for n := range 6 {
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: nap(0.1, 0, n)}))
	}
	f.end(f.submit("bolt", job.Spec{Workflow: picture(1)}))
	over := 0
	for _, r := range jobs {
		for _, e := range f.chain(r) {
			if e.EventKind == job.Waiting && e.Reason == "over_cap" {
				over++
			}
		}
	}
	if over == 0 {
		t.Error("no job was told to wait for the tenant's cap")
	}
	if n := f.overlap("SimSleep"); n != 1 {
		t.Errorf("%d jobs of the tenant ran at once", n)
	}
	for _, bad := range []string{`{"tenant":"acme","weight":-1}`, `{"tenant":"a b","weight":1}`, `{"tenant":"acme","max_running":-1}`} {
		if err := f.q.Call(f.context(), "tenants", json.RawMessage(bad), nil); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// overlap is how many runs with a class there were at once, on all hosts together.
func (f *fleet) overlap(class string) int {
	most := 0
	var all []comfysim.Run
	for _, sim := range f.sims {
		for _, r := range sim.Runs() {
			if slices.Contains(r.Classes, class) {
				all = append(all, r)
			}
		}
	}
	for _, r := range all {
		most = max(most, count(all, func(o comfysim.Run) bool { return !o.Started.After(r.Started) && o.Ended.After(r.Started) }))
	}
	return most
}

func TestAFullLaneRefusesAndKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a"), jetstream: queue.Config{LaneCap: 3}})
	later := time.Now().Add(time.Hour)
	var kept []jetstream.Receipt
	for n := range 3 {
		kept = append(kept, f.submit("acme", job.Spec{Workflow: picture(n), RunAt: &later}))
	}
	_, err := f.q.Submit(f.context(), lane("acme"), job.Spec{Workflow: picture(4)})
	if !errors.Is(err, jetstream.ErrLaneFull) || !strings.Contains(err.Error(), "acme") {
		t.Errorf("the fourth job was answered %v", err)
	}
	f.end(f.submit("bolt", job.Spec{Workflow: picture(5)}))
	high := job.Lane{Tenant: "acme", Priority: 6}
	r, err := f.q.Submit(f.context(), high, job.Spec{Workflow: picture(6)})
	if err != nil {
		t.Fatal(err)
	}
	f.end(r)
	for _, r := range kept {
		if e, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "test", false); err != nil || e.EventKind != job.Cancelled {
			t.Errorf("cancel: %s, %v", e.EventKind, err)
		}
	}
	f.drained()
	f.end(f.submit("acme", job.Spec{Workflow: picture(7)}))
}
