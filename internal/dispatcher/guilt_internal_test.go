package dispatcher

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func guiltScene(t *testing.T) (*guilt, *owned) {
	t.Helper()
	return newGuilt(guilt{fleet: fleetOf(t, "a"), changes: newChanges(), alarms: &alarms{}}), ownedJob(t, "acme", 1, 1)
}

func TestNoJobOfAWorkflowRunsWhileALossOfItIsUnsettled(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	lost := &queue.EndedJob{Tenant: "acme", Job: "x", Hash: o.job.Graph.Hash(), Kind: failure.HostLost}
	p.lost(lost, noonUTC)
	same(t, "its tenant's", chosen(p.fleet, o, noonUTC), "")
	same(t, "another tenant's", chosen(p.fleet, ownedJob(t, "bolt", 2, 1), noonUTC), "a")
	p.settled(o.tenantHash(), "y")
	same(t, "another job is settled", chosen(p.fleet, o, noonUTC), "")
	p.settled(o.tenantHash(), "x")
	same(t, "it is settled", chosen(p.fleet, o, noonUTC), "a")
	p.lost(lost, noonUTC)
	p.alarms.ring(noonUTC.Add(time.Second))
	same(t, "a second is over", chosen(p.fleet, o, noonUTC), "a")
}

func TestAProvenWorkflowRunsNowhereUntilTheLastProofIsGone(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	hash := o.job.Graph.Hash()
	guilty := &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}}
	p.putStrikes(pair{"a", hash}, guilty)
	p.putStrikes(pair{"b", hash}, guilty)
	same(t, "runs", chosen(p.fleet, o, noonUTC), "")
	if text := p.proof(o.tenantHash()); !strings.Contains(text, "two hosts went down") || !strings.Contains(text, "acme") {
		t.Errorf("the proof is %q", text)
	}
	same(t, "another tenant's", p.proof(tenantHash{"bolt", hash}), "")
	all := func(string, workflow.Hash) bool { return true }
	same(t, "pairs", len(p.pairs(all)), 2)
	same(t, "pairs of b", p.pairs(func(host string, _ workflow.Hash) bool { return host == "b" })[0] == pair{"b", hash}, true)
	p.putStrikes(pair{"a", hash}, &route.Strikes{})
	p.putStrikes(pair{"b", hashOfGraph(t, 2)}, &route.Strikes{})
	same(t, "one proof less", chosen(p.fleet, o, noonUTC), "")
	p.changes.jobs = false
	p.putStrikes(pair{"b", hash}, &route.Strikes{})
	same(t, "none left", []any{chosen(p.fleet, o, noonUTC), p.proof(o.tenantHash()), p.changes.jobs}, []any{"a", "", true})
}

func TestTheOtherLossesOfATenantsWorkflow(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	hash := o.job.Graph.Hash()
	suspects := &route.Strikes{Suspects: []route.Suspicion{{Tenant: "acme", Job: "x"}, {Tenant: "acme", Job: "y"}, {Tenant: "bolt", Job: "z"}}}
	p.putStrikes(pair{"a", hash}, suspects)
	p.putStrikes(pair{"b", hash}, &route.Strikes{Suspects: suspects.Suspects[:1]})
	losses := p.otherLosses(o.tenantHash(), "x")
	same(t, "losses beside x", len(losses), 1)
	same(t, "losses beside y", len(p.otherLosses(o.tenantHash(), "y")), 2)
	p.putStrikes(pair{"a", hash}, &route.Strikes{})
	p.putStrikes(pair{"b", hash}, &route.Strikes{})
	same(t, "when strikes are gone", []int{len(p.otherLosses(o.tenantHash(), "")), len(p.suspicions)}, []int{0, 0})
}

func TestOneProofIsEnough(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	p.putStrikes(pair{"a", o.job.Graph.Hash()}, &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}})
	same(t, "runs", chosen(p.fleet, o, noonUTC), "")
}

func TestAWorkflowIsProvenForEachTenantByItself(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	at := pair{"a", o.job.Graph.Hash()}
	p.putStrikes(at, &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}})
	p.putStrikes(pair{"b", at.hash}, &route.Strikes{Guilty: map[route.Tenant]string{"bolt": "and two more"}})
	p.putStrikes(at, &route.Strikes{})
	other := ownedJob(t, "bolt", 2, 1)
	same(t, "the tenant whose proof is gone", []any{chosen(p.fleet, o, noonUTC), p.proof(o.tenantHash())}, []any{"a", ""})
	same(t, "the other one", []any{chosen(p.fleet, other, noonUTC), p.proof(other.tenantHash()) != ""}, []any{"", true})
	p.lost(&queue.EndedJob{Tenant: "bolt", Job: "x", Hash: at.hash, Kind: failure.HostLost}, noonUTC)
	p.settled(other.tenantHash(), "x")
	same(t, "the other one when a loss is settled", chosen(p.fleet, other, noonUTC), "")
}

func TestSuspicionsOfOneHostOutliveThoseOfAnother(t *testing.T) {
	t.Parallel()
	p, o := guiltScene(t)
	hash := o.job.Graph.Hash()
	suspects := &route.Strikes{Suspects: []route.Suspicion{{Tenant: "acme", Job: "x"}}}
	p.putStrikes(pair{"a", hash}, suspects)
	p.putStrikes(pair{"b", hash}, suspects)
	p.putStrikes(pair{"a", hash}, &route.Strikes{})
	same(t, "losses", len(p.otherLosses(o.tenantHash(), "")), 1)
}

func TestASuccessSpeaksForItsWorkflowForAnHour(t *testing.T) {
	t.Parallel()
	s, hash := newSuccesses(), hashOfGraph(t, 1)
	s.add("a", &queue.EndedJob{Tenant: "acme", Hash: hash, Size: 5}, noonUTC)
	s.add("a", &queue.EndedJob{Tenant: "acme", Hash: hash, Size: 3}, noonUTC)
	same(t, "largest", s.largest[pair{"a", hash}], int64(5))
	same(t, "within the hour", s.recent(tenantHash{"acme", hash}, noonUTC.Add(time.Hour-1)), true)
	same(t, "afterwards", s.recent(tenantHash{"acme", hash}, noonUTC.Add(time.Hour)), false)
	same(t, "another tenant's", s.recent(tenantHash{"bolt", hash}, noonUTC), false)
}
