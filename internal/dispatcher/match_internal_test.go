package dispatcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// One turn looks at so many workflows only. The job that can run is found in a later one, whoever has asked.
func TestAFreeSlotIsSearchedForInAsManyTurnsAsThatTakes(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(s *loopScene){
		"a job has come":       func(s *loopScene) { s.changes.jobs = true },
		"a slot has come free": func(s *loopScene) { s.changes.host("a") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopScene(t, Config{})
			many := 5 * s.room.Slice
			for n := range many {
				o := ownedJob(t, "acme", uint64(n+1), n)
				s.await(o)
				if n < many-1 {
					s.blocks.put(&route.Block{
						Host: "a", Hash: o.job.Graph.Hash(), Tenants: []route.Tenant{route.Everyone}, Until: noonUTC.Add(time.Hour),
					}, noonUTC)
				}
			}
			s.match(noonUTC)
			s.hear(1, "a")
			clear(s.changes.hosts)
			s.changes.jobs = false
			mark(s)
			turns := 0
			for ; s.changes.unmatched() && turns < many; turns++ {
				s.match(noonUTC)
			}
			_, claimed := s.tickets.beingClaimed(uint64(many))
			same(t, "claimed, and nothing left to do", []any{claimed, s.walks, s.changes.unmatched()}, []any{true, 1, false})
		})
	}
}

// The rest stays marked.
func TestATurnThatHasTakenLongGivesOneSlotAtATime(t *testing.T) {
	t.Parallel()
	hosts := []string{"a", "b", "c"}
	for name, mark := range map[string]func(s *loopScene){
		"jobs": func(s *loopScene) { s.changes.jobs = true },
		"slots": func(s *loopScene) {
			for _, host := range hosts {
				s.changes.host(host)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoopScene(t, Config{})
			for n := range hosts {
				s.await(ownedJob(t, "acme", uint64(n+1), 1))
			}
			s.hear(1, hosts...)
			clear(s.changes.hosts)
			s.changes.jobs = false
			mark(s)
			s.hurry(true)
			for turns := 0; s.walks < len(hosts) && turns < 2*len(hosts); turns++ { // a turn may only find that a host is full
				before := s.walks
				same(t, fmt.Sprint("marked before turn ", turns), s.changes.unmatched(), true)
				if s.match(noonUTC); s.walks > before+1 {
					t.Errorf("%d slots were given in turn %d", s.walks-before, turns)
				}
			}
			same(t, "given", s.walks, len(hosts))
			s.hurry(false)
			s.match(noonUTC)
			same(t, "marked at last", s.changes.unmatched(), false)
		})
	}
}

func TestAFreeHostIsGivenAsManyJobsAsItTakesInATurn(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	for n := range uint64(4) {
		s.await(ownedJob(t, "acme", n+1, 1))
	}
	s.hear(1, "b")
	state := onlineHost("a", 1, 2)
	s.hosts.report(&state, noonUTC)
	s.changes.jobs = false
	s.match(noonUTC)
	same(t, "given to a with two slots and b with one", []any{s.walks, s.changes.unmatched(), s.free()}, []any{3, false, 0})
}

func TestATicketThatWasNotClaimedWaitsAgainAfterAMoment(t *testing.T) {
	t.Parallel()
	s := newLoopScene(t, Config{})
	ticket := s.await(ownedJob(t, "acme", 1, 1))
	s.hear(1, "a")
	s.step(noonUTC)
	same(t, "being claimed", []any{s.room.Len(), s.free()}, []any{0, 0})
	s.claimLost(claim{ticket: ticket, host: "a"})
	s.told(noonUTC)
	same(t, "the slot is free again", []any{s.free(), s.changes.hosts["a"]}, []any{1, true})
	s.alarms.ring(noonUTC.Add(time.Second - 1))
	same(t, "before", s.room.Len(), 0)
	s.alarms.ring(noonUTC.Add(time.Second))
	same(t, "after a second", s.room.Len(), 1)

	s.step(noonUTC.Add(time.Second))
	s.claimWon(claim{ticket: ticket, host: "a"})
	s.told(noonUTC.Add(time.Second))
	_, still := s.tickets.beingClaimed(1)
	same(t, "when it was claimed", []any{still, s.room.Len()}, []any{false, 0})
}

// The second dispatcher of a job may end it two seconds after its home, the third one after four.
func TestAnExpiredJobIsEndedByItsHomeFirst(t *testing.T) {
	t.Parallel()
	for rank := range 3 {
		turn := time.Minute + time.Duration(rank)*2*time.Second
		for after, want := range map[time.Duration]int{turn - 1: 0, turn: 1} {
			s := newLoopScene(t, Config{})
			for _, name := range []string{"other", "third"} {
				s.peers.put(name, noonUTC)
			}
			sequence := uint64(1)
			for s.peers.rank(route.JobID(fmt.Sprint("acme-", sequence))) != rank {
				sequence++
			}
			s.await(ownedJob(t, "acme", sequence, 1, func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Minute) }))
			s.endExpired(noonUTC.Add(after))
			_, claimed := s.tickets.beingClaimed(sequence)
			same(t, fmt.Sprint("rank ", rank, " after ", after), []any{s.walks, claimed}, []any{want, want == 1})
		}
	}
}
