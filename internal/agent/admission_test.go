package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// fixed is a clock that stands, and this machine's is ahead of it.
type fixed struct{ ahead time.Duration }

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func (fixed) Now() time.Time            { return noon }
func (f fixed) ClockOff() time.Duration { return f.ahead }

// offered is an offer of a job's attempt.
func offered(id string, attempt int) queue.Offer {
	return queue.Offer{
		Job: job.ID(id), Attempt: attempt, Hash: workflow.Hash("hash of " + id), Lease: queue.Lease(fmt.Sprint("lease of ", id, attempt)), AckWait: 30 * time.Second,
		Message: job.Message{Tenant: "acme", Priority: 5, Received: noon},
	}
}

func resumed(o queue.Offer) queue.Offer { o.Resume = true; return o }

// admitted is a host that is well, with one slot and one place beyond it.
func admitted() *agent.Admission {
	a := agent.NewAdmission(queue.HostState{Host: "gpu", Instance: "i", Slots: 1, Prefetch: 1}, fixed{})
	a.Well(failure.Down)
	return a
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestAnOfferIsRefusedWithTheReasonThatStandsFirst(t *testing.T) {
	t.Parallel()
	const all = "all slots are taken"
	type answer struct {
		Answer queue.Answer
		Reason string
		Fresh  bool
	}
	accepted := answer{queue.Accepted, "", true}
	for name, c := range map[string]struct {
		before func(*agent.Admission)
		offer  queue.Offer
		want   answer
	}{
		"Free":         {func(*agent.Admission) {}, offered("one", 1), accepted},
		"OnePlaceLeft": {func(a *agent.Admission) { a.Decide(offered("one", 1)) }, offered("two", 1), accepted},
		"NoPlaceLeft": {func(a *agent.Admission) { a.Decide(offered("one", 1)); a.Decide(offered("two", 1)) },
			offered("three", 1), answer{queue.Busy, all, false}},
		"AForeignPromptHasOnePlace":    {func(a *agent.Admission) { a.Set(false, false, false, 1) }, offered("one", 1), accepted},
		"ForeignPromptsHaveBothPlaces": {func(a *agent.Admission) { a.Set(false, false, false, 2) }, offered("one", 1), answer{queue.Busy, all, false}},
		"ResumedNeedsNoPlace":          {func(a *agent.Admission) { a.Set(false, false, false, 2) }, resumed(offered("one", 1)), accepted},
		"TheSameAttempt":               {func(a *agent.Admission) { a.Decide(offered("one", 1)) }, offered("one", 1), answer{queue.Accepted, "", false}},
		"AnotherAttempt": {func(a *agent.Admission) { a.Decide(offered("one", 1)) }, offered("one", 2),
			answer{queue.Busy, "another attempt of this job still runs here", false}},
		"AnotherAttemptWithoutASlot": {func(a *agent.Admission) { a.Decide(offered("one", 1)); a.Free(0) }, offered("one", 2),
			answer{queue.Busy, "another attempt of this job still runs here", false}},
		"AfterTheOtherAttempt":  {func(a *agent.Admission) { a.Decide(offered("one", 1)); a.Free(0); a.Remove(0) }, offered("one", 2), accepted},
		"Stopping":              {func(a *agent.Admission) { a.Set(true, true, true, 9) }, offered("one", 1), answer{queue.Drain, "the agent is shutting down", false}},
		"StoppingTakesNoResume": {func(a *agent.Admission) { a.Set(true, false, false, 0) }, resumed(offered("one", 1)), answer{queue.Drain, "the agent is shutting down", false}},
		"Drained":               {func(a *agent.Admission) { a.Set(false, true, true, 9) }, offered("one", 1), answer{queue.Drain, "drained by an operator", false}},
		"DrainedTakesAResume":   {func(a *agent.Admission) { a.Set(false, true, true, 9) }, resumed(offered("one", 1)), accepted},
		"Out": {func(a *agent.Admission) { a.Out(failure.DiskFull, "no room", false, nil); a.Set(false, false, true, 9) }, offered("one", 1),
			answer{queue.Unfit, "no room", false}},
		"Reading": {func(a *agent.Admission) { a.Set(false, false, true, 0) }, offered("one", 1),
			answer{queue.Busy, "the host takes no job until the agent has read what ComfyUI can run", false}},
		"OnTrial":         {func(a *agent.Admission) { a.Out(failure.Poisoned, "trial", true, nil) }, offered("one", 1), accepted},
		"OnTrialWithOne":  {func(a *agent.Admission) { a.Decide(offered("one", 1)); a.Out(failure.Poisoned, "trial", true, nil) }, offered("two", 1), answer{queue.Busy, all, false}},
		"OfAnotherTenant": {func(a *agent.Admission) { o := offered("one", 1); o.Message.Tenant = "other"; a.Decide(o) }, offered("one", 2), accepted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := admitted()
			c.before(a)
			got, reason, fresh := a.Decide(c.offer)
			equal(t, "answer", answer{got, reason, fresh}, c.want)
		})
	}
	a := agent.NewAdmission(queue.HostState{Slots: 1}, fixed{})
	if got, reason, _ := a.Decide(offered("one", 1)); got != queue.Unfit || reason != "ComfyUI was not asked yet" {
		t.Errorf("before the first probe it says %s, %s", got, reason)
	}
}

