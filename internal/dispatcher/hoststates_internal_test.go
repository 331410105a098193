package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// awayScene is a host at home elsewhere that is busy with job x, while jobs wait.
func awayScene(edit func(*queue.HostState)) (s *hostScene, name string) {
	s, name = newHostScene(peersOf("other")), nameAwayFromHome("gpu-%d")
	s.jobsStand = true
	busy := running(onlineHost(name, 2, 1), "x")
	edit(&busy)
	s.report(&busy, noonUTC)
	return s, name
}

func (s *hostScene) runningOn(name string) (ids []job.ID) {
	for _, r := range s.state(name).Running {
		ids = append(ids, r.Job)
	}
	return ids
}

// Only a slot that becomes free is left to the host's home for the head start.
func TestWhichStatesOfAHostAtHomeElsewhereCountAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit   func(*queue.HostState)
		atOnce bool
	}{
		"another job":                   {func(s *queue.HostState) { *s = running(*s, "y") }, true},
		"no job":                        {func(s *queue.HostState) { s.Running = nil }, false},
		"no job, but it drains":         {func(s *queue.HostState) { s.Running, s.State = nil, queue.Draining }, true},
		"no job, but one of a stranger": {func(s *queue.HostState) { s.Running, s.Foreign = nil, 1 }, true},
		"one place more behind its job": {func(s *queue.HostState) { s.Prefetch = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, host := awayScene(func(*queue.HostState) {})
			next := running(onlineHost(host, 3, 1), "x")
			c.edit(&next)
			s.report(&next, noonUTC)
			same(t, "taken in at once", s.state(host).Serial == 3, c.atOnce)
			s.alarms.ring(noonUTC.Add(time.Second))
			same(t, "taken in later", s.state(host).Serial, uint64(3))
		})
	}
}

func TestAHeldStateIsNotOvertakenByAnOlderOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, name := awayScene(func(s *queue.HostState) { s.Serial = 1 })
		old, free := running(onlineHost(name, 2, 1), "x", "y"), onlineHost(name, 3, 1)
		s.report(&free, noonUTC)
		s.report(&old, noonUTC)
		s.presence(&old, time.Time{}, noonUTC)
		same(t, "before the head start", s.free(), 0)
		s.alarms.ring(noonUTC.Add(time.Second))
		same(t, "after it", []any{s.free(), s.state(name).Serial}, []any{1, uint64(3)})
	})
}

func TestAHeldStateOfAHostThatIsGoneCountsNoMore(t *testing.T) {
	t.Parallel()
	s, name := awayScene(func(*queue.HostState) {})
	free, again := onlineHost(name, 3, 1), running(onlineHost(name, 4, 1), "y")
	s.report(&free, noonUTC)
	s.drop(name)
	s.alarms.ring(noonUTC.Add(time.Second))
	same(t, "free", s.free(), 0)
	s.report(&again, noonUTC)
	s.alarms.ring(noonUTC.Add(time.Minute))
	same(t, "when it is back", []any{s.free(), s.runningOn(name)}, []any{0, []job.ID{"y"}})
}

func TestEachEndThatAnAgentTellsIsTakenInOnce(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	tell := func(instance string, serial uint64, id job.ID) {
		state := onlineHost("a", serial, 1)
		if state.Instance = instance; instance == "restarted" {
			state.Time = state.Time.Add(time.Hour)
		}
		if id != "" {
			state.Ended = &queue.EndedJob{Tenant: "acme", Job: id}
		}
		s.report(&state, noonUTC)
	}
	tell("i", 1, "")
	tell("i", 4, "one")
	tell("i", 9, "")
	tell("i", 8, "two") // overtaken, and later than the end before
	tell("i", 8, "two")
	tell("restarted", 2, "three")
	tell("restarted", 5, "")
	tell("restarted", 4, "four")
	tell("restarted", 4, "four")
	tell("i", 10, "five") // of the process before
	same(t, "ended", s.ended, []string{"one on a", "two on a", "three on a", "four on a"})
	s = newHostScene(newPeers("me"))
	tell("i", 1, "")
	tell("i", 9, "one")
	tell("restarted", 5, "")
	tell("restarted", 4, "two") // a smaller number than that of the end before, by another process
	same(t, "ended", s.ended, []string{"one on a", "two on a"})
}

// All that a host says of itself decides which jobs it gets.
func TestWhatAHostSaysOfItselfReachesTheFleet(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	state := onlineHost("a", 1, 2)
	state.Labels, state.Foreign = []string{"gpu=4090"}, 1
	s.report(&state, noonUTC)
	same(t, "free beside a prompt of a stranger", s.free(), 1)
	o := ownedJob(t, "acme", 1, 1, func(spec *job.Spec) { spec.OnlyHosts = []string{"gpu=4090"} })
	same(t, "chosen by its label", chosen(s.fleet, o, noonUTC), "a")
	s.changes.jobs, s.changes.reasons = false, false
	state.Serial, state.Labels = 2, []string{"gpu=3090"}
	s.report(&state, noonUTC)
	same(t, "with another label", []any{chosen(s.fleet, o, noonUTC), s.changes.jobs, s.changes.reasons}, []any{"", true, true})
	s.changes.jobs, s.changes.reasons = false, false
	state.Serial, state.Foreign = 3, 0
	s.report(&state, noonUTC)
	same(t, "when its slots alone have changed", []any{s.changes.jobs, s.changes.reasons, s.changes.hosts["a"]}, []any{false, false, true})
	state.Serial, state.Slots, state.Prefetch = 4, 1, 2
	state = running(state, "x")
	s.report(&state, noonUTC)
	same(t, "free behind the job that it runs", s.free(), 2)
}

