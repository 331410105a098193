package dispatcher

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// loopScene is a loop that does not run. A test calls what it would call, and has it take in what it was told.
type loopScene struct {
	*loop
	wire  *parkingWire
	walks int // that have begun, and do nothing
}

// parkingWire notes which leases were given back.
type parkingWire struct {
	stillWire
	parked []string
}

func (w *parkingWire) Park(lease queue.Lease, rest time.Duration) error {
	w.parked = append(w.parked, fmt.Sprint(lease, " for ", rest))
	return nil
}

func newLoopScene(t *testing.T, cfg Config) *loopScene {
	t.Helper()
	cfg.Name = "me"
	w := &parkingWire{}
	d, err := newOn(w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &loopScene{loop: d.loop, wire: w}
	s.walk = func(func(context.Context)) { s.walks++ }
	s.peers.put("me", noonUTC)
	close(s.synced)
	s.hurry(false)
	return s
}

// hurry has each turn end at once, or take all the time that it needs.
func (s *loopScene) hurry(yes bool) {
	s.began = time.Now().Add(time.Hour)
	if yes {
		s.began = time.Time{}
	}
}

// told has the loop take in what it was told.
func (s *loopScene) told(now time.Time) {
	for len(s.inbox) > 0 {
		happened := <-s.inbox
		happened(now)
	}
}

// hear has the loop take in hosts that run nothing.
func (s *loopScene) hear(serial uint64, hosts ...string) {
	for _, name := range hosts {
		state := onlineHost(name, serial, 1)
		s.hosts.report(&state, noonUTC)
	}
}

// await has a job wait with a ticket.
func (s *loopScene) await(o *owned) route.Ticket {
	s.needs.learn(o.job)
	ticket := ticketOf(o, o.job.Sequence)
	s.tickets.put(ticket)
	return ticket
}

// free is how many jobs the fleet could take.
func (s *loopScene) free() int {
	vacant, _ := s.fleet.Slots()
	return vacant
}

func TestASlotThatHasJustBecomeFreeGoesToTheJobThatWaitedForIt(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.await(ownedJob(t, "acme", 1, 1))
	s.hear(1, "a")
	spot := s.placeNow(ownedJob(t, "bolt", 2, 1), noonUTC)
	same(t, "the new job", []any{spot.host, spot.hold == nil, spot.position, s.walks}, []any{"", true, 1, 1})
	_, claimed := s.tickets.beingClaimed(1)
	same(t, "the job that waited is claimed", claimed, true)
	s.hear(1, "b")
	spot = s.placeNow(ownedJob(t, "bolt", 3, 1), noonUTC)
	same(t, "another, of a slot that nobody waits for", spot.host, "b")
}

func TestANewJobWaitsWhileATurnHasLeftSlotsToTheNext(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.await(ownedJob(t, "acme", 1, 1))
	s.await(ownedJob(t, "acme", 2, 1))
	s.hear(1, "a", "b", "c")
	s.hurry(true)
	spot := s.placeNow(ownedJob(t, "bolt", 3, 1), noonUTC)
	same(t, "the new job", []any{spot.host, s.walks, s.changes.unmatched()}, []any{"", 1, true})
	s.match(noonUTC)
	same(t, "the next turn", []any{s.walks, s.changes.unmatched()}, []any{2, true})
	s.hurry(false)
	spot = s.placeNow(ownedJob(t, "bolt", 3, 1), noonUTC)
	same(t, "when none is left", []any{spot.host == "", s.changes.unmatched()}, []any{false, false})
}

func TestAJobThatIsNotDueOrIsOverGetsNoHost(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	o := ownedJob(t, "acme", 1, 1, func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Minute) })
	same(t, "when its time is over", s.placeNow(o, noonUTC.Add(time.Minute)).host, "")
	o.notBefore = noonUTC.Add(30 * time.Second)
	spot := s.placeNow(o, noonUTC.Add(30*time.Second-1))
	same(t, "before it is due", []any{spot.host, spot.hold.Reason, spot.hold.Until}, []any{"", route.NotDue, o.notBefore})
	same(t, "when it is", s.placeNow(o, noonUTC.Add(30*time.Second)).host, "a")
}

