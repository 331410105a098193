package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func blockScene(f *route.Fleet, p *peers) *blocks {
	return newBlocks(blocks{fleet: f, peers: p, changes: newChanges(), alarms: &alarms{}})
}

func blockFor(host string, hash workflow.Hash, kind failure.Kind) *route.Block {
	return &route.Block{Host: route.HostID(host), Hash: hash, Kind: kind, Tenants: []route.Tenant{route.Everyone}, Until: noonUTC.Add(time.Hour)}
}

func TestABlockedPairGetsNoJobUntilItsBlockIsGone(t *testing.T) {
	t.Parallel()
	f, o := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
	b, hash := blockScene(f, newPeers("me")), o.job.Graph.Hash()
	b.put(blockFor("a", hash, failure.ExecutionError), noonUTC)
	same(t, "blocked", chosen(f, o, noonUTC), "")
	same(t, "changes", []bool{b.changes.jobs, b.changes.reasons}, []bool{false, true})
	same(t, "keys", slices.Collect(b.blockKeys(always)), []string{"a." + string(hash)})
	b.remove(pair{"a", hash}, noonUTC)
	same(t, "free", chosen(f, o, noonUTC), "a")
	same(t, "changes", b.changes.jobs, true)
}

func TestAPairOnProbationIsMatchedAfterTheHeadStartWhereItIsNotAtHome(t *testing.T) {
	t.Parallel()
	name, hash := nameAwayFromHome("gpu-%d"), hashOfGraph(t, 1)
	b := blockScene(fleetOf(t, name), peersOf("other"))
	b.put(blockFor(name, hash, failure.ExecutionError), noonUTC)
	b.putStrikes(pair{name, hash}, &route.Strikes{Level: 1})
	b.changes.jobs = false
	b.remove(pair{name, hash}, noonUTC)
	b.alarms.ring(noonUTC.Add(3 * time.Millisecond))
	same(t, "before", b.changes.jobs, false)
	b.alarms.ring(noonUTC.Add(4 * time.Millisecond))
	same(t, "after", b.changes.jobs, true)
}

func TestAPairThatHasFailedGetsNoJobForASecond(t *testing.T) {
	t.Parallel()
	f, o := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
	b, hash := blockScene(f, newPeers("me")), o.job.Graph.Hash()
	b.halt("a", &queue.EndedJob{Tenant: "acme", Hash: hash, Kind: failure.ExecutionError}, noonUTC)
	same(t, "halted", chosen(f, o, noonUTC), "")
	b.alarms.ring(noonUTC.Add(999 * time.Millisecond))
	same(t, "just before", chosen(f, o, noonUTC), "")
	b.alarms.ring(noonUTC.Add(time.Second))
	same(t, "a second later", chosen(f, o, noonUTC), "a")
}

func TestAPairThatFailsAgainGetsNoJobForAnotherSecond(t *testing.T) {
	t.Parallel()
	f, o := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
	b, ended := blockScene(f, newPeers("me")), &queue.EndedJob{Tenant: "acme", Hash: o.job.Graph.Hash(), Kind: failure.ExecutionError}
	b.halt("a", ended, noonUTC)
	b.halt("a", ended, noonUTC.Add(900*time.Millisecond))
	b.alarms.ring(noonUTC.Add(1899 * time.Millisecond))
	same(t, "just before", chosen(f, o, noonUTC), "")
	b.alarms.ring(noonUTC.Add(1900 * time.Millisecond))
	same(t, "a second later", chosen(f, o, noonUTC), "a")
}

func TestStrikesWithoutABlockEndAHaltAndABlockOutlastsIt(t *testing.T) {
	t.Parallel()
	f, o := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
	b, hash := blockScene(f, newPeers("me")), o.job.Graph.Hash()
	ended := &queue.EndedJob{Tenant: "acme", Hash: hash, Kind: failure.ExecutionError}
	b.halt("a", ended, noonUTC)
	b.putStrikes(pair{"a", hash}, &route.Strikes{Open: blockFor("a", hash, failure.ExecutionError)})
	same(t, "strikes with a block", chosen(f, o, noonUTC), "")
	b.putStrikes(pair{"a", hash}, &route.Strikes{})
	same(t, "strikes without one", chosen(f, o, noonUTC), "a")
	same(t, "strike keys", slices.Collect(b.strikeKeys(always)), []string{"a." + string(hash)})
	b.halt("a", ended, noonUTC)
	b.put(blockFor("a", hash, failure.ExecutionError), noonUTC)
	b.alarms.ring(noonUTC.Add(time.Minute))
	same(t, "a block", chosen(f, o, noonUTC), "")
	b.halt("a", ended, noonUTC) // changes nothing of a block
	b.alarms.ring(noonUTC.Add(time.Hour))
	same(t, "still", chosen(f, o, noonUTC), "")
	b.removeStrikes(pair{"a", hash})
	same(t, "no strikes", len(slices.Collect(b.strikeKeys(always))), 0)
}

