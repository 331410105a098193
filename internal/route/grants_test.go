package route_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestAHostThatIsGivenToTenantsTakesNoOthersJobs(t *testing.T) {
	t.Parallel()
	f := fleet(online("acmes"), online("common"))
	f.PutGrant("acmes", []route.Tenant{"acme", "carl"})
	f.PutGrant("nobodys", nil)
	f.PutHost(online("nobodys"))
	bolt := want(1)
	bolt.Tenant = "bolt"
	for range 2 {
		if got, ok := f.Choose(bolt, noon); !ok || got != "common" {
			t.Errorf("bolt's job goes to %q", got)
		}
		if f.May(bolt, "acmes", noon) || f.May(bolt, "nobodys", noon) || !f.May(bolt, "common", noon) || !f.May(want(1), "acmes", noon) {
			t.Error("May says otherwise than Choose")
		}
	}
	f.Occupy("common", route.Run{Tenant: "bolt", Job: "x", Hash: hashOf(2)})
	if got, ok := f.Choose(bolt, noon); ok {
		t.Errorf("bolt's job goes to %q", got)
	}
	if got, ok := f.Choose(want(1), noon); !ok || got != "acmes" {
		t.Errorf("acme's job goes to %q", got)
	}
	verdicts := map[route.HostID]route.HostVerdict{}
	for _, v := range f.Explain(bolt, noon) {
		verdicts[v.Host] = v
	}
	if v := verdicts["acmes"]; v.Code != "other_tenants" || v.Text != "this host serves other tenants" {
		t.Errorf("why says %+v", v)
	}
	if hold := f.Hold(bolt, noon); hold.Reason != "" {
		t.Errorf("a busy host is no reason to wait: %+v", hold)
	}
	f.RemoveGrant("acmes")
	if got, ok := f.Choose(bolt, noon); !ok || got != "acmes" {
		t.Errorf("the host was given back, and bolt's job goes to %q", got)
	}
}

// A job whose only capable hosts do not serve its tenant waits for that reason, and does not count as one that no host can run.
func TestAJobWhoseHostsAllServeOthersWaitsForThat(t *testing.T) {
	t.Parallel()
	f := fleet(online("able"), online("lacking"))
	f.PutCapability("able", kindOf(7))
	f.PutCapability("lacking", kindOf(1))
	f.PutRequirements(hashOf(1), needs(1))
	f.PutGrant("able", []route.Tenant{"bolt"})
	hold := f.Hold(want(1), noon)
	if hold.Reason != "other_tenants" || hold.Text != "every host that is online and can run it serves other tenants: able" {
		t.Errorf("it waits for %s: %s", hold.Reason, hold.Text)
	}
	f.RemoveHost("able")
	hold = f.Hold(want(1), noon)
	if hold.Reason != "none_capable" || strings.Contains(hold.Text, "able:") || !hold.Online {
		t.Errorf("it waits for %s: %s", hold.Reason, hold.Text)
	}
	f.RemoveHost("lacking")
	f.PutHost(online("able"))
	if hold = f.Hold(want(2), noon); hold.Reason != "other_tenants" || hold.Online {
		t.Errorf("it waits for %s: %s", hold.Reason, hold.Text)
	}
	f.PutHost(route.HostState{ID: "own", State: route.Draining, Slots: 1})
	if hold = f.Hold(want(2), noon); hold.Reason != "none_capable" || hold.Text != "no host is online: lacking is offline; own is draining" || hold.Away != 1 {
		t.Errorf("it waits for %s: %s", hold.Reason, hold.Text)
	}
}

func TestTheRoomGivesAHostOnlyTheJobsOfItsTenants(t *testing.T) {
	t.Parallel()
	f, r := fleet(online("acmes"), online("common")), route.NewRoom()
	f.PutGrant("acmes", []route.Tenant{"acme"})
	for i, tenant := range []route.Tenant{"bolt", "bolt", "acme"} {
		r.Put(route.Ticket{Sequence: uint64(i + 1), Priority: 5, Tenant: tenant, Job: route.JobID(rune('a' + i)), Hash: hashOf(i), Received: noon})
	}
	if ticket, ok := r.Next(f, "acmes", noon); !ok || ticket.Sequence != 3 {
		t.Errorf("acme's host takes %+v", ticket)
	}
	f.Occupy("common", route.Run{Tenant: "x", Job: "x", Hash: hashOf(9)})
	ticket, host, ok := r.Pick(f, noon)
	if !ok || ticket.Sequence != 3 || host != "acmes" {
		t.Errorf("%s takes %+v", host, ticket)
	}
	r.Remove(3)
	if ticket, host, ok := r.Pick(f, noon); ok {
		t.Errorf("%s takes %+v", host, ticket)
	}
	f.PutGrant("acmes", []route.Tenant{"bolt"})
	if ticket, host, ok := r.Pick(f, noon); !ok || ticket.Sequence != 1 || host != "acmes" {
		t.Errorf("after the host was given to bolt, %s takes %+v", host, ticket)
	}
}

func TestAHostThatIsGivenAndAwayHoldsItsNumber(t *testing.T) {
	t.Parallel()
	f := fleet(online("acmes"))
	f.PutGrant("acmes", []route.Tenant{"acme"})
	f.RemoveHost("acmes")
	f.PutHost(online("new"))
	f.PutHost(online("acmes"))
	bolt := want(1)
	bolt.Tenant = "bolt"
	if got, ok := f.Choose(bolt, noon); !ok || got != "new" {
		t.Errorf("bolt's job goes to %q", got)
	}
}

func TestARestingHostTakesNothingAndSaysUntilWhen(t *testing.T) {
	t.Parallel()
	s := online("rests")
	s.State, s.Until, s.Why = route.Resting, noon.Add(time.Minute), "it begins nothing"
	f := fleet(s)
	if got, ok := f.Choose(want(1), noon); ok {
		t.Errorf("the job goes to %q", got)
	}
	v := f.Explain(want(1), noon)[0]
	if v.Code != "resting" || v.Text != "resting until 2026-12-01T12:01:00Z: it begins nothing" || !v.Until.Equal(noon.Add(time.Minute)) {
		t.Errorf("why says %+v", v)
	}
	hold := f.Hold(want(1), noon)
	if hold.Reason != "none_capable" || hold.Text != "no host is online: rests is resting" || hold.Away != 1 {
		t.Errorf("it waits for %+v", hold)
	}
}
