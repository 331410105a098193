package dispatcher

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// hostScene is hosts with all that they need.
type hostScene struct {
	*hosts
	ended, lost []string
	jobsStand   bool
}

func newHostScene(p *peers) *hostScene {
	s := &hostScene{}
	fleet, log := route.NewFleet(), &logged{}
	a := &alarms{}
	s.hosts = newHosts(hosts{
		fleet: fleet, grants: newGrants(fleet), peers: p, changes: newChanges(), alarms: a, log: log.logger(), ttl: 9 * time.Second,
		rests:    newHostRests(hostRests{first: 5 * time.Second, alarms: a, log: log.logger(), changed: func(string, time.Time) {}}),
		jobsWait: func() bool { return s.jobsStand },
		jobEnded: func(host string, st *queue.HostState, _ time.Time) {
			s.ended = append(s.ended, string(st.Ended.Job)+" on "+host)
		},
		gone: func(host string) { s.lost = append(s.lost, host) },
	})
	r := newRelays(relays{})
	s.relays, s.sources = r, newStateSources(stateSourcesParts{hosts: s.hosts, peers: p, relays: r})
	return s
}

// free is how many jobs the fleet could take.
func (s *hostScene) free() int {
	vacant, _ := s.fleet.Slots()
	return vacant
}

func running(s queue.HostState, ids ...string) queue.HostState {
	s.Running = nil
	for _, id := range ids {
		s.Running = append(s.Running, queue.RunningJob{Tenant: "acme", Job: job.ID(id), Since: noonUTC})
	}
	return s
}

func TestOnlyTheNewestStateOfAHostCounts(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	first := onlineHost("a", 5, 2)
	s.report(&first, noonUTC)
	same(t, "free", s.free(), 2)
	old := running(onlineHost("a", 4, 2), "x", "y")
	s.report(&old, noonUTC)
	same(t, "after an old state", s.free(), 2)
	busy := running(onlineHost("a", 6, 2), "x")
	s.report(&busy, noonUTC)
	same(t, "after a newer one", s.free(), 1)
	other := onlineHost("a", 1, 3) // a restarted agent counts from 1, and is newer when it says so later
	other.Instance = "j"
	s.report(&other, noonUTC)
	same(t, "an agent that began to report earlier", s.free(), 1)
	other.Time = noonUTC.Add(time.Hour)
	s.report(&other, noonUTC)
	same(t, "a restarted agent", s.free(), 3)
}

func TestAnEndThatWasOvertakenByANewerStateCountsOnce(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	newest, ended := onlineHost("a", 7, 2), onlineHost("a", 6, 2)
	ended.Ended = &queue.EndedJob{Tenant: "acme", Job: "x"}
	for _, state := range []queue.HostState{newest, ended, ended} {
		s.report(&state, noonUTC)
	}
	same(t, "ended", s.ended, []string{"x on a"})
	other := onlineHost("a", 5, 2) // of an agent process before
	other.Instance, other.Ended = "before", &queue.EndedJob{Tenant: "acme", Job: "y"}
	s.report(&other, noonUTC)
	same(t, "ended", s.ended, []string{"x on a"})
}

func TestAPresenceOfAnotherAgentCountsWhateverItsClockSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newHostScene(newPeers("me"))
		first, other := onlineHost("a", 5, 2), onlineHost("a", 1, 3)
		other.Instance, other.Time = "j", first.Time.Add(-time.Hour)
		for _, state := range []queue.HostState{first, other} {
			s.presence(&state, time.Time{}, noonUTC)
		}
		same(t, "free", s.free(), 3)
	})
}

func TestABriefStateIsNoneOfAHostThatIsNotKnown(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	brief := onlineHost("a", 1, 1)
	brief.Brief = true
	s.report(&brief, noonUTC)
	same(t, "hosts", s.keys(), []string(nil))
}

func TestASlotOfAHostAtHomeElsewhereIsFreeAfterTheHeadStart(t *testing.T) {
	t.Parallel()
	s := newHostScene(peersOf("other"))
	s.jobsStand = true
	name := nameAwayFromHome("gpu-%d")
	busy, free := running(onlineHost(name, 1, 1), "x"), onlineHost(name, 2, 1)
	s.report(&busy, noonUTC)
	s.report(&free, noonUTC)
	same(t, "at once", s.free(), 0)
	s.alarms.ring(noonUTC.Add(3 * time.Millisecond))
	same(t, "before the head start", s.free(), 0)
	s.alarms.ring(noonUTC.Add(4 * time.Millisecond))
	same(t, "after it", s.free(), 1)
	same(t, "changes", s.changes.hosts[route.HostID(name)], true)
}

func TestAHostThatItsHomeLeavesFreeIsOpenToTheOthersOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for rank, name := range hostsByRank("me", "a", "b", "c", "d") {
		s := newHostScene(peersOf("a", "b", "c", "d"))
		free, busy := onlineHost(name, 1, 1), running(onlineHost(name, 2, 1), "x")
		s.report(&free, noonUTC)
		x := s.known[name]
		s.openIdle(noonUTC.Add(time.Duration(rank)*time.Second-1), always)
		same(t, "before its turn", x.open, false)
		s.openIdle(noonUTC.Add(time.Duration(rank)*time.Second), always)
		same(t, "home, or open", []bool{x.home, x.open}, []bool{rank == 0, rank != 0})
		s.report(&busy, noonUTC.Add(time.Minute))
		same(t, "when it is taken", x.open, false)
		s.openIdle(noonUTC.Add(time.Hour), always)
		same(t, "later", x.open, false)
	}
}