func TestWhichFailuresKeepAPairFreeOfJobs(t *testing.T) {
	t.Parallel()
	for kind, want := range map[failure.Kind]map[string]string{
		failure.ExecutionError: {"acme": "", "bolt": "a"}, // it may be the tenant's own doing
		failure.HostLost:       {"acme": "a", "bolt": "a"},
		failure.Incapable:      {"acme": "", "bolt": ""},
		"":                     {"acme": "a", "bolt": "a"}, // a cancel
	} {
		f := fleetOf(t, "a")
		b := blockScene(f, newPeers("me"))
		b.halt("a", &queue.EndedJob{Tenant: "acme", Hash: hashOfGraph(t, 1), Kind: kind}, noonUTC)
		got := map[string]string{}
		for tenant := range want {
			got[tenant] = chosen(f, ownedJob(t, tenant, 1, 1), noonUTC)
		}
		same(t, "after "+string(kind), got, want)
	}
}

func TestTheBlocksOfAHostThatLackedSomethingAreFoundByTheirTime(t *testing.T) {
	t.Parallel()
	b := blockScene(fleetOf(t, "a", "b"), newPeers("me"))
	one, two := hashOfGraph(t, 1), hashOfGraph(t, 2)
	b.put(blockFor("a", one, failure.Incapable), noonUTC)
	b.put(blockFor("a", two, failure.ExecutionError), noonUTC)
	b.put(blockFor("b", one, failure.Incapable), noonUTC)
	same(t, "before", b.incapableBefore("a", noonUTC, always), []workflow.Hash(nil))
	same(t, "after", b.incapableBefore("a", noonUTC.Add(1), always), []workflow.Hash{one})
	b.put(blockFor("a", one, failure.ExecutionError), noonUTC)
	b.remove(pair{"b", one}, noonUTC)
	same(t, "of another kind", len(b.incapableBefore("a", noonUTC.Add(1), always)), 0)
	same(t, "removed", len(b.incapableBefore("b", noonUTC.Add(1), always)), 0)
}

func TestBlocksAreListedByPair(t *testing.T) {
	t.Parallel()
	b := blockScene(fleetOf(t, "a", "b"), newPeers("me"))
	one, two := hashOfGraph(t, 1), hashOfGraph(t, 2)
	hashes := []workflow.Hash{one, two}
	slices.Sort(hashes)
	for _, p := range []pair{{"a", one}, {"a", two}, {"b", one}} {
		b.put(blockFor(p.host, p.hash, failure.ExecutionError), noonUTC)
	}
	b.putStrikes(pair{"b", two}, &route.Strikes{})
	b.halt("b", &queue.EndedJob{Tenant: "acme", Hash: two, Kind: failure.ExecutionError}, noonUTC)
	onA, strikesOfA := b.fleet.Counts("a")
	onB, strikesOfB := b.fleet.Counts("b")
	same(t, "blocks and strikes", []int{onA, strikesOfA, onB, strikesOfB}, []int{2, 0, 2, 1})
	same(t, "halts among them", b.haltsPerHost(), map[string]int{"b": 1})
	found := b.blockedAfter(pair{"a", hashes[0]}, pairs{}, 10, always)
	slices.SortFunc(found, pair.compare)
	same(t, "those after the first", len(found), 2)
	same(t, "first", found[0] == pair{"a", hashes[1]}, true)
	for range 8 { // the order of a map is another one each time
		same(t, "the first alone", b.blockedAfter(pair{}, pairs{}, 1, always)[0] == pair{"a", hashes[0]}, true)
	}
	same(t, "of a hash and host", b.blockedAfter(pair{}, pairs{host: "b", hash: one[:8]}, 10, always) == nil, false)
	same(t, "of another host", len(b.blockedAfter(pair{}, pairs{host: "c"}, 10, always)), 0)
	same(t, "blocks in force", len(b.of([]pair{{"a", one}, {"c", one}})), 1)
}