// A host that has failed a job is tried again after a while, even when no other host can take it.
func TestAJobIsKeptFromTheHostsThatItAvoidsUntilATime(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	o := ownedJob(t, "acme", 1, 1)
	o.avoid, o.avoidUntil = []string{"a"}, noonUTC.Add(time.Minute)
	spot := s.placeNow(o, noonUTC.Add(time.Minute-1))
	same(t, "before", []any{spot.host, spot.hold.Reason, spot.hold.Until}, []any{"", route.NotDue, o.avoidUntil})
	same(t, "after", s.placeNow(o, noonUTC.Add(time.Minute)).host, "a")
}

// Only its tenant's home gives the jobs of a tenant with a cap to hosts.
func TestAJobOfATenantWithItsHomeElsewhereIsLeftToIt(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{MaxRunning: 2})
	s.peers.put("other", noonUTC)
	away := nameAwayFromTenantHome(t)
	s.hear(1, "a")
	spot := s.placeNow(ownedJob(t, away, 1, 1), noonUTC)
	same(t, "away from home", []any{spot.host, spot.hold == nil, spot.elsewhere}, []any{"", true, true})
	s.peers.remove("other")
	s.slots.rehome(always)
	spot = s.placeNow(ownedJob(t, away, 1, 1), noonUTC)
	same(t, "at home", []any{spot.host, spot.elsewhere, spot.most}, []any{"a", false, 2})
}

// The other dispatchers leave a freed slot to the host's home for a while. Until then they need not know that it was taken.
func TestForHowLongAnAgentMayKeepToItselfThatASlotWasTaken(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.peers.put("other", noonUTC)
	home, away := nameAtHome("gpu-%d"), nameAwayFromHome("gpu-%d")
	s.hear(1, home, away)
	quiet := func() []time.Duration {
		return []time.Duration{s.spotOn(route.HostID(home), "acme").quiet, s.spotOn(route.HostID(away), "acme").quiet}
	}
	same(t, "at home, and elsewhere", quiet(), []time.Duration{2 * time.Millisecond, 0})
	for range 100 {
		s.peers.offerTook(time.Second)
	}
	same(t, "when offers take long", quiet(), []time.Duration{50 * time.Millisecond, 0})
}

// In a large fleet others may have taken a slot that is believed to be free.
func TestAnOfferForASlotThatOthersMayHaveTakenSaysSo(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	same(t, "in a small fleet", s.spotOn("a", "acme").free, false)
	s.sources.stage = sharing
	same(t, "in a large one", s.spotOn("a", "acme").free, true)
	for n := range 2 {
		s.fleet.Occupy("a", route.Run{Tenant: "acme", Job: route.JobID(fmt.Sprint("job-", n)), Since: noonUTC})
	}
	same(t, "when the job is one more than the host has slots", s.spotOn("a", "acme").free, false)
}

func TestWhatFollowsFromTheAnswerToAnOffer(t *testing.T) {
	t.Parallel()
	o := ownedJob(t, "acme", 1, 1)
	half := (&stillWire{}).PresenceTTL() / 2
	for name, c := range map[string]struct {
		reply    queue.Reply
		err      error
		kept     bool // the slot is, for half a presence TTL
		promised bool
		state    queue.Availability // of the host afterwards
	}{
		"accepted":                 {reply: queue.Reply{Answer: queue.Accepted}, promised: true, state: queue.Online},
		"busy":                     {reply: queue.Reply{Answer: queue.Busy}, state: queue.Online},
		"unfit":                    {reply: queue.Reply{Answer: queue.Unfit}, state: queue.Unhealthy},
		"unfit, since it drains":   {reply: queue.Reply{Answer: queue.Unfit, State: queue.HostState{State: queue.Draining}}, state: queue.Draining},
		"accepted by another host": {reply: queue.Reply{Answer: queue.Accepted, State: queue.HostState{Host: "b"}}, kept: true, state: queue.Online},
		"no agent":                 {err: queue.ErrNoAgent, state: queue.Unhealthy},
		"no answer":                {err: queue.ErrNoAnswer, kept: true, promised: true, state: queue.Online},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopScene(t, Config{})
			s.hear(1, "a")
			same(t, "placed on", s.placeNow(o, noonUTC).host, "a")
			state := onlineHost("a", 2, 1)
			if c.reply.State.Host == "" {
				state.State = cmp.Or(c.reply.State.State, state.State)
				c.reply.State = state
			}
			s.answered(o, "a", noonUTC.Add(-8*time.Second), c.reply, c.err)
			s.told(noonUTC)
			free := map[bool]int{true: 1}[c.state == queue.Online]
			same(t, "the host", s.hosts.state("a").State, c.state)
			same(t, "promised", len(s.promises.open), map[bool]int{true: 1}[c.promised])
			same(t, "how long offers take", s.peers.roundTrip, 8*time.Second)
			same(t, "looked at again", s.changes.hosts["a"], !c.kept)
			if c.kept {
				same(t, "free", s.free(), 0)
				s.alarms.ring(noonUTC.Add(half - 1))
				same(t, "free before the host must have reported", s.free(), 0)
				s.alarms.ring(noonUTC.Add(half))
			}
			same(t, "free at last", s.free(), free)
		})
	}
}