func TestASlotIsFreedOnceAndAReadingBeginsWithTheLast(t *testing.T) {
	t.Parallel()
	a := admitted()
	a.Decide(offered("one", 1))
	a.Decide(offered("two", 1))
	a.Set(false, false, true, 0)
	for _, c := range []struct {
		run        int
		held, read bool
	}{{0, true, false}, {0, false, false}, {1, true, true}, {1, false, true}} {
		if held, read := a.Free(c.run); held != c.held || read != c.read {
			t.Errorf("run %d: held %v, read %v", c.run, held, read)
		}
	}
}

func TestAHostIsEmptyWhenItsLastAttemptHasEnded(t *testing.T) {
	t.Parallel()
	ended := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	a := admitted()
	equal(t, "without any", ended(a.Empty()), true)
	a.Decide(offered("one", 1))
	a.Decide(offered("two", 1))
	empty := a.Empty()
	a.Free(0)
	a.Free(1)
	a.Remove(0)
	equal(t, "with one", ended(empty), false)
	a.Remove(1)
	equal(t, "after the last", ended(empty), true)
	equal(t, "asked again", ended(a.Empty()), true)
}

func TestLeasesAreExtendedByTheShortestAckWait(t *testing.T) {
	t.Parallel()
	a := admitted()
	if held, shortest := a.Leases(); held != nil || shortest != 0 {
		t.Errorf("without a run there are %v, %v", held, shortest)
	}
	for i, wait := range []time.Duration{30 * time.Second, 10 * time.Second, 20 * time.Second} {
		o := resumed(offered(fmt.Sprint(i), 1))
		o.AckWait = wait
		a.Decide(o)
	}
	newer := offered("0", 1)
	newer.Lease = "newer lease"
	a.Decide(newer)
	a.Supersede(1)
	held, shortest := a.Leases()
	equal(t, "leases", held, []queue.Lease{"newer lease", "lease of 21"})
	equal(t, "shortest", shortest, 10*time.Second)
}

func TestTheNewestHashesAreWarm(t *testing.T) {
	t.Parallel()
	a := admitted()
	var earlier queue.HostState
	for i, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "h", "c", "i"} {
		a.Decide(resumed(offered(id, i+1)))
		a.Free(i)
		a.Remove(i)
		if id == "c" && i == 2 {
			earlier = a.State()
		}
	}
	var want []workflow.Hash
	for _, id := range []string{"i", "c", "h", "g", "f", "e", "d", "b"} {
		want = append(want, workflow.Hash("hash of "+id))
	}
	equal(t, "warm", a.State().Recent, want)
	equal(t, "a state from before", earlier.Recent, []workflow.Hash{"hash of c", "hash of b", "hash of a"})
}

