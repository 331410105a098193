package dispatcher

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// reasonScene reviews tickets of workflows that no host can run: a host is online, and its capability has nothing.
type reasonScene struct {
	*reasons
	written, ended []string
	skipped        map[uint64]bool
	guilty         string
}

func newReasonScene() *reasonScene {
	s := &reasonScene{skipped: map[uint64]bool{}}
	f := route.NewFleet()
	f.PutHost(route.HostState{ID: "a", State: route.Online, Slots: 1})
	f.PutCapability("a", workflow.Capability{})
	s.reasons = newReasons(reasons{
		room: route.NewRoom(), fleet: f, changes: newChanges(), alarms: &alarms{}, capableWait: 5 * time.Minute,
		skip:  func(t *route.Ticket) bool { return s.skipped[t.Sequence] },
		proof: func(which tenantHash) string { return s.guilty },
		write: func(t route.Ticket, hold route.Hold) {
			s.written = append(s.written, fmt.Sprint(t.Sequence, " ", hold.Reason))
		},
		end: func(t route.Ticket, why ending) {
			s.room.Remove(t.Sequence)
			s.ended = append(s.ended, fmt.Sprint(t.Sequence, " ", why.reason))
		},
	})
	return s
}

// wait has a job of a workflow wait.
func (s *reasonScene) wait(t *testing.T, sequence uint64, n int) {
	t.Helper()
	o := ownedJob(t, "acme", sequence, n)
	s.fleet.PutRequirements(o.job.Graph.Hash(), o.job.Graph.Requirements())
	s.room.Put(ticketOf(o, 1))
	s.changes.all()
}

func TestAReasonIsWrittenOnceUntilItIsAnotherOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.wait(t, 1, 1)
		s.look(noonUTC)
		same(t, "written", s.written, []string{"1 none_capable"})
		s.reasons.written(1, route.NoneCapable, noonUTC, nil)
		s.changes.reasons = true
		s.look(noonUTC.Add(199 * time.Millisecond))
		same(t, "within the pause it is not reviewed", s.changes.reasons, true)
		s.look(noonUTC.Add(200 * time.Millisecond))
		same(t, "the same again", []any{len(s.written), s.changes.reasons}, []any{1, false})
		s.fleet.RemoveCapability("a")
		s.fleet.PutBlock(*blockFor("a", hashOfGraph(t, 1), failure.ExecutionError))
		s.changes.reasons = true
		s.look(noonUTC.Add(time.Second))
		same(t, "another one", s.written[1:], []string{"1 all_blocked"})
	})
}

func TestNothingIsReviewedBeforeSomethingHasChanged(t *testing.T) {
	t.Parallel()
	s := newReasonScene()
	s.wait(t, 1, 1)
	s.changes.reasons = false
	s.look(noonUTC)
	same(t, "written", len(s.written), 0)
}

func TestAJobThatNoHostCanRunEndsAfterCapableWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.wait(t, 1, 1)
		s.look(noonUTC)
		s.reasons.written(1, route.NoneCapable, noonUTC, nil)
		for at := time.Second; at <= 5*time.Minute; at += time.Second {
			s.alarms.ring(noonUTC.Add(at))
			s.look(noonUTC.Add(at))
		}
		same(t, "until then", len(s.ended), 0) // hosts have lacked it since the look that followed the written reason
		s.alarms.ring(noonUTC.Add(5*time.Minute + time.Second))
		s.look(noonUTC.Add(5*time.Minute + time.Second))
		same(t, "then", s.ended, []string{"1 no_capable_host"})
		same(t, "reviews go on", s.review.running, false)
	})
}

func TestCapableWaitBeginsAnewWhenACapableHostIsOnlyAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.wait(t, 1, 1)
		s.look(noonUTC)
		s.reasons.written(1, route.NoneCapable, noonUTC, nil)
		s.look(noonUTC.Add(time.Minute))
		lacked := s.given[1].lacked
		same(t, "lacked since", lacked, noonUTC.Add(time.Minute))
		s.fleet.PutHost(route.HostState{ID: "b", State: route.Unhealthy, Slots: 1}) // it may come back, and nothing is known against it
		s.changes.reasons = true
		s.look(noonUTC.Add(2 * time.Minute))
		same(t, "while one is away", s.given[1].lacked.IsZero(), true)
	})
}

func TestAReasonThatCouldNotBeWrittenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.wait(t, 1, 1)
		s.look(noonUTC)
		s.reasons.written(1, route.NoneCapable, time.Time{}, errors.New("away"))
		same(t, "review", s.changes.reasons, true)
		s.look(noonUTC.Add(time.Second))
		same(t, "written", s.written, []string{"1 none_capable", "1 none_capable"})
		s.forget(1)
		s.reasons.written(1, route.NoneCapable, noonUTC, nil)
		same(t, "what is forgotten stays so", len(s.given), 0)
	})
}

func TestTicketsOfOtherDispatchersAndJobsInHandAreLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.wait(t, 1, 1)
		s.wait(t, 2, 1)
		s.skipped[1] = true
		s.look(noonUTC)
		same(t, "written", s.written, []string{"2 none_capable"})
	})
}

func TestAJobOfAGuiltyWorkflowEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		s.guilty = "it takes hosts down"
		s.wait(t, 1, 1)
		s.look(noonUTC)
		same(t, "ended", []any{s.ended, len(s.written)}, []any{[]string{"1 " + string(failure.TakesHostsDown)}, 0})
	})
}

func TestOnlySoManyReasonsAreWrittenAtOnceAndTheOthersFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		for n := range 1100 {
			s.wait(t, uint64(n+1), 1)
		}
		s.look(noonUTC)
		same(t, "at once", []int{len(s.written), len(s.toWrite)}, []int{32, 1024 - 32})
		for len(s.written) < 1024 {
			s.reasons.written(0, "", noonUTC, nil)
		}
		for n := range 40 {
			s.reasons.written(0, "", noonUTC, nil)
			s.alarms.ring(noonUTC.Add(time.Duration(n+1) * time.Second))
			s.look(noonUTC.Add(time.Duration(n+1) * time.Second))
		}
		for s.writing > 0 {
			s.reasons.written(0, "", noonUTC, nil)
		}
		all := slices.Clone(s.written)
		slices.Sort(all)
		same(t, "in the end each once", []int{len(s.written), len(slices.Compact(all))}, []int{1100, 1100})
	})
}

func TestAReasonThatDoesNotHoldAnyMoreIsNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newReasonScene()
		for n := range 33 {
			s.wait(t, uint64(n+1), 1)
		}
		s.look(noonUTC)
		s.forget(s.toWrite[0].ticket.Sequence)
		s.reasons.written(0, "", noonUTC, nil)
		same(t, "written", len(s.written), 32)
	})
}
