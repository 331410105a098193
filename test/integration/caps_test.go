package integration_test

import (
	"fmt"
	"testing"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// peers starts dispatchers of the names d0, d1, … and returns what kills each.
func (f *fleet) peers(n int, cfg dispatcher.Config) map[string]func() {
	f.t.Helper()
	kill := map[string]func(){}
	for i := range n {
		cfg.Name = fmt.Sprint("d", i)
		_, kill[cfg.Name] = f.dispatcher(cfg)
	}
	return kill
}

// capOf sets a tenant's cap. Dispatchers that start afterwards know it before they take their first job.
func (f *fleet) capOf(tenant job.Tenant, most int) {
	f.t.Helper()
	if err := f.q.SetTenant(f.context(), tenant, queue.TenantSettings{Weight: 1, MaxRunning: most}); err != nil {
		f.t.Fatal(err)
	}
}

func TestATenantRunsNoMoreThanItMayWithAnyNumberOfDispatchers(t *testing.T) {
	t.Parallel()
	const jobs = 30
	f := start(t, setup{hosts: names("a", "b", "c", "d", "e", "f", "g", "h")})
	f.capOf("acme", 1)
	f.peers(5, dispatcher.Config{})
	for n := range jobs {
		f.published("acme", job.Spec{Workflow: nap(0.05, 0, n)})
	}
	f.drained()
	if n := f.overlap("SimSleep"); n != 1 {
		t.Errorf("%d jobs of the tenant ran at once", n)
	}
	if runs := f.runs(); total(runs) != jobs {
		t.Errorf("%d runs of %d jobs: %v", total(runs), jobs, runs)
	}
	f.eventually("all slots free", func() bool {
		taken, _, err := f.q.Slots(f.context(), "acme")
		return err == nil && len(taken) == 0
	})
}

func total(runs map[string]int) int {
	n := 0
	for _, of := range runs {
		n += of
	}
	return n
}

func TestATenantsCapOutlivesTheDispatcherThatKeepsIt(t *testing.T) {
	t.Parallel()
	const jobs = 20
	f := start(t, setup{hosts: names("a", "b", "c", "d"), jetstream: shortLeases()})
	f.capOf("acme", 1)
	kill := f.peers(5, dispatcher.Config{})
	o := f.order()
	for n := range jobs {
		f.published("acme", job.Spec{ID: job.ID(fmt.Sprint("nap-", n)), Workflow: nap(0.1, 0, n)})
	}
	f.eventually("some of them started", func() bool { return count(o.words(), started("acme/nap-")) >= 3 })
	home := route.Home([]string{"d0", "d1", "d2", "d3", "d4"}, route.HostID("tenant acme"))
	kill[home]()
	f.drained()
	if n := f.overlap("SimSleep"); n != 1 {
		t.Errorf("%d jobs of the tenant ran at once", n)
	}
	if runs := f.runs(); total(runs) != jobs {
		t.Errorf("%d runs of %d jobs: %v", total(runs), jobs, runs)
	}
}

func TestASlotWhoseDispatcherDiedIsFreeAfterAPresenceTTL(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("a"), jetstream: shortLeases()})
	f.capOf("acme", 1)
	f.peers(2, dispatcher.Config{})
	dead := []queue.Slot{{Job: "never-offered", Host: "a", By: "gone", Time: f.q.Now()}}
	if stored, err := f.q.PutSlots(f.context(), "acme", dead, 0); err != nil || !stored {
		t.Fatalf("slots: %v, %v", stored, err)
	}
	r := f.submit("acme", job.Spec{Workflow: picture(1)})
	end := f.end(r)
	started := f.await(r, job.Started)
	if end.EventKind != job.Completed || started.Time.Sub(dead[0].Time) < f.q.PresenceTTL() {
		t.Errorf("it is %s, and was started %v after the slot was taken", end.EventKind, started.Time.Sub(dead[0].Time))
	}
}