func TestAStateSaysWhyAHostTakesNoJob(t *testing.T) {
	t.Parallel()
	blame := &queue.Blame{Tenant: "acme", Job: "one"}
	for name, c := range map[string]struct {
		ahead time.Duration
		edit  func(*agent.Admission) (seen bool)
		want  queue.HostState
		seen  bool
	}{
		"Online":   {0, func(a *agent.Admission) bool { return a.Set(false, false, false, 0) }, queue.HostState{State: queue.Online, Slots: 2, Prefetch: 1}, false},
		"Stopping": {0, func(a *agent.Admission) bool { return a.Set(true, true, false, 0) }, queue.HostState{State: queue.Draining, Reason: "the agent is shutting down", Slots: 2, Prefetch: 1}, true},
		"Drained": {0, func(a *agent.Admission) bool {
			a.Out(failure.Stuck, "x", false, blame)
			return a.Set(false, true, false, 0)
		}, queue.HostState{State: queue.Draining, Reason: "drained by an operator", Slots: 2, Prefetch: 1}, true},
		"Unhealthy": {0, func(a *agent.Admission) bool { return a.Out(failure.Stuck, "x", false, blame) },
			queue.HostState{State: queue.Unhealthy, Reason: "x", Cause: failure.Stuck, Slots: 2, Prefetch: 1, Blame: blame}, true},
		"OtherReason": {0, func(a *agent.Admission) bool {
			a.Out(failure.Stuck, "x", false, nil)
			return a.Out(failure.Stuck, "y", false, nil)
		},
			queue.HostState{State: queue.Unhealthy, Reason: "y", Cause: failure.Stuck, Slots: 2, Prefetch: 1}, true},
		"OnTrial": {0, func(a *agent.Admission) bool { return a.Out(failure.Poisoned, "x", true, blame) },
			queue.HostState{State: queue.Online, Reason: "x", Cause: failure.Poisoned, Trial: true, Slots: 1}, true},
		"Reading":      {0, func(a *agent.Admission) bool { return a.Set(false, false, true, 0) }, queue.HostState{State: queue.Online, Slots: 1}, true},
		"Foreign":      {0, func(a *agent.Admission) bool { return a.Set(false, false, false, 3) }, queue.HostState{State: queue.Online, Slots: 2, Prefetch: 1, Foreign: 3}, true},
		"ClockALittle": {time.Second, func(*agent.Admission) bool { return false }, queue.HostState{State: queue.Online, Slots: 2, Prefetch: 1}, false},
		"ClockAhead":   {time.Second + 1, func(*agent.Admission) bool { return false }, queue.HostState{State: queue.Online, Slots: 2, Prefetch: 1, ClockOff: queue.Offset(time.Second + 1)}, false},
		"ClockBehind":  {-time.Minute, func(*agent.Admission) bool { return false }, queue.HostState{State: queue.Online, Slots: 2, Prefetch: 1, ClockOff: queue.Offset(-time.Minute)}, false},
		"BehindTheDown": {0, func(a *agent.Admission) bool {
			a.Out(failure.Down, "gone", false, nil)
			return a.Out(failure.DiskFull, "full", false, nil)
		}, queue.HostState{State: queue.Unhealthy, Reason: "gone", Cause: failure.Down, Slots: 2, Prefetch: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := agent.NewAdmission(queue.HostState{Host: "gpu", Slots: 2, Prefetch: 1}, fixed{c.ahead})
			a.Well(failure.Down)
			equal(t, "seen by dispatchers", c.edit(a), c.seen)
			c.want.Host, c.want.Serial, c.want.Time, c.want.Running = "gpu", 1, noon, []queue.RunningJob{}
			equal(t, "state", a.State(), c.want)
			equal(t, "next serial", a.State().Serial, uint64(2))
		})
	}
	a := admitted()
	a.Decide(offered("one", 2))
	a.Decide(offered("two", 1))
	a.Free(0)
	equal(t, "running", a.State().Running, []queue.RunningJob{{Tenant: "acme", Job: "two", Priority: 5, Hash: "hash of two", Attempt: 1, Since: noon}})
}