// hostsByRank gives for each rank of a dispatcher among others a host that has it.
func hostsByRank(me string, others ...string) map[int]string {
	p, hosts := peersOf(others...), map[int]string{}
	for n := 0; len(hosts) <= len(others); n++ {
		name := fmt.Sprint(me, "-gpu-", n)
		if rank := p.hostRank(name); hosts[rank] == "" {
			hosts[rank] = name
		}
	}
	return hosts
}

func TestASlotThatWasTakenWithinTheHeadStartStaysTaken(t *testing.T) {
	t.Parallel()
	s := newHostScene(peersOf("other"))
	s.jobsStand = true
	name := nameAwayFromHome("gpu-%d")
	busy, free, again := running(onlineHost(name, 1, 1), "x"), onlineHost(name, 2, 1), running(onlineHost(name, 3, 1), "y")
	s.report(&busy, noonUTC)
	s.report(&free, noonUTC)
	s.report(&again, noonUTC.Add(2*time.Millisecond))
	s.alarms.ring(noonUTC.Add(time.Second))
	same(t, "free", s.free(), 0)
	freed := onlineHost(name, 4, 1)
	s.report(&freed, noonUTC.Add(time.Second))
	later := onlineHost(name, 5, 1)
	s.report(&later, noonUTC.Add(time.Second+3*time.Millisecond)) // the head start begins anew with each state
	s.alarms.ring(noonUTC.Add(time.Second + 4*time.Millisecond))
	same(t, "4 ms after the first", s.free(), 0)
	s.alarms.ring(noonUTC.Add(time.Second + 7*time.Millisecond))
	same(t, "4 ms after the second", s.free(), 1)
}

func TestASlotCountsAtOnceAtHomeAndWhereNothingWaits(t *testing.T) {
	t.Parallel()
	home, away := newHostScene(peersOf("other")), newHostScene(peersOf("other"))
	home.jobsStand = true
	for s, name := range map[*hostScene]string{home: nameAtHome("gpu-%d"), away: nameAwayFromHome("gpu-%d")} {
		busy, free := running(onlineHost(name, 1, 1), "x"), onlineHost(name, 2, 1)
		s.report(&busy, noonUTC)
		s.report(&free, noonUTC)
		same(t, "free", s.free(), 1)
	}
}

func TestAHostCountsWithNoMoreThanItsGrantAllows(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	boast := running(onlineHost("a", 1, 1000), "x")
	s.report(&boast, noonUTC)
	same(t, "without a grant", s.free(), 63)
	s.grants.put("a", queue.HostGrant{Slots: 3, Tenants: []job.Tenant{"bolt"}})
	same(t, "known", s.again("a", noonUTC), true)
	same(t, "with one", s.free(), 3) // what it runs of other tenants does not count
	ended := onlineHost("a", 2, 1000)
	ended.Ended = &queue.EndedJob{Tenant: "acme", Job: "x"}
	s.report(&ended, noonUTC)
	same(t, "ends of other tenants' jobs", len(s.ended), 0)
	ended.Serial, ended.Ended = 3, &queue.EndedJob{Tenant: "bolt", Job: "y"}
	s.report(&ended, noonUTC)
	same(t, "ends of its tenants' jobs", s.ended, []string{"y on a"})
	same(t, "another", s.again("b", noonUTC), false)
}

func TestAHostOnTrialHasOneSlot(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	trial := onlineHost("a", 1, 4)
	trial.Trial, trial.Prefetch = true, 2
	s.report(&trial, noonUTC)
	same(t, "free", s.free(), 1)
	same(t, "takes jobs as usual", s.isBack("a"), false)
}

func TestAHostThatTakesNoOffersGetsNoneUntilItReports(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	state := onlineHost("a", 1, 1)
	s.report(&state, noonUTC)
	same(t, "takes jobs", s.isBack("a"), true)
	s.suspend("a", noonUTC)
	s.suspend("unknown", noonUTC)
	same(t, "free", s.free(), 0)
	state.Serial = 2
	s.changes.jobs = false
	s.report(&state, noonUTC)
	same(t, "after a report", []any{s.free(), s.changes.jobs}, []any{1, true})
}

func TestAHostIsGoneASecondAfterItsPresence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newHostScene(newPeers("me"))
		now, state := time.Now(), onlineHost("a", 1, 1)
		s.presence(&state, now.Add(-4*time.Second), now) // 5 s of 9 are left
		s.expire(now.Add(6*time.Second), always)
		same(t, "gone", len(s.lost), 0)
		s.expire(now.Add(6*time.Second+1), always)
		same(t, "then", s.lost, []string{"a"})
		same(t, "known", s.state("a") == nil, true)
		s.drop("a")
		same(t, "once", len(s.lost), 1)
	})
}

func TestWhatIsLeftOfAPresence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ stored, want time.Duration }{
		"just stored":        {0, 9 * time.Second},
		"stored a while ago": {-2 * time.Second, 7 * time.Second},
		"long over":          {-time.Minute, 0},
		"a clock ahead":      {time.Minute, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, "left", left(noonUTC.Add(c.stored), noonUTC, 9*time.Second), c.want)
		})
	}
	same(t, "of one without a time", left(time.Time{}, noonUTC, 9*time.Second), 9*time.Second)
}

func TestRehomingHasHostsCountAsWhoseTheyAre(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newHostScene(p)
	name := nameAwayFromHome("gpu-%d")
	state := onlineHost(name, 1, 1)
	s.report(&state, noonUTC)
	same(t, "alone", s.isHome(name), true)
	p.put("other", noonUTC)
	s.rehome(noonUTC, always)
	same(t, "beside another", s.isHome(name), false)
	same(t, "of one that is not known", s.isHome("x"), false)
}
