package dispatcher

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

type needScene struct {
	*requirements
	read   []uint64
	known  []uint64
	moving func(pause func() bool)
}

func newNeedScene() *needScene {
	s := &needScene{}
	s.requirements = newRequirements(requirements{
		fleet: route.NewFleet(), alarms: &alarms{}, log: (&logged{}).logger(),
		read:   func(_ workflow.Hash, sequence uint64) { s.read = append(s.read, sequence) },
		known:  func(t route.Ticket) { s.known = append(s.known, t.Sequence) },
		beside: func(work func(pause func() bool)) { s.moving = work },
	})
	return s
}

func TestOneJobOfAWorkflowIsReadForAllItsTickets(t *testing.T) {
	t.Parallel()
	s := newNeedScene()
	o := ownedJob(t, "acme", 1, 1)
	hash := o.job.Graph.Hash()
	for sequence := range uint64(3) {
		s.keep(ticketOf(ownedJob(t, "acme", sequence+1, 1), 1))
	}
	same(t, "read", s.read, []uint64{1})
	s.forget(hash, 3)
	s.learnt(hash, 1, o.job.Graph.Requirements(), nil, noonUTC)
	s.moving(always)
	same(t, "let wait", []any{len(s.known), s.fleet.Known(hash), len(s.waiting)}, []any{2, true, 0})
	s.learn(o.job)
}

// TestTicketsThatBecomeKnownMoveOneAfterTheOther has the tickets of two workflows move with pauses, in which one of them is claimed and
// another comes.
func TestTicketsThatBecomeKnownMoveOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := newNeedScene()
	one, two := ownedJob(t, "acme", 1, 1), ownedJob(t, "acme", 11, 2)
	hash := one.job.Graph.Hash()
	for sequence := range uint64(4) {
		s.keep(ticketOf(ownedJob(t, "acme", sequence+1, 1), 1))
	}
	s.keep(ticketOf(two, 1))
	s.learnt(hash, 1, one.job.Graph.Requirements(), nil, noonUTC)
	s.learnt(two.job.Graph.Hash(), 11, two.job.Graph.Requirements(), nil, noonUTC)
	same(t, "before", s.known, []uint64(nil))
	var claimed uint64
	s.moving(func() bool {
		if len(s.known) == 2 && claimed == 0 {
			for sequence := range s.waiting[hash] {
				claimed = sequence
			}
			s.forget(hash, claimed)
			s.keep(ticketOf(ownedJob(t, "acme", 5, 1), 1))
		}
		return true
	})
	moved := slices.Sorted(slices.Values(append(s.known, claimed)))
	same(t, "moved or claimed", moved, []uint64{1, 2, 3, 4, 5, 11})
	same(t, "left", []any{len(s.waiting), len(s.toMove)}, []any{0, 0})
}

func TestWhenTheJobIsGoneAnotherOneIsRead(t *testing.T) {
	t.Parallel()
	s := newNeedScene()
	o := ownedJob(t, "acme", 1, 1)
	hash := o.job.Graph.Hash()
	s.keep(ticketOf(o, 1))
	s.keep(ticketOf(ownedJob(t, "acme", 2, 1), 1))
	s.learnt(hash, 1, workflow.Requirements{}, queue.ErrGone, noonUTC)
	same(t, "the ticket of the one that is gone waits", s.known, []uint64{1})
	same(t, "read", s.read, []uint64{1, 2})
	s.learnt(hash, 2, workflow.Requirements{}, errNoJob, noonUTC)
	same(t, "nothing is left to read", []any{s.read, s.known, s.reading}, []any{[]uint64{1, 2}, []uint64{1, 2}, 0})
}

func TestAJobThatCannotBeReadIsReadAgainAfterAPause(t *testing.T) {
	t.Parallel()
	s := newNeedScene()
	o := ownedJob(t, "acme", 1, 1)
	s.keep(ticketOf(o, 1))
	s.learnt(o.job.Graph.Hash(), 1, workflow.Requirements{}, errors.New("away"), noonUTC)
	s.alarms.ring(noonUTC.Add(999 * time.Millisecond))
	same(t, "before", s.read, []uint64{1})
	s.alarms.ring(noonUTC.Add(time.Second))
	same(t, "after", []any{s.read, len(s.known)}, []any{[]uint64{1, 1}, 0})
}

func TestOnlySoManyJobsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	s := newNeedScene()
	for n := range readingMost + 2 {
		s.keep(ticketOf(ownedJob(t, "acme", uint64(n+1), n), 1))
	}
	same(t, "at once", len(s.read), 32)
	s.forget(hashOfGraph(t, readingMost), readingMost+1) // its only ticket went elsewhere
	first := ownedJob(t, "acme", 1, 0)
	s.learnt(first.job.Graph.Hash(), 1, first.job.Graph.Requirements(), nil, noonUTC)
	same(t, "then", s.read[32:], []uint64{34})
}
