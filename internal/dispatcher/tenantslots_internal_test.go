package dispatcher

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// slotScene is the slots of tenants on a fleet with one host. It notes which are looked at.
type slotScene struct {
	*tenantSlots
	looks []string
	runOn map[job.ID]bool // jobs whose host says that it runs them
	large bool            // slots are not watched
	read  []string        // tenants whose slots are read
}

func newSlotScene(t *testing.T, p *peers) *slotScene {
	t.Helper()
	s := &slotScene{runOn: map[job.ID]bool{}}
	s.tenantSlots = newTenantSlots(tenantSlots{
		fleet: fleetOf(t, "a", "b"), peers: p, changes: newChanges(), alarms: &alarms{},
		reads: slotReads{
			needed: func() bool { return s.large }, pause: 10 * time.Second,
			read: func(tenant route.Tenant) { s.read = append(s.read, string(tenant)) },
		},
		runs: func(_ job.Tenant, slot queue.Slot) bool { return s.runOn[slot.Job] },
		look: func(tenant job.Tenant, slot queue.Slot, patient bool) {
			how := ""
			if patient {
				how = " patiently"
			}
			s.looks = append(s.looks, string(tenant)+" "+string(slot.Job)+how)
		},
	})
	return s
}

// cap gives a tenant a cap wherever it counts.
func (s *slotScene) cap(tenant route.Tenant, most int) {
	s.fleet.PutTenant(tenant, 1, most)
	s.setCap(tenant, most)
}

func slotsOf(ids ...job.ID) []queue.Slot {
	var list []queue.Slot
	for _, id := range ids {
		list = append(list, queue.Slot{Job: id, Host: "a", Time: noonUTC})
	}
	return list
}

func TestATenantWithAllItsSlotsTakenGetsNoHost(t *testing.T) {
	t.Parallel()
	s, o := newSlotScene(t, newPeers("me")), ownedJob(t, "acme", 1, 1)
	s.cap("acme", 2)
	s.put("acme", slotsOf("x", "y"))
	same(t, "both taken", chosen(s.fleet, o, noonUTC), "")
	same(t, "keys", s.keys(), []string{"acme"})
	same(t, "changes", s.changes.jobs, true)
	s.put("acme", slotsOf("x"))
	same(t, "one taken", chosen(s.fleet, o, noonUTC) != "", true)
	s.put("acme", nil)
	same(t, "keys", s.keys(), []string{})
	s.put("acme", slotsOf("x", "y"))
	s.cap("acme", 0)
	same(t, "without a cap", []bool{chosen(s.fleet, o, noonUTC) != "", s.capped("acme")}, []bool{true, false})
}

func TestOnlyATenantsHomeGivesItsJobsToHosts(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newSlotScene(t, p)
	tenant := route.Tenant(nameAwayFromTenantHome(t))
	o := ownedJob(t, string(tenant), 1, 1)
	s.cap(tenant, 2)
	same(t, "alone", chosen(s.fleet, o, noonUTC) != "", true)
	p.put("other", noonUTC)
	s.rehome(always)
	same(t, "beside its home", []any{chosen(s.fleet, o, noonUTC), s.fleet.Elsewhere(tenant)}, []any{"", true})
	s.put(tenant, slotsOf("x"))
	s.lookAround(noonUTC.Add(time.Minute), always)
	s.jobEnded(&queue.EndedJob{Tenant: job.Tenant(tenant), Job: "x"})
	same(t, "its slots are looked at by its home alone", len(s.looks), 0)
}

func nameAwayFromTenantHome(t *testing.T) string {
	t.Helper()
	p := peersOf("other")
	for n := range 100 {
		if name := "tenant-" + string(rune('a'+n%26)) + string(rune('a'+n/26)); !p.isTenantHome(route.Tenant(name)) {
			return name
		}
	}
	t.Fatal("this dispatcher is everybody's home")
	return ""
}

func TestATenantThatWasFoundFullIsTriedAgainAfterAMoment(t *testing.T) {
	t.Parallel()
	s, o := newSlotScene(t, newPeers("me")), ownedJob(t, "acme", 1, 1)
	s.cap("acme", 2)
	s.wasFull("acme", noonUTC)
	same(t, "at once", chosen(s.fleet, o, noonUTC), "")
	s.alarms.ring(noonUTC.Add(199 * time.Millisecond))
	same(t, "after 199 ms", chosen(s.fleet, o, noonUTC), "")
	s.alarms.ring(noonUTC.Add(200 * time.Millisecond))
	same(t, "after 200 ms", []any{chosen(s.fleet, o, noonUTC) != "", s.changes.jobs}, []any{true, true})
	s.wasFull("acme", noonUTC)
	s.put("acme", slotsOf("x"))
	same(t, "when the bucket says more", chosen(s.fleet, o, noonUTC) != "", true)
}

func TestASlotIsLookedAtWhenItsJobHasEndedOrNoHostRunsIt(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, newPeers("me"))
	s.put("acme", slotsOf("x", "y", "z"))
	s.jobEnded(&queue.EndedJob{Tenant: "acme", Job: "x"})
	s.jobEnded(&queue.EndedJob{Tenant: "acme", Job: "x"})
	s.jobEnded(&queue.EndedJob{Tenant: "acme", Job: "other"})
	same(t, "one look at a time", s.looks, []string{"acme x patiently"})
	s.looked(idKey{"acme", "x"})
	s.runOn["y"] = true
	s.lookAround(noonUTC.Add(3*time.Second-1), always)
	same(t, "while an offer may be under way", len(s.looks), 1)
	s.lookAround(noonUTC.Add(3*time.Second), always)
	slices.Sort(s.looks[1:])
	same(t, "afterwards", s.looks[1:], []string{"acme x", "acme z"})
}

