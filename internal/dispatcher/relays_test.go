package dispatcher_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// largeFleet is three dispatchers with nine hosts, for which that is a large fleet: 27 is more than 20.
type largeFleet struct {
	*scene
	mains []*dispatcher.Dispatcher
	wires []*memory
	kill  []func()
}

func inLargeFleet(t *testing.T, takes time.Duration, play func(f *largeFleet)) {
	t.Helper()
	inBubble(t, func(s *scene) {
		f := &largeFleet{scene: s}
		for n := range 9 {
			s.agent(&agent{name: fmt.Sprint("host-", n), outcome: func(*queue.Offer) outcome { return outcome{takes: takes} }})
		}
		for n := range 3 {
			f.kill = append(f.kill, s.dispatcher(dispatcher.Config{Name: fmt.Sprint("d", n), LargeFleet: 20}))
			f.mains, f.wires = append(f.mains, s.main), append(f.wires, s.wire)
		}
		s.pass(6 * time.Second)
		own := 0
		for n, d := range f.mains {
			if got := d.Receives(); !got.Shares || got.Known != 9 || got.Slots != 9 {
				t.Errorf("d%d receives %+v, want all nine hosts by relays", n, got)
			} else {
				own += got.Own
			}
		}
		s.want("hosts at home somewhere", own >= 9, true)
		play(f)
	})
}

// submitted publishes some jobs and gives their ids.
func (f *largeFleet) submitted(n int) []job.ID {
	ids := make([]job.ID, n)
	for i := range ids {
		ids[i] = job.ID(fmt.Sprintf("%d-of-%d", i, n))
		f.submit(ids[i])
	}
	return ids
}

// completed is how many of the jobs have.
func (f *largeFleet) completed(ids []job.ID) int {
	n := 0
	for _, id := range ids {
		f.mu.Lock()
		chain := f.chain("acme", id)
		f.mu.Unlock()
		if len(chain) > 0 && chain[len(chain)-1].EventKind == job.Completed {
			n++
		}
	}
	return n
}

func TestInALargeFleetADispatcherReceivesOnlyItsOwnHostsAndRelays(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(20 * time.Second) // the dispatchers that came late have taken over their hosts
		own := 0
		for _, d := range f.mains {
			own += d.Receives().Own
		}
		f.want("hosts at home", own, 9)
		reports, relays := f.wires[0].reports.Load(), f.wires[0].relayed.Load()
		f.pass(30 * time.Second)
		f.want("states received from all agents", f.wires[0].reports.Load()-reports, 0)
		f.want("relays received", f.wires[0].relayed.Load()-relays > 60, true) // one a second of each, at least
		ids := f.submitted(18)
		f.pass(6 * time.Second)
		f.want("completed", f.completed(ids), 18)
	})
}

func TestADispatcherOfALargeFleetThatDiesIsReplacedWithinThePresenceTTL(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, 3*time.Second, func(f *largeFleet) {
		ids := f.submitted(27)
		f.pass(time.Second)
		f.kill[1]()
		f.pass(presenceTTL + 2*time.Second)
		own := f.mains[0].Receives().Own + f.mains[2].Receives().Own
		f.want("hosts at home with the others", own >= 9, true)
		f.pass(10 * time.Second)
		f.want("completed", f.completed(ids), 27)
		f.want("hosts known", f.mains[0].Receives().Known, 9)
	})
}

func TestRelaysThatWereLostAreMadeUpForWithinThePresenceTTL(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		say := func(serial uint64, running ...queue.RunningJob) {
			for n := range 9 {
				f.broadcast(queue.HostState{
					Host: fmt.Sprint("host-", n), Instance: "i", Serial: serial, State: queue.Online, Slots: 1, Running: running, Time: f.Now(),
				})
			}
			f.pass(time.Second)
		}
		f.pass(20 * time.Second) // the dispatchers that came late have taken over their hosts
		say(50, queue.RunningJob{Tenant: "acme", Job: "x", Priority: job.Usual, Hash: hashOf(f.t, 1), Attempt: 1, Since: f.Now()})
		f.want("free slots", f.mains[0].Receives().Slots, 0)
		f.wires[0].deaf.Store(true)
		say(60)
		f.wires[0].deaf.Store(false)
		f.want("some slots are free that it believes to be taken", f.mains[0].Receives().Slots < 9, true)
		f.pass(presenceTTL)
		f.want("free slots", f.mains[0].Receives().Slots, 9)
	})
}

