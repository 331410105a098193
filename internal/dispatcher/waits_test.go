package dispatcher_test

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// encoded is a value as it is stored.
func encoded(t *testing.T, v any) []byte {
	t.Helper()
	value, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestABlockedJobSaysUntilWhenAndItsTicketHasNoTimesThatItLacks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		until := s.Now().Add(10 * time.Minute).Truncate(time.Second)
		s.set(names.BlocksBucket, pairOf("a", hashOf(t, 1)), encoded(t, &route.Block{
			Host: "a", Hash: hashOf(t, 1), Kind: failure.Timeout, Tenants: []route.Tenant{route.Everyone}, Until: until,
		}), -1)
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:all_blocked")
		if e := s.lastOf("x"); e.Until == nil || !e.Until.Equal(until) {
			t.Errorf("it waits until %v, want %v", e.Until, until)
		}
		for _, ticket := range s.tickets() {
			if ticket.NotBefore != nil || ticket.AvoidUntil != nil || ticket.Expires != nil {
				t.Errorf("the ticket is %+v", ticket)
			}
		}
		s.want("tickets", len(s.tickets()), 1)
	})
}

// Each retry writes a ticket, which counts as being written only until it stands.
func TestAJobThatIsRetriedOftenGetsATicketEachTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 2})
		var runs atomic.Int64
		s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome {
			runs.Add(1)
			return outcome{kind: failure.Transient, message: "not now"}
		}})
		s.submit("x", func(spec *job.Spec) { spec.RetryDelay, spec.MaxAttempts = job.Duration(20*time.Second), 5 })
		for n := range int64(3) {
			s.await(func() bool { return runs.Load() > n })
			s.pass(time.Second)
			s.want("tickets", len(s.tickets()), 1)
		}
	})
}

func TestAnExpiredJobIsEndedByAnotherWhenItsHomeStandsStill(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other")
		s.dispatcher(dispatcher.Config{})
		id := job.ID(awayFrom("job-%d"))
		s.submit(id, func(spec *job.Spec) { spec.ExpiresIn = job.Duration(10 * time.Second) })
		s.pass(11500 * time.Millisecond)
		s.want("chain while its home may", s.story(id), "queued waiting:none_capable")
		s.pass(5 * time.Second) // an expired job is listed anew every 5 s
		s.want("chain", s.story(id), "queued waiting:none_capable dead:expired")
		s.want("tickets", len(s.tickets()), 0)
	})
}

// The slot of a tenant is taken by a job of a dispatcher that is gone.
func TestASlotIsFreeWhenTheChainOfItsJobSaysSo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		chain []job.EventKind
		free  time.Duration // when; 0: never
	}{
		"Offered":   {[]job.EventKind{job.Queued}, presenceTTL},
		"Unknown":   {nil, presenceTTL},
		"Runs":      {[]job.EventKind{job.Queued, job.Started}, 0},
		"Failed":    {[]job.EventKind{job.Queued, job.Started, job.Failed}, time.Millisecond},
		"Completed": {[]job.EventKind{job.Queued, job.Started, job.Completed}, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
				for _, kind := range tc.chain {
					s.goOn("other", kind)
				}
				s.set(names.SlotsBucket, "acme", encoded(t, []queue.Slot{{Job: "other", Host: "far", By: "gone", Time: s.Now()}}), -1)
				s.dispatcher(dispatcher.Config{})
				s.host("a", s.accepts("a"))
				s.submit("x")
				if tc.free > time.Second {
					s.pass(tc.free - time.Second)
					s.want("offers before", len(s.done("offer")), 0)
				}
				s.pass(tc.free + 5*time.Second) // slots are looked at once a second, after 3 s
				want := []string{"offer x to a"}
				if tc.free == 0 {
					s.pass(time.Minute)
					want = nil
				}
				s.want("offers", s.done("offer x"), want)
			})
		})
	}
}