func TestTheUsualCapHoldsForTenantsWithoutSettings(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, newPeers("me"))
	s.fleet.PutUsualCap(1)
	x := newTenants(tenants{
		fleet: s.fleet, room: route.NewRoom(), slots: s.tenantSlots, quotas: newQuotas(), changes: s.changes,
		usual: queue.TenantSettings{Weight: 1, MaxRunning: 1},
	})
	x.put("bolt", &queue.TenantSettings{Weight: 2})
	for _, tenant := range []route.Tenant{"acme", "bolt"} {
		x.meet(tenant)
	}
	same(t, "capped", []bool{s.capped("acme"), s.capped("bolt")}, []bool{true, false})
	same(t, "keys", x.keys(), []string{"bolt"})
	s.put("bolt", slotsOf("x"))
	same(t, "bolt runs", chosen(s.fleet, ownedJob(t, "bolt", 1, 1), noonUTC) != "", true)
	x.remove("bolt")
	same(t, "without its settings", []any{s.capped("bolt"), chosen(s.fleet, ownedJob(t, "bolt", 1, 1), noonUTC), len(x.keys())}, []any{true, "", 0})
	three, room := job.Priority(3), x.room
	x.put("acme", &queue.TenantSettings{Weight: 1, MaxPriority: &three})
	same(t, "ceiling", room.CountsAs("acme", 9), 3)
	x.remove("acme")
	same(t, "no ceiling", room.CountsAs("acme", 9), 9)
}

func TestUsualCapsAreForgottenWhenTheyAreTooManyAndThoseOfSettingsAreNot(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, newPeers("me"))
	x := newTenants(tenants{
		fleet: s.fleet, room: route.NewRoom(), slots: s.tenantSlots, quotas: newQuotas(), changes: s.changes,
		usual: queue.TenantSettings{Weight: 1, MaxRunning: 1},
	})
	x.put("bolt", &queue.TenantSettings{Weight: 1, MaxRunning: 2})
	for n := len(s.caps); n < capsMost-1; n++ {
		s.caps[route.Tenant("usual-"+strconv.Itoa(n))] = true
	}
	x.meet("acme")
	x.meet("acme") // it is known
	same(t, "caps while there is room", len(s.caps), capsMost)
	x.meet("new")
	same(t, "caps afterwards", s.caps, map[route.Tenant]bool{"bolt": true, "new": true})
}

func TestInALargeFleetTheHomeOfATenantReadsItsSlots(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, newPeers("me"))
	s.cap("acme", 2)
	reads := func(what string, want ...string) {
		t.Helper()
		same(t, what, s.read, want)
		s.read = nil
	}
	s.readOld(noonUTC, always)
	s.mayHaveChanged("acme")
	reads("in a small fleet")
	s.large = true
	s.readOld(noonUTC, always)
	s.readOld(noonUTC, always)
	s.mayHaveChanged("acme")
	reads("at first, once while the read is under way", "acme")
	s.wereRead("acme", slotsOf("x", "y"), nil, noonUTC)
	reads("again, since they have changed meanwhile", "acme")
	same(t, "taken", s.taken["acme"], slotsOf("x", "y"))
	s.wereRead("acme", slotsOf("x"), nil, noonUTC)
	s.readOld(noonUTC.Add(10*time.Second-1), always)
	reads("while they are known")
	same(t, "taken", s.taken["acme"], slotsOf("x"))
	s.readOld(noonUTC.Add(10*time.Second), always)
	reads("once in a while", "acme")
	s.wereRead("acme", nil, errors.New("away"), noonUTC.Add(10*time.Second))
	same(t, "taken as far as is known", s.taken["acme"], slotsOf("x"))
	s.readOld(noonUTC.Add(11*time.Second), always)
	reads("after a read that failed", "acme")
	s.large = false
	s.wereRead("acme", nil, nil, noonUTC.Add(11*time.Second))
	same(t, "what the watch has told stands", s.taken["acme"], slotsOf("x"))
}

func TestTheSlotsOfATenantAtHomeElsewhereAreNotRead(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, peersOf("other"))
	s.large = true
	elsewhere := route.Tenant("")
	for n := 0; elsewhere == ""; n++ {
		if tenant := route.Tenant(fmt.Sprint("acme-", n)); !s.peers.isTenantHome(tenant) {
			elsewhere = tenant
		}
	}
	s.cap(elsewhere, 2)
	s.readOld(noonUTC, always)
	s.mayHaveChanged(elsewhere)
	same(t, "read", s.read, []string(nil))
	s.peers.remove("other")
	s.rehome(always)
	same(t, "read when it has come home", s.read, []string{string(elsewhere)})
}

func TestOnlyCapsThatMayBeForgottenMakeRoom(t *testing.T) {
	t.Parallel()
	s := newSlotScene(t, newPeers("me"))
	for n := range capsMost - 2 {
		s.caps[route.Tenant(ownedName(n))] = true
	}
	s.caps["stays"] = true
	forgettable := func(tenant route.Tenant) bool { return tenant != "stays" }
	s.makeRoom(forgettable)
	same(t, "one less than may be known", len(s.caps), capsMost-1)
	s.caps["last"] = true
	s.makeRoom(forgettable)
	same(t, "as many as may be known", []any{len(s.caps), s.capped("stays")}, []any{1, true})
}
