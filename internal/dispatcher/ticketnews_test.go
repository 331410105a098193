package dispatcher_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// told is how many changes of tickets the watches have reported.
func (f *largeFleet) watchChanges() (n int64) {
	for _, w := range f.wires {
		n += w.ticketsTold.Load()
	}
	return n
}

// sees is how many tickets each dispatcher believes to wait.
func (f *largeFleet) sees(want int) {
	f.t.Helper()
	for n, d := range f.mains {
		if got := d.Tickets(); !f.wires[n].dead.Load() && got != want {
			f.t.Errorf("d%d sees %d tickets, want %d", n, got, want)
		}
	}
}

// unrelayed stores a waiting job whose ticket no dispatcher has written, so that none relays it.
func (f *largeFleet) unrelayed(id job.ID) {
	f.t.Helper()
	body, err := json.Marshal(job.Spec{ID: id, Workflow: graph(1), OnlyHosts: []string{"none"}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	sequence := f.publishHeld(job.Message{Tenant: "acme", Priority: job.Usual, Body: body})
	f.jobs[sequence].until = time.Now().Add(time.Hour)
	f.mu.Unlock()
	f.goOn(id, job.Queued, func(e *job.Event) { e.Sequence = sequence })
	t := queue.Ticket{
		Priority: job.Usual, Tenant: "acme", Hash: hashOf(f.t, 1), Sequence: sequence, Job: id, Lease: leaseOf(int(sequence), 0),
		OnlyHosts: []string{"none"}, Attempt: 1, Received: f.Now(),
	}
	if _, err := f.PutTicket(context.Background(), &t); err != nil {
		f.t.Fatal(err)
	}
}

func TestInALargeFleetTicketsAreToldByRelays(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(2 * time.Second)
		before := f.watchChanges()
		ids := f.submitted(60)
		f.pass(900 * time.Millisecond)
		f.want("tickets", f.mains[0].Tickets() > 40, true)
		f.sees(f.mains[0].Tickets())
		f.pass(10 * time.Second)
		f.want("completed", f.completed(ids), 60)
		f.want("changes from watches", f.watchChanges()-before, 0)
		f.sees(0)
		for _, w := range f.wires {
			f.want("times that tickets were read", w.ticketReads.Load(), 0)
		}
	})
}

func TestATicketThatNobodyHasToldIsReadWithinThePresenceTTL(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(2 * time.Second)
		f.unrelayed("unrelayed-1")
		f.pass(2 * presenceTTL / 3)
		f.sees(1)
		before := f.watchChanges()
		f.wires[0].deaf.Store(true)
		f.unrelayed("unrelayed-2")
		f.submitted(30)
		f.pass(presenceTTL)
		f.sees(2)
		f.want("changes from watches", f.watchChanges()-before, 0)
	})
}

// A dispatcher dies between the write of a ticket and its relay.
func TestATicketWhoseWriterDiesIsClaimedByOthersWithinThePresenceTTL(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, 20*time.Second, func(f *largeFleet) {
		f.pass(2 * time.Second)
		first := f.submitted(9 + 9) // one runs on each host, and one is behind it
		f.pass(time.Second)
		var died atomic.Bool
		f.mu.Lock()
		f.cut = func(effect string) error {
			if strings.HasPrefix(effect, "ticket late") && !died.Swap(true) {
				return errDiesAfter
			}
			return nil
		}
		f.mu.Unlock()
		f.submit("late")
		f.pass(2 * presenceTTL / 3)
		f.want("a dispatcher has died", died.Load(), true)
		f.sees(9 + 1)
		f.pass(50 * time.Second)
		f.want("completed", f.completed(append(first, "late")), 19)
	})
}

func TestABucketOfTicketsThatIsMadeAgainIsWatchedForAMoment(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(2 * time.Second)
		f.unrelayed("unrelayed-1")
		f.pass(presenceTTL)
		f.sees(1)
		f.mu.Lock()
		b := f.bucket(names.WaitingBucket)
		clear(b.keys)
		b.revision, b.made = 0, f.Now()
		f.mu.Unlock()
		f.unrelayed("unrelayed-2")
		f.unrelayed("unrelayed-3")
		f.pass(presenceTTL)
		f.sees(2)
		before := f.watchChanges()
		f.unrelayed("unrelayed-4")
		f.pass(presenceTTL)
		f.sees(3)
		f.want("changes from watches afterwards", f.watchChanges()-before, 0)
	})
}

func TestADispatcherThatDoesNotTellOfTicketsHasThemWatched(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Second, func(f *largeFleet) {
		f.pass(2 * time.Second)
		before := f.watchChanges()
		f.set(names.DispatchersBucket, "older", []byte(`{"dispatcher":"older","relays":true}`), -1)
		f.pass(2 * time.Second)
		f.unrelayed("unrelayed-1")
		f.pass(10 * time.Millisecond)
		f.sees(1)
		f.want("changes from watches", f.watchChanges()-before, 3)
	})
}
