package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// keysUntil collects the keys of tickets until there are so many, or pause returns false.
func (s *ticketScene) keysUntil(most int, pause func() bool) (keys []string) {
	for key := range s.keys(pause) {
		if keys = append(keys, key); len(keys) == most {
			break
		}
	}
	return keys
}

func TestATicketThatIsWrittenAgainIsNotBeingClaimed(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 1, 1)
	s.claim(ticketOf(o, 1))
	s.put(ticketOf(o, 2))
	_, claimed := s.beingClaimed(1)
	same(t, "claimed, and keys", []any{claimed, len(s.keysUntil(9, always))}, []any{false, 1})
}

func TestATicketOfAnUnknownWorkflowIsForgottenWhenItIsGone(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 3, 2)
	s.put(ticketOf(o, 1))
	s.remove(wireTicket(o))
	same(t, "keys", len(s.keysUntil(9, always)), 0)
	s.unknown.learnt(o.job.Graph.Hash(), 3, o.job.Graph.Requirements(), nil, noonUTC)
	same(t, "when its requirements have been read", s.len(), 0)
}

func TestAJobOfAnotherTenantWithTheSameIDIsAnother(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	s.put(ticketOf(ownedJob(t, "acme", 1, 1), 1))
	s.evict(1, "bolt", "acme-1")
	same(t, "replaced", []any{s.replaced, s.len()}, []any{[]string{"acme-1"}, 0})
}

func TestKeysOfTicketsAreThoseOfTheBucketAndEndWhenAsked(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, newPeers("me"))
	for sequence := range uint64(40) {
		s.put(ticketOf(ownedJob(t, "acme", 1+sequence, 1), 1))
	}
	s.hand.add(ownedJob(t, "acme", 50, 1), noonUTC)
	claimed := ownedJob(t, "acme", 51, 1)
	s.put(ticketOf(claimed, 1))
	s.claim(ticketOf(claimed, 1))
	s.put(ticketOf(ownedJob(t, "acme", 52, 2), 1))
	s.put(ticketOf(ownedJob(t, "acme", 53, 3), 1))
	same(t, "without that of a job in hand", len(s.keysUntil(99, always)), 43)
	for most := range 43 {
		same(t, "as many as are asked for", len(s.keysUntil(1+most, always)), 1+most)
	}
	never := func() bool { return false }
	if some := len(s.keysUntil(99, never)); some == 0 || some > 16 {
		t.Errorf("%d keys when it is to end soon, want a part of them", some)
	}
}

func TestOnlyTicketsThatBecomeDueLaterAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, peersOf())
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.AvoidUntil = noonUTC.Add(time.Minute) // of no host
	got := s.inTurn(x, noonUTC.Add(time.Second), noonUTC)
	same(t, "one that is due", []any{len(s.due), got.NotBefore}, []any{0, time.Time{}})
	x.NotBefore = noonUTC
	s.inTurn(x, noonUTC, noonUTC)
	same(t, "one that has become due just now", len(s.due), 0)
}

func TestTicketsThatWaitNoMoreDoNotComeBackWhenDispatchersDo(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newTicketScene(t, p)
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.NotBefore = noonUTC.Add(time.Minute)
	s.put(s.inTurn(x, noonUTC, noonUTC))
	s.room.Remove(1)
	p.put("other", noonUTC)
	s.rehome(noonUTC, always)
	same(t, "in the room", s.room.Len(), 0)
	s.put(s.inTurn(x, noonUTC, noonUTC))
	s.lapse(&x)
	same(t, "one that lapses", []int{s.room.Len(), len(s.due)}, []int{0, 0})
}

func TestTicketsAreNotLookedAtAgainWhenThatIsGivenUp(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newTicketScene(t, p)
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.Job, x.NotBefore = route.JobID(nameAwayFromHome("job-%d")), noonUTC.Add(time.Minute)
	s.put(s.inTurn(x, noonUTC, noonUTC))
	p.put("other", noonUTC)
	s.rehome(noonUTC, func() bool { return false })
	got, _ := s.room.Get(1)
	same(t, "due", got.NotBefore.UTC(), noonUTC.Add(time.Minute))
}

func TestHostsThatATicketNeedNotAvoidAnyMoreAreLeftToNobody(t *testing.T) {
	t.Parallel()
	s := newTicketScene(t, peersOf("other"))
	x := ticketOf(ownedJob(t, "acme", 1, 1), 1)
	x.Job, x.Avoid, x.AvoidUntil = route.JobID(nameAwayFromHome("job-%d")), []string{"a"}, noonUTC
	same(t, "avoided until", s.inTurn(x, noonUTC, noonUTC.Add(time.Millisecond)).AvoidUntil, noonUTC)
}

func TestTheDispatcherThatIsFirstAtATicketIsFoundAgainWhenOthersCome(t *testing.T) {
	t.Parallel()
	p := peersOf()
	s := newTicketScene(t, p)
	for sequence := range uint64(2) {
		x := ticketOf(ownedJob(t, "acme", 1+sequence, 1), 1)
		x.Job = route.JobID(nameAwayFromHome("job-%d"))
		s.put(s.inTurn(x, noonUTC, noonUTC))
	}
	p.put("other", noonUTC)
	s.rehome(noonUTC, always)
	one, _ := s.room.Get(1)
	two, _ := s.room.Get(2)
	same(t, "ranks", []int{one.Rank, two.Rank}, []int{1, 1})
}

// waitingJob is one of which all is set that its turn depends on.
func waitingJob(t *testing.T) *owned {
	t.Helper()
	due := noonUTC.Add(time.Minute)
	o := ownedJob(t, "acme", 7, 1, func(spec *job.Spec) {
		spec.PreferHosts, spec.ExcludeHosts, spec.RunAt, spec.ExpiresIn = []string{"a"}, []string{"c"}, &due, job.Duration(time.Hour)
	})
	o.avoid, o.avoidUntil, o.attempt = []string{"d"}, noonUTC.Add(2*time.Minute), 3
	return o
}

func TestAJobWaitsAlikeInHandAndWithATicket(t *testing.T) {
	t.Parallel()
	o := waitingJob(t)
	graph := o.job.Graph
	want := route.Ticket{
		Sequence: 7, Priority: int(job.Usual), Tenant: "acme", Job: "acme-7", Hash: graph.Hash(), Size: graph.Size(),
		Wishes:     route.Wishes{Prefer: []string{"a"}, Exclude: []string{"c"}, Avoid: []string{"d"}},
		AvoidUntil: noonUTC.Add(2 * time.Minute), Attempt: 3, NotBefore: noonUTC.Add(time.Minute), Expires: o.job.Expires(), Received: noonUTC,
	}
	same(t, "size", want.Size > 0, true)
	same(t, "in hand", handTicket(o), want)
	ticket := (&Dispatcher{}).ticket(o)
	same(t, "with a ticket", routeTicket(&ticket), want)
}
