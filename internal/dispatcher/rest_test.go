package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// restsFor is how long a stored job is not delivered again.
func (s *scene) restsFor(sequence uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.jobs[sequence].until)
}

// full is a dispatcher whose waiting room has a ticket, and no room for another.
func (s *scene) full(registry *prometheus.Registry) {
	s.t.Helper()
	s.dispatcher(dispatcher.Config{WaitingCap: 1, Park: 10 * time.Minute, Registerer: registry})
	s.submitAs("acme", 0, "first", only("away"))
	s.pass(time.Second)
	s.want("tickets", s.ticketsOf("acme"), []string{"first"})
}

func TestAJobWithoutATicketRestsForTheLongDelayAtLeast(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.full(prometheus.NewRegistry())
		for range 5 {
			rests := s.submitAs("acme", 0, "", only("away"))
			s.pass(0)
			if rest := s.restsFor(rests); rest < 10*time.Minute || rest > 20*time.Minute {
				t.Errorf("it rests for %s, want 10 to 20 min", rest)
			}
		}
	})
}

func TestAJobWithoutATicketRestsUntilItIsDueOrItsTimeIsOver(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.full(prometheus.NewRegistry())
		due := s.submitAs("acme", 0, "due", later(s.Now().Add(time.Minute)))
		ends := s.submitAs("acme", 0, "ends", only("away"), func(spec *job.Spec) { spec.ExpiresIn = job.Duration(2 * time.Minute) })
		soon := s.submitAs("acme", 0, "soon", only("away"), func(spec *job.Spec) { spec.ExpiresIn = job.Duration(300 * time.Millisecond) })
		s.pass(0)
		s.want("one that is due in a minute", s.restsFor(due), time.Minute)
		s.want("one whose time is over in two", s.restsFor(ends), 2*time.Minute)
		s.want("one whose time is nearly over", s.restsFor(soon), time.Second)
	})
}

func TestAJobWhoseRestIsNotHeardIsLeftToItsLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		registry := prometheus.NewRegistry()
		s.full(registry)
		s.submitAs("acme", 0, "rests", only("away"))
		s.pass(time.Second)
		s.want("jobs that rest", exported(t, registry)["jobs_rested_total"], "1; ")
		s.cuts(map[string]error{"park": errCut})
		sequence := s.submitAs("acme", 0, "x", only("away"))
		s.pass(0)
		s.want("leases kept", len(s.done("secure")), 1)
		s.want("rest", s.restsFor(sequence), ackWait)
		s.want("jobs that rest afterwards", exported(t, registry)["jobs_rested_total"], "1; ")
	})
}

// The hand's jobs wait for a moment, and then as all others do.
func TestAJobInHandThatGetsNoTicketRests(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 1, Park: 10 * time.Minute})
		s.host("a", s.accepts("a"))
		s.submitAs("acme", 0, "runs")
		s.pass(10 * time.Second)
		s.submitAs("acme", 0, "waits")
		s.pass(time.Second)
		sequence := s.submitAs("acme", 0, "rests")
		s.pass(time.Second)
		s.want("tickets", s.ticketsOf("acme"), []string{"waits"})
		s.want("it rests", s.restsFor(sequence) > 9*time.Minute, true)
	})
}

func TestAJobThatCannotBeParkedIsLeftToItsLease(t *testing.T) {
	t.Parallel()
	for effect, parked := range map[string]string{"ticket x": "0; ", "park": "1; "} {
		t.Run(strings.Fields(effect)[0], func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				registry := prometheus.NewRegistry()
				s.dispatcher(dispatcher.Config{Registerer: registry})
				s.cuts(map[string]error{effect: errCut})
				sequence := s.submit("x")
				s.pass(0)
				s.want("leases kept", len(s.done("secure")), 1)
				s.want("rest", s.restsFor(sequence), ackWait)
				s.want("tickets", exported(t, registry)["jobs_parked_total"], parked)
			})
		})
	}
}

func TestAReasonWithoutAnEndSaysNoTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable")
		s.want("until", s.lastOf("x").Until == nil, true)
	})
}

func TestAJobOfATenantWhoseHomeIsElsewhereGetsATicketAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		tenant := strings.TrimPrefix(awayFrom("tenant t%d"), "tenant ")
		s.peer("other")
		s.allow(tenant, queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.submitAs(tenant, job.Usual, "x")
		s.pass(0)
		s.want("tickets", s.ticketsOf(job.Tenant(tenant)), []string{"x"})
		s.want("offers", len(s.done("offer")), 0)
	})
}
