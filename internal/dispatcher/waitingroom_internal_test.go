package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// ticketScene is the waiting room of a dispatcher on a fleet with one host, which knows what workflow 1 needs.
type ticketScene struct {
	*tickets
	left     []uint64
	replaced []string
	reads    []uint64 // sequences of jobs that are read for their requirements
	later    bool     // tickets whose requirements have been read move when moving is called
	moving   func(pause func() bool)
}

func newTicketScene(t *testing.T, p *peers) *ticketScene {
	t.Helper()
	s, room, changes := &ticketScene{}, route.NewRoom(), newChanges()
	fleet := fleetOf(t, "a")
	o := ownedJob(t, "acme", 1, 1)
	needs := newRequirements(requirements{
		fleet: fleet, alarms: &alarms{}, log: (&logged{}).logger(),
		read:  func(_ workflow.Hash, sequence uint64) { s.reads = append(s.reads, sequence) },
		known: func(x route.Ticket) { room.Put(x) },
		beside: func(work func(pause func() bool)) {
			if s.moving = work; !s.later {
				work(always)
			}
		},
	})
	needs.learn(o.job)
	s.tickets = newTickets(tickets{
		room: room, fleet: fleet, hand: newHand(room, newBackpressure()), peers: p, changes: changes, alarms: &alarms{}, unknown: needs,
		capped:   func(tenant route.Tenant) bool { return tenant == "capped" },
		left:     func(sequence uint64) { s.left = append(s.left, sequence) },
		replaced: func(old route.Ticket) { s.replaced = append(s.replaced, string(old.Job)) },
	})
	return s
}

// ticketOf is the ticket of a job at a revision.
func ticketOf(o *owned, revision uint64) route.Ticket {
	t := handTicket(o)
	t.Revision = revision
	return t
}

func wireTicket(o *owned) *queue.Ticket {
	return &queue.Ticket{Priority: o.job.Priority, Tenant: o.job.Tenant, Hash: o.job.Graph.Hash(), Sequence: o.job.Sequence, Job: o.job.ID}
}

func TestATicketWaitsUntilItIsRemovedOrClaimed(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	one, two := ownedJob(t, "acme", 1, 1), ownedJob(t, "acme", 2, 1)
	s.put(ticketOf(one, 1))
	s.put(ticketOf(two, 2))
	same(t, "waiting", []any{s.len(), s.changes.jobs, s.changes.reasons}, []any{2, true, true})
	s.claim(ticketOf(one, 1))
	x, stands := s.beingClaimed(1)
	same(t, "being claimed", []any{s.len(), stands, x.Job}, []any{1, true, route.JobID("acme-1")})
	keys := slices.Collect(s.keys(always))
	slices.Sort(keys)
	same(t, "keys", keys, []string{"5.acme." + string(one.job.Graph.Hash()) + ".1", "5.acme." + string(one.job.Graph.Hash()) + ".2"})
	s.claimed(1)
	_, stands = s.beingClaimed(1)
	same(t, "claimed", stands, false)
	s.remove(wireTicket(two))
	same(t, "removed", []any{s.len(), s.left}, []any{0, []uint64{2}})
	s.claim(ticketOf(one, 1))
	s.remove(wireTicket(one)) // another dispatcher was first
	_, stands = s.beingClaimed(1)
	same(t, "somebody else's", stands, false)
}

func TestATicketOfAnUnknownWorkflowWaitsUntilItsRequirementsAreRead(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 3, 2)
	s.put(ticketOf(o, 1))
	same(t, "meanwhile", []any{s.len(), s.reads, len(slices.Collect(s.keys(always)))}, []any{0, []uint64{3}, 1})
	s.unknown.learnt(o.job.Graph.Hash(), 3, o.job.Graph.Requirements(), nil, noonUTC)
	same(t, "afterwards", []any{s.len(), len(slices.Collect(s.keys(always)))}, []any{1, 1})
}

// TestAnOlderTicketDoesNotComeBack has a ticket be written again and claimed while the older one is on its way to the waiting room.
func TestAnOlderTicketDoesNotComeBack(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 3, 2)
	s.later = true
	s.put(ticketOf(o, 1))
	s.unknown.learnt(o.job.Graph.Hash(), 3, o.job.Graph.Requirements(), nil, noonUTC)
	s.put(ticketOf(o, 2))
	same(t, "written again", s.len(), 1)
	s.claim(ticketOf(o, 2))
	s.moving(always)
	same(t, "while it is claimed", []any{s.len(), len(s.unknown.waiting)}, []any{0, 0})
}