// A tenant whose jobs have taken two hosts down gets no third one for now.
func TestAHostThatWentDownCountsAgainstTheTenantOfItsJob(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	for _, name := range []string{"a", "b"} {
		down := onlineHost(name, 1, 1)
		down.State, down.Blame = queue.Unhealthy, &queue.Blame{Tenant: "acme", Job: "x", Hash: hashOfGraph(t, 1)}
		s.report(&down, noonUTC)
	}
	well := onlineHost("c", 1, 1)
	s.report(&well, noonUTC)
	same(t, "acme's", []any{chosen(s.fleet, ownedJob(t, "acme", 1, 2), noonUTC), s.fleet.Hold(wantOf(ownedJob(t, "acme", 1, 2)), noonUTC).Reason}, []any{"", route.HostsDown})
	same(t, "another tenant's", chosen(s.fleet, ownedJob(t, "bolt", 1, 2), noonUTC), "c")
}

func TestAHostThatIsGoneIsListedNoMoreAndJobsAreLookedAtAnew(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	for _, name := range []string{"c", "a", "b"} {
		state := onlineHost(name, 1, 1)
		s.report(&state, noonUTC)
	}
	same(t, "hosts", [][]string{s.hostsAfter("", 2), s.hostsAfter("a", 9), s.hostsAfter("bb", 9), s.hostsAfter("c", 9)}, [][]string{{"a", "b"}, {"b", "c"}, {"c"}, {}})
	s.changes.jobs, s.changes.reasons = false, false
	s.drop("b")
	same(t, "without one", [][]string{s.hostsAfter("", 9), s.hostsAfter("b", 9)}, [][]string{{"a", "c"}, {"c"}})
	same(t, "looked at anew", []bool{s.changes.jobs, s.changes.reasons}, []bool{true, true})
}

func TestARestConcernsAHostThatIsKnown(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	s.restChanged("a", noonUTC)
	same(t, "of one that is not", []any{s.changes.reasons, len(s.changes.hosts)}, []any{false, 0})
	state := onlineHost("a", 1, 1)
	s.report(&state, noonUTC)
	s.changes.reasons = false
	clear(s.changes.hosts)
	s.rests.notBegun("a", true, noonUTC)
	s.restChanged("a", noonUTC)
	same(t, "while it rests", []any{s.free(), s.changes.reasons, s.changes.hosts["a"]}, []any{0, true, true})
	s.restChanged("a", noonUTC.Add(time.Hour))
	same(t, "afterwards", s.free(), 1)
}

func TestWhetherAHostTakesJobsAsUsualAndRunsTheJobOfASlot(t *testing.T) {
	t.Parallel()
	s := newHostScene(newPeers("me"))
	for name, edit := range map[string]func(*queue.HostState){
		"well": func(*queue.HostState) {}, "drains": func(s *queue.HostState) { s.State = queue.Draining }, "tried": func(s *queue.HostState) { s.Trial = true },
	} {
		state := running(onlineHost(name, 1, 1), "x", "z")
		edit(&state)
		s.report(&state, noonUTC)
	}
	for name, want := range map[string]bool{"well": true, "drains": false, "tried": false, "unknown": false} {
		same(t, name, s.isBack(name), want)
	}
	for what, c := range map[string]struct {
		tenant job.Tenant
		slot   queue.Slot
		want   bool
	}{
		"its job":              {"acme", queue.Slot{Host: "well", Job: "x"}, true},
		"another job":          {"acme", queue.Slot{Host: "well", Job: "y"}, false},
		"another tenant's":     {"bolt", queue.Slot{Host: "well", Job: "x"}, false},
		"a host that is gone":  {"acme", queue.Slot{Host: "unknown", Job: "x"}, false},
		"a host that runs two": {"acme", queue.Slot{Host: "drains", Job: "z"}, true},
	} {
		same(t, what, s.runsFor(c.tenant, c.slot), c.want)
	}
}

func TestAHostThatComesHomeGetsWaitingJobsFromHere(t *testing.T) {
	t.Parallel()
	p := peersOf("other")
	s, name := newHostScene(p), nameAwayFromHome("gpu-%d")
	s.fleet.LeaveToHomes(true)
	state := onlineHost(name, 1, 1)
	s.report(&state, noonUTC)
	room := route.NewRoom()
	room.Put(ticketOf(ownedJob(t, "acme", 1, 1), 1))
	given := func() bool {
		_, ok := room.Next(s.fleet, route.HostID(name), noonUTC)
		return ok
	}
	same(t, "before", given(), false)
	p.remove("other")
	s.rehome(noonUTC, always)
	same(t, "at home here", given(), true)
}

// Otherwise all dispatchers of a large fleet would give jobs to a host of which they hear late.
func TestInALargeFleetNoHostIsOpenToOthersThanItsHome(t *testing.T) {
	t.Parallel()
	s, name := newHostScene(peersOf("other")), nameAwayFromHome("gpu-%d")
	state := onlineHost(name, 1, 1)
	s.report(&state, noonUTC)
	s.sources.stage = sharing
	s.openIdle(noonUTC.Add(time.Hour), always)
	same(t, "in a large fleet", s.known[name].open, false)
	s.sources.stage = everything
	s.openIdle(noonUTC.Add(time.Hour), always)
	same(t, "in a small one", []bool{s.known[name].open, s.changes.hosts[route.HostID(name)]}, []bool{true, true})
}