func TestAJobInHandThatIsDeliveredAgainCountsOnce(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for range 2 {
		s.keep(ownedJob(t, "acme", 1, 1))
	}
	s.told(noonUTC)
	same(t, "in hand, and under way", []any{s.hand.len(), s.pressure.underWay.Load(), s.hand.tenants["acme"]}, []any{1, int64(1), 1})
	same(t, "looked at", s.changes.jobs, true)
}

func TestADispatcherThatStopsGivesBackWhatItWouldKeepAndWritesItsTickets(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{WaitingCap: 1})
	emptied := make(chan []*owned)
	s.keep(ownedJob(t, "acme", 1, 1))
	go func() { emptied <- s.emptyHand() }()
	answer := func() { happened := <-s.inbox; happened(noonUTC) }
	answer()
	answer()
	same(t, "taken out", len(<-emptied), 1)
	s.keep(ownedJob(t, "acme", 2, 1))
	s.told(noonUTC)
	same(t, "given back", s.wire.parked, []string{"lease-2 for 0s"})
	same(t, "in hand, and under way", []any{s.hand.len(), s.pressure.underWay.Load()}, []any{0, int64(0)})
	admitted := make(chan bool)
	for n := range uint64(5) { // more than may wait
		go func() { admitted <- s.admit(ownedJob(t, "acme", 3+n, 1)) }()
		answer()
		same(t, "admitted", <-admitted, true)
	}
	same(t, "being written", s.ticketing.writing["acme"], 5)
	s.await(ownedJob(t, "acme", 9, 1))
	s.hear(1, "a")
	s.step(noonUTC)
	same(t, "walks", s.walks, 0)
}

// It was delivered again: it does not rest any more, and its agent has not kept its promise to begin it.
func TestWhatIsForgottenOfAJobThatIsPlacedAnew(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	o := ownedJob(t, "acme", 1, 1)
	s.ticketing.add(&restingJob{lane: o.lane(), id: o.job.ID, sequence: 1, due: true, until: noonUTC.Add(time.Hour)})
	s.ticketing.called["acme"] = map[uint64]time.Time{1: noonUTC}
	s.promises.accepted(o, "b", noonUTC)
	same(t, "placed on", s.placeNow(o, noonUTC).host, "a")
	same(t, "rests, on its way, and promised", []int{len(s.ticketing.bySequence), len(s.ticketing.called), len(s.promises.open)}, []int{0, 0, 0})
	same(t, "jobs that were given to hosts in the last second", s.pressure.placedLately(noonUTC), 1)
}

func TestAJobThatFindsAFullHandIsParked(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for n := range uint64(handLeast + 1) {
		s.keep(ownedJob(t, "acme", n+1, 1))
		s.told(noonUTC)
	}
	same(t, "in hand, under way, and parked", []any{s.hand.len(), s.pressure.underWay.Load(), s.walks}, []any{handLeast, int64(handLeast), 1})
	s.keep(ownedJob(t, "bolt", 100, 1))
	s.told(noonUTC)
	same(t, "when another tenant's comes", []any{s.hand.len(), s.pressure.underWay.Load(), s.walks}, []any{handLeast, int64(handLeast), 2})
	s.parkLate(noonUTC.Add(handTime))
	same(t, "when they have waited for long", []any{s.hand.len(), s.pressure.underWay.Load(), s.walks}, []any{0, int64(0), handLeast + 2})
}

func TestAJobOfAWorkflowThatTakesHostsDownEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	s.hear(1, "a")
	o := ownedJob(t, "acme", 1, 1)
	s.guilt.putStrikes(pair{"b", o.job.Graph.Hash()}, &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}})
	spot := s.placeNow(o, noonUTC)
	same(t, "end", []any{spot.host, spot.end.reason, spot.end.message}, []any{"", failure.TakesHostsDown, s.guilt.proof(o.tenantHash())})
	same(t, "another tenant's", s.placeNow(ownedJob(t, "bolt", 2, 1), noonUTC).host, "a")
}