func TestATicketLapsesUnlessANewerOneIsKnownOrItsJobIsInHand(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 1, 1)
	s.put(ticketOf(o, 5))
	old := ticketOf(o, 4)
	s.lapse(&old)
	same(t, "an old one", s.len(), 1)
	same5 := ticketOf(o, 5)
	s.lapse(&same5)
	same(t, "that one", s.len(), 0)
	s.hand.add(o, noonUTC)
	s.lapse(&same5)
	s.remove(wireTicket(o))
	same(t, "in hand", []any{s.room.Len(), s.len()}, []any{1, 0})
}

func TestATicketAtWhoseSequenceAnotherJobIsStoredIsReplaced(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	s.put(ticketOf(ownedJob(t, "acme", 1, 1), 1))
	s.evict(1, "acme", "acme-1")
	same(t, "by itself", len(s.replaced), 0)
	s.put(ticketOf(ownedJob(t, "bolt", 1, 1), 2))
	same(t, "by another", []any{s.replaced, s.left, s.len()}, []any{[]string{"acme-1"}, []uint64{1}, 1})
}

func TestATicketBecomesDueLaterWhereItIsNotAtHome(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newTicketScene(t, p)
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.Job, x.NotBefore = route.JobID(nameAwayFromHome("job-%d")), noonUTC.Add(time.Minute)
	due := func() time.Time {
		got, _ := s.room.Get(1)
		return got.NotBefore.UTC()
	}
	s.put(s.inTurn(x, noonUTC, noonUTC))
	same(t, "alone", due(), noonUTC.Add(time.Minute))
	p.put("other", noonUTC)
	s.rehome(noonUTC, always)
	s.rehome(noonUTC, always)
	same(t, "beside its home", due(), noonUTC.Add(time.Minute+40*time.Millisecond))
	p.remove("other")
	s.rehome(noonUTC, always)
	same(t, "alone again", due(), noonUTC.Add(time.Minute))
	s.rehome(noonUTC.Add(time.Minute), always)
	same(t, "when it is due", len(s.due), 0)
	aside := x
	aside.NotBefore, aside.Avoid, aside.AvoidUntil = time.Time{}, []string{"a"}, noonUTC.Add(time.Minute)
	p.put("other", noonUTC)
	got := s.inTurn(aside, noonUTC, noonUTC.Add(time.Millisecond))
	same(t, "one that was just stored", got.NotBefore, noonUTC.Add(40*time.Millisecond))
	same(t, "one with hosts to avoid", got.AvoidUntil, noonUTC.Add(time.Minute+40*time.Millisecond))
	same(t, "one that was stored long ago", s.inTurn(aside, noonUTC, noonUTC.Add(time.Second)).NotBefore, time.Time{})
	p.remove("other")
	same(t, "a ticket that is due", s.inTurn(x, noonUTC, noonUTC.Add(time.Minute)).NotBefore, noonUTC.Add(time.Minute))
}

// The home of a tenant with a cap gives its jobs to hosts, and no other dispatcher does, so nothing is left to anybody.
func TestATicketOfATenantWithACapIsDueForEverybodyAtOnce(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, peersOf("other"))
	x := ticketOf(ownedJob(t, "capped", 1, 1), 1)
	x.Job, x.NotBefore = route.JobID(nameAwayFromHome("job-%d")), noonUTC.Add(time.Minute)
	same(t, "due", s.inTurn(x, noonUTC, noonUTC).NotBefore, noonUTC.Add(time.Minute))
}

func TestHostsThatATicketAvoidsAreLeftToItsHomeFirst(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newTicketScene(t, p)
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.Job, x.Avoid, x.AvoidUntil = route.JobID(nameAwayFromHome("job-%d")), []string{"a"}, noonUTC.Add(time.Minute)
	until := func() time.Time {
		got, _ := s.room.Get(1)
		return got.AvoidUntil.UTC()
	}
	s.put(s.inTurn(x, noonUTC, noonUTC))
	for range 2 {
		p.put("other", noonUTC)
		s.rehome(noonUTC, always)
		same(t, "beside its home", until(), noonUTC.Add(time.Minute+40*time.Millisecond))
		p.remove("other")
		s.rehome(noonUTC, always)
		same(t, "alone", until(), noonUTC.Add(time.Minute))
	}
	s.room.Remove(1)
	s.rehome(noonUTC, always)
	_, waits := s.room.Get(1)
	same(t, "one that waits no more", []any{waits, len(s.due)}, []any{false, 0})
}