func TestAnOfferForAFreeSlotTakesNoPlaceBeyondTheSlots(t *testing.T) {
	t.Parallel()
	a := admitted()
	first, second := offered("one", 1), offered("two", 1)
	first.FreeSlot, second.FreeSlot = true, true
	if got, _, fresh := a.Decide(first); got != queue.Accepted || !fresh {
		t.Errorf("with a free slot it says %s", got)
	}
	if got, reason, _ := a.Decide(second); got != queue.Busy {
		t.Errorf("without one it says %s, %s", got, reason)
	}
	second.FreeSlot = false
	if got, _, fresh := a.Decide(second); got != queue.Accepted || !fresh {
		t.Errorf("to be held it says %s", got)
	}
}

func TestNothingIsToBeReadWhileNobodyAsksForIt(t *testing.T) {
	t.Parallel()
	a := admitted()
	a.Decide(offered("one", 1))
	if held, read := a.Free(0); !held || read {
		t.Errorf("held %v, read %v", held, read)
	}
}

func TestAHostMayBeEmptyAgain(t *testing.T) {
	t.Parallel()
	a := admitted()
	for i := range 2 {
		a.Decide(offered(fmt.Sprint(i), 1))
		empty := a.Empty()
		a.Free(i)
		a.Remove(i)
		<-empty
	}
}

func TestAnAttemptIsUnknownUntilItIsHere(t *testing.T) {
	t.Parallel()
	a := admitted()
	began := 0
	unknown := func(o queue.Offer) bool { return a.Unknown(o, func() { began++ }) }
	equal(t, "before", []any{unknown(offered("one", 1)), began}, []any{true, 1})
	a.Decide(offered("one", 1))
	equal(t, "it is here", []any{unknown(offered("one", 1)), began}, []any{false, 1})
	equal(t, "another attempt", []any{unknown(offered("one", 2)), began}, []any{true, 2})
	a.Set(true, false, false, 0)
	equal(t, "while the agent stops", []any{unknown(offered("two", 1)), began}, []any{false, 2})
}

func TestTheOldestRunIsTheOneThatIsBlamed(t *testing.T) {
	t.Parallel()
	a := admitted()
	id, blame := a.Oldest()
	equal(t, "without any", []any{id, blame}, []any{job.ID(""), (*queue.Blame)(nil)})
	a.Decide(offered("one", 1))
	a.Decide(offered("two", 1))
	id, blame = a.Oldest()
	equal(t, "of two", []any{id, blame}, []any{job.ID("one"), &queue.Blame{Tenant: "acme", Job: "one", Hash: "hash of one"}})
	a.Free(0)
	all, busy := a.Counts()
	id, _ = a.Oldest()
	equal(t, "after its slot is free", []any{id, all, busy}, []any{job.ID("two"), 2, 1})
}

func TestWhatIsStoredForTheNextAgent(t *testing.T) {
	t.Parallel()
	a := admitted()
	equal(t, "of a healthy host", []any{a.Condition(), a.CanRun(), a.Has(failure.Poisoned)}, []any{queue.HostCondition{}, true, false})
	blame := &queue.Blame{Tenant: "acme", Job: "one"}
	for n := range 10 {
		hash := workflow.Hash(fmt.Sprint("hash-", n))
		if proven := a.FailAlike(hash, "7", blame); proven != (n > 0) {
			t.Errorf("failure %d: proven %t", n, proven)
		}
		a.FailAlike(hash, "7", blame)
		if n == 0 {
			got := a.Condition()
			equal(t, "on trial", []any{got.Trial, a.CanRun(), a.Has(failure.Poisoned)}, []any{true, true, true})
		}
	}
	a.Drain("ann")
	got := a.Condition()
	want := queue.HostCondition{Drained: true, DrainedBy: "ann", Cause: failure.Poisoned, Reason: "alike", Process: "7", Blame: blame}
	for n := range 8 {
		want.Hashes = append(want.Hashes, workflow.Hash(fmt.Sprint("hash-", n)))
	}
	equal(t, "of a drained host that is out", got, want)
	equal(t, "can run", a.CanRun(), false)
}
