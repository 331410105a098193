package dispatcher

import (
	"slices"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

type removedScene struct {
	*removedJobs
	scene  *ticketScene
	counts int
	reads  [][]uint64
}

func newRemovedScene(t *testing.T, p *peers) *removedScene {
	t.Helper()
	s := &removedScene{scene: newTicketScene(t, p)}
	s.removedJobs = &removedJobs{
		room: s.scene.room, fleet: s.scene.fleet, hand: s.scene.hand, peers: p, tickets: s.scene.tickets,
		count: func() { s.counts++ },
		read: func(list []route.Ticket, _ uint64) {
			var sequences []uint64
			for i := range list {
				sequences = append(sequences, list[i].Sequence)
			}
			slices.Sort(sequences)
			s.reads = append(s.reads, sequences)
		},
	}
	return s
}

var acme5 = job.Lane{Tenant: "acme", Priority: job.Usual}

func TestAllTicketsOfALaneThatIsShortAreLookedAt(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, newPeers("me"))
	s.begin()
	same(t, "when nothing waits", s.counts, 0)
	for n := range uint64(3) {
		s.scene.put(ticketOf(ownedJob(t, "acme", n+1, 1), 10))
	}
	s.begin()
	s.begin()
	same(t, "one look at a time", s.counts, 1)
	s.counted(map[job.Lane]uint64{acme5: 2}, 1, noonUTC)
	same(t, "read", s.reads, [][]uint64{{1, 2, 3}})
	same(t, "samples", s.sample, removedSample)
	s.goOn()
	same(t, "then it is over", []any{len(s.reads), s.running}, []any{1, false})
	s.begin()
	s.failed()
	same(t, "when it could not be counted", s.running, false)
}

func TestSomeTicketsOfWholeLanesAreLookedAt(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, newPeers("me"))
	s.scene.put(ticketOf(ownedJob(t, "acme", 1, 1), 10))
	s.begin()
	s.counted(map[job.Lane]uint64{acme5: 1}, 1, noonUTC)
	same(t, "read", []any{s.reads, s.sample}, []any{[][]uint64{{1}}, removedSample - 1})
	x, _ := s.scene.room.Get(1)
	s.sample = 0
	same(t, "no sample is left", s.judge(&x) == ticketFine, true)
}

func TestATicketThatIsOlderThanTheBucketLapsesWhereItIsNotAtHome(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, peersOf("other"))
	away, home := ticketOf(ownedJob(t, "acme", 1, 1), 4), ticketOf(ownedJob(t, "acme", 2, 1), 4)
	away.Job, home.Job = route.JobID(nameAwayFromHome("job-%d")), route.JobID(nameAtHome("job-%d"))
	newer := away
	newer.Sequence, newer.Revision = 3, 5
	for _, x := range []route.Ticket{away, home, newer} {
		s.scene.put(x)
	}
	s.begin()
	s.counted(map[job.Lane]uint64{acme5: 3}, 5, noonUTC)
	same(t, "read at home", s.reads, [][]uint64{{2}})
	_, waits := s.scene.room.Get(1)
	same(t, "waits elsewhere", waits, false)
	_, waits = s.scene.room.Get(3)
	same(t, "a newer one waits", waits, true)
}

func TestAJobInHandIsNotLookedAt(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, newPeers("me"))
	o := ownedJob(t, "acme", 1, 1)
	s.scene.hand.add(o, noonUTC)
	s.short, s.sample = map[job.Lane]bool{acme5: true}, 1
	x, _ := s.scene.room.Get(1)
	same(t, "judged", s.judge(&x) == ticketFine, true)
}

func TestALongRoomIsLookedAtInBatches(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, newPeers("me"))
	for n := range uint64(300) {
		s.scene.put(ticketOf(ownedJob(t, "acme", n+1, 1), 10))
	}
	s.begin()
	s.counted(nil, 1, noonUTC)
	for s.running && len(s.reads) < 100 {
		s.goOn()
	}
	seen := map[uint64]int{}
	for _, batch := range s.reads {
		if len(batch) > removedBatch {
			t.Errorf("%d are read at once", len(batch))
		}
		for _, sequence := range batch {
			seen[sequence]++
		}
	}
	same(t, "tickets", len(seen), 300)
	for sequence, n := range seen {
		if n > 1 {
			t.Errorf("%d is read %d times", sequence, n)
		}
	}
}

func TestOnlyTheHomeOfATicketReadsItsJob(t *testing.T) {
	t.Parallel()
	s := newRemovedScene(t, peersOf("other"))
	away, home := ticketOf(ownedJob(t, "acme", 1, 1), 4), ticketOf(ownedJob(t, "acme", 2, 1), 4)
	away.Job, home.Job = route.JobID(nameAwayFromHome("job-%d")), route.JobID(nameAtHome("job-%d"))
	s.short, s.sample, s.since = map[job.Lane]bool{acme5: true}, 1, 4
	same(t, "of a lane that is short", []doubt{s.judge(&away), s.judge(&home)}, []doubt{ticketFine, ticketDoubtful})
	same(t, "samples after that", s.sample, 1)
	s.short = nil
	same(t, "of a whole lane", []doubt{s.judge(&away), s.judge(&home)}, []doubt{ticketFine, ticketDoubtful})
	same(t, "samples left", s.sample, 0)
	away.Revision, s.since = 0, 5
	same(t, "one whose revision is not known yet", s.judge(&away), ticketFine)
}