func TestAHaltIsNoBlockThatStands(t *testing.T) {
	t.Parallel()
	f, o := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
	b, p := blockScene(f, newPeers("me")), pair{"a", o.job.Graph.Hash()}
	ended := &queue.EndedJob{Tenant: "acme", Hash: p.hash, Kind: failure.ExecutionError}
	counts := func() []any {
		return []any{b.blocked(p), b.count(), len(b.haltsPerHost()), len(b.blockedAfter(pair{}, pairs{}, 9, always))}
	}
	b.halt("a", ended, noonUTC)
	same(t, "halted", counts(), []any{false, 0, 1, 0})
	b.remove(p, noonUTC) // a block before it has ended
	same(t, "removed", counts(), []any{false, 0, 0, 0})
	b.halt("a", ended, noonUTC)
	b.put(blockFor("a", p.hash, failure.ExecutionError), noonUTC)
	same(t, "blocked meanwhile", counts(), []any{true, 1, 0, 1})
	b.remove(p, noonUTC)
	b.halt("a", ended, noonUTC)
	b.changes.jobs = false
	b.alarms.ring(noonUTC.Add(time.Second))
	same(t, "when it is over", []any{counts(), b.changes.jobs}, []any{[]any{false, 0, 0, 0}, true})
}

// A job that needs less memory may still go where a large one had too little.
func TestAHaltForLackOfMemoryIsForJobsAsLarge(t *testing.T) {
	t.Parallel()
	for kind, want := range map[failure.Kind]string{failure.OutOfMemory: "a", failure.Timeout: ""} {
		f, small := fleetOf(t, "a"), ownedJob(t, "acme", 1, 1)
		b := blockScene(f, newPeers("me"))
		ended := &queue.EndedJob{Tenant: "acme", Hash: small.job.Graph.Hash(), Kind: kind, Size: 100 * small.job.Graph.Size()}
		b.halt("a", ended, noonUTC)
		same(t, "a small job after "+string(kind), chosen(f, small, noonUTC), want)
		b.endHalt(pair{"a", ended.Hash})
		ended.Size = small.job.Graph.Size()
		b.halt("a", ended, noonUTC)
		same(t, "one as large after "+string(kind), chosen(f, small, noonUTC), "")
	}
}

// What may find a host now, and why others wait, is looked at when a block or strikes have changed.
func TestWhatIsLookedAtWhenBlocksAndStrikesChange(t *testing.T) {
	t.Parallel()
	home, away, hash := nameAtHome("gpu-%d"), nameAwayFromHome("gpu-%d"), hashOfGraph(t, 1)
	b := blockScene(fleetOf(t, home, away), peersOf("other"))
	marked := func(change func()) []bool {
		b.changes.jobs, b.changes.reasons = false, false
		change()
		return []bool{b.changes.jobs, b.changes.reasons}
	}
	for _, name := range []string{home, away} {
		p := pair{name, hash}
		same(t, "a block", marked(func() { b.put(blockFor(name, hash, failure.ExecutionError), noonUTC) }), []bool{false, true})
		same(t, "its end", marked(func() { b.remove(p, noonUTC) }), []bool{true, true})
		b.put(blockFor(name, hash, failure.ExecutionError), noonUTC)
		same(t, "strikes", marked(func() { b.putStrikes(p, &route.Strikes{Level: 1}) }), []bool{true, false})
		same(t, "the end of a block with strikes", marked(func() { b.remove(p, noonUTC) }), []bool{name == home, true})
		same(t, "the end of strikes", marked(func() { b.removeStrikes(p) }), []bool{true, false})
	}
}

func TestAListOfBlocksThatIsGivenUpHasAPart(t *testing.T) {
	t.Parallel()
	b := blockScene(fleetOf(t, "a"), newPeers("me"))
	for n := range 9 {
		b.put(blockFor("a", hashOfGraph(t, n), failure.Incapable), noonUTC)
	}
	steps := 0
	pause := func() bool { steps++; return steps < 3 }
	same(t, "blocks", len(b.blockedAfter(pair{}, pairs{}, 100, pause)) < 9, true)
	steps = 0
	same(t, "of what a host lacked", len(b.incapableBefore("a", noonUTC.Add(1), pause)), 0)
	keys := 0
	for range b.blockKeys(always) {
		if keys++; keys == 4 {
			break
		}
	}
	same(t, "keys", keys, 4)
	for k, p := range []pair{{"a", hashOfGraph(t, 1)}, {"b", hashOfGraph(t, 1)}} {
		b.putStrikes(p, &route.Strikes{Level: 1})
		same(t, "struck, without a block", len(b.struckAfter(pair{}, pairs{}, 100, always)), k)
	}
	b.putStrikes(pair{"c", hashOfGraph(t, 1)}, &route.Strikes{Level: 1})
	keys = 0
	for range b.strikeKeys(always) {
		keys++
		break
	}
	same(t, "keys of strikes", keys, 1)
}
