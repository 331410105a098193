package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// Of several reasons the one is told that no host can change.
func TestWhatIsToldOfAJobThatWaits(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{WaitingCap: 1})
	o := ownedJob(t, "acme", 1, 1)
	why := func() route.HoldReason { return s.why(o, ofOperator, noonUTC).Reason }
	text := func() string { return s.why(o, ofOperator, noonUTC).Text }
	same(t, "without a host", why(), route.NoneCapable)
	s.hear(1, "a")
	answer := s.why(o, ofTenant, noonUTC)
	same(t, "with one", []any{answer.Reason, answer.Text, answer.Until == nil}, []any{route.HoldReason(""), "a host may take it at once", true})
	busy := running(onlineHost("a", 2, 1), "x")
	s.hosts.report(&busy, noonUTC)
	same(t, "with a busy one", text(), "it only waits its turn: hosts that may take it are busy")
	o.notBefore = noonUTC.Add(time.Minute)
	answer = s.why(o, ofOperator, noonUTC)
	same(t, "before it is due", []any{answer.Reason, *answer.Until}, []any{route.NotDue, o.notBefore})
	s.ticketing.add(&restingJob{lane: o.lane(), id: o.job.ID, sequence: 1, until: noonUTC.Add(time.Hour)})
	same(t, "while it rests", text(), s.ticketing.restText(o))
	p := pair{"b", o.job.Graph.Hash()}
	s.guilt.putStrikes(p, &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}})
	same(t, "while its workflow is guilty", text(), s.guilt.proof(o.tenantHash()))
}

// A host that drains may have been sick before; what had made it so does not matter any more.
func TestWhatIsToldOfTheHostsThatTakeNoJobs(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for name, edit := range map[string]func(*queue.HostState){
		"drains": func(x *queue.HostState) { x.State, x.Cause, x.Reason = queue.Draining, "vram", "for the night" },
		"sick":   func(x *queue.HostState) { x.State, x.Reason = queue.Unhealthy, "it does not answer" },
		"well":   func(x *queue.HostState) { x.Cause, x.Reason = "vram", "it had no memory" },
	} {
		state := onlineHost(name, 1, 1)
		edit(&state)
		s.hosts.report(&state, noonUTC)
	}
	verdicts := []route.HostVerdict{
		{Host: "drains", Code: route.CodeDrain, Text: "A"}, {Host: "sick", Code: route.CodeSick, Text: "B"},
		{Host: "well", Code: route.Eligible}, {Host: "gone", Code: route.CodeOffline, Text: "D"},
	}
	s.addReasons(verdicts, "acme", ofOperator)
	var texts []string
	for _, v := range verdicts {
		texts = append(texts, v.Text)
	}
	same(t, "texts", texts, []string{"A: for the night", "B: it does not answer", "", "D"})
}

func TestAGrantWithoutTenantsIsForAll(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	o := ownedJob(t, "acme", 1, 1)
	s.grants.put("a", queue.HostGrant{Tenants: []job.Tenant{"bolt"}})
	same(t, "of other tenants", chosen(s.fleet, o, noonUTC), "")
	s.grants.put("a", queue.HostGrant{Slots: 1})
	same(t, "of none", []any{chosen(s.fleet, o, noonUTC), s.grants.most("a"), s.grants.most("b")}, []any{"a", 1, 64})
}

func TestARuleHasJobsLookedAtAnew(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for what, change := range map[string]func(){
		"a rule": func() { s.affinity.put("x", queue.Affinity{Exclude: []string{"a"}}) }, "its end": func() { s.affinity.remove("x") },
	} {
		s.changes.jobs, s.changes.reasons = false, false
		change()
		same(t, what, []bool{s.changes.jobs, s.changes.reasons}, []bool{true, true})
	}
	s.affinity.put("y", queue.Affinity{})
	s.affinity.remove("x")
	s.affinity.remove("y")
	same(t, "rules", s.affinity.keys(), []string(nil))
}

// A pair that has just failed is kept free for a moment, which is no block that a person could lift.
func TestAHostIsListedWithTheBlocksThatStand(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	s.blocks.put(blockFor("a", hashOfGraph(t, 1), failure.ExecutionError), noonUTC)
	s.blocks.halt("a", &queue.EndedJob{Tenant: "acme", Hash: hashOfGraph(t, 2), Kind: failure.Timeout}, noonUTC)
	s.blocks.putStrikes(pair{"a", hashOfGraph(t, 3)}, &route.Strikes{Tenants: map[route.Tenant]int{"acme": 1}})
	info := s.hostInfo("a", s.blocks.haltsPerHost(), noonUTC)
	same(t, "blocks and strikes", []int{info.Blocks, info.Strikes}, []int{1, 1})
}