func TestADispatcherThatCannotRelayMakesTheOthersReceiveEverything(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.peer("old")
		f.pass(2 * time.Second)
		for n, d := range f.mains {
			f.want(fmt.Sprintf("d%d shares", n), d.Receives().Shares, false)
		}
		reports := f.wires[0].reports.Load()
		f.pass(presenceTTL / 3)
		f.want("presences received", f.wires[0].reports.Load()-reports >= 9, true)
	})
}

func TestADispatcherThatLivesAndDoesNotRelayIsNotReliedOn(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.wires[1].mute.Store(true)
		f.pass(presenceTTL*4/3 - 2*time.Second)
		f.want("shares before", f.mains[0].Receives().Shares, true)
		f.pass(4 * time.Second)
		f.want("shares", f.mains[0].Receives().Shares, false)
	})
}

func TestAFleetThatHasShrunkIsSmallBelowHalfTheLimit(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		for n, shares := range []bool{true, true, true, true, true, false} { // 3 × 4 hosts are more than 10, 3 × 3 are not
			f.vanish(fmt.Sprint("host-", n))
			f.pass(2*presenceTTL + 2*time.Second)
			for k, d := range f.mains {
				if got := d.Receives(); got.Known != 8-n || got.Shares != shares {
					t.Errorf("with %d hosts d%d receives %+v", 8-n, k, got)
				}
			}
		}
		f.pass(presenceTTL)
		relays := f.wires[0].relayed.Load()
		f.pass(presenceTTL)
		f.want("relays in a small fleet", f.wires[0].relayed.Load()-relays, 0)
	})
}

func TestAHostWhoseStartWasNotReceivedIsFoundWithinThePresenceTTL(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.agent(&agent{name: "new"})
		f.pass(presenceTTL + 2*time.Second)
		for n, d := range f.mains {
			f.want(fmt.Sprintf("d%d knows the new host", n), d.Knows("new"), true)
		}
	})
}

// runningMost is how many jobs ran at once at most, by their chains.
func (f *largeFleet) runningMost(ids []job.ID) (most int) {
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	f.mu.Lock()
	for _, id := range ids {
		for _, link := range f.chain("acme", id) {
			switch link.EventKind {
			case job.Started:
				changes = append(changes, change{link.Time, 1})
			case job.Completed:
				changes = append(changes, change{link.Time, -1})
			}
		}
	}
	f.mu.Unlock()
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), a.by-b.by) })
	running := 0
	for _, c := range changes {
		running += c.by
		most = max(most, running)
	}
	return most
}

// tenantHome is the number of the dispatcher that gives the tenant's jobs to hosts.
func (f *largeFleet) tenantHome() int {
	return slices.IndexFunc(f.mains, func(d *dispatcher.Dispatcher) bool {
		_, home := d.TenantSlots("acme")
		return home
	})
}

func TestInALargeFleetTheSlotsOfATenantAreReadByItsHomeAlone(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 3})
		f.pass(time.Second)
		told := f.wires[0].slotsTold.Load() + f.wires[1].slotsTold.Load() + f.wires[2].slotsTold.Load()
		ids := f.submitted(12)
		f.pass(500 * time.Millisecond)
		taken, _ := f.mains[f.tenantHome()].TenantSlots("acme")
		f.want("slots that the home knows to be taken", taken, 3)
		f.pass(6 * time.Second)
		f.want("completed", f.completed(ids), 12)
		f.want("at once", f.runningMost(ids), 3)
		f.want("changes that watches have told", f.wires[0].slotsTold.Load()+f.wires[1].slotsTold.Load()+f.wires[2].slotsTold.Load()-told, 0)
	})
}

func TestInALargeFleetTheHomeOfATenantThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 2})
		f.pass(time.Second)
		ids := f.submitted(20)
		f.pass(2500 * time.Millisecond)
		f.kill[f.tenantHome()]()
		before := f.completed(ids)
		f.pass(presenceTTL + 10*time.Second)
		f.want("completed before", before < 8, true)
		f.want("completed", f.completed(ids), 20)
		f.want("at once", f.runningMost(ids), 2)
	})
}

func TestAHostWhoseStartIsReceivedIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(20 * time.Second) // the dispatchers that came late have taken over their hosts
		f.agent(&agent{name: "new"})
		f.mu.Lock()
		for _, tell := range f.starts {
			tell("new")
		}
		f.mu.Unlock()
		f.pass(time.Second)
		for n, d := range f.mains {
			f.want(fmt.Sprintf("d%d knows the new host", n), d.Knows("new"), true)
		}
	})
}
