package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// failsOnceAt has the nth effect that begins with a word fail.
func (s *scene) failsOnceAt(word string, nth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = func(effect string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !strings.HasPrefix(effect, word) {
			return nil
		}
		if nth--; nth == 0 {
			return errCut
		}
		return nil
	}
}

// A delivery that cannot be walked to its end keeps its lease for one AckWait more, and the next one goes on.
func TestADeliveryThatCannotBeWalkedIsLeftToItsLease(t *testing.T) {
	t.Parallel()
	waits := func(s *scene) { s.begunBefore("x") }
	started := func(host string) func(*scene) {
		return func(s *scene) {
			s.begunBefore("x")
			s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = host, 1 })
		}
	}
	failed := func(s *scene) {
		sequence := s.begunBefore("x")
		s.settles.looked = 99 // nobody but the delivery settles it
		s.failedOn("x", sequence, 1, func(e *job.Event) { e.Kind = failure.Transient })
	}
	fresh := func(s *scene) { s.submit("x") }
	for name, c := range map[string]struct {
		begins func(*scene)
		effect string
		nth    int
		end    string
	}{
		"QueuedOfANewJob":      {fresh, "append queued", 1, "queued started completed"},
		"LastOfAWaitingJob":    {waits, "last x", 1, "queued started completed"},
		"FirstOfAWaitingJob":   {waits, "last x", 2, "queued started completed"},
		"ChainOfAWaitingJob":   {waits, "chain x", 1, "queued started completed"},
		"TicketOfAWaitingJob":  {waits, "look for ticket", 1, "queued started completed"},
		"HostOfAStartedJob":    {started("gone"), "look for host gone", 1, "queued started failed retrying started completed"},
		"FailureOfAStartedJob": {started("gone"), "append failed", 1, "queued started failed retrying started completed"},
		"OfferOfAStartedJob":   {started("a"), "offer x", 1, "queued started failed retrying waiting:not_due started completed"},
		"SettlingOfAFailedJob": {failed, "chain x", 1, "queued started failed retrying waiting:not_due started completed"},
		"ChainOfADeadJob": {func(s *scene) {
			s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(time.Millisecond) })
		}, "chain x", 1, "queued waiting:none_capable dead:expired"},
		"SlotsOfACappedTenant":  {func(s *scene) { s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1}); s.submit("x") }, "look for slots", 1, "queued started completed"},
		"SlotOfACappedTenant":   {func(s *scene) { s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1}); s.submit("x") }, "slots acme", 1, "queued started completed"},
		"TheChainOfOneTooMany":  {func(s *scene) { s.allow("acme", queue.TenantSettings{Weight: 1, MaxBytes: 1}); s.submit("x") }, "last x", 1, "dead:over_quota"},
		"TheLetterOfOneTooMany": {func(s *scene) { s.allow("acme", queue.TenantSettings{Weight: 1, MaxBytes: 1}); s.submit("x") }, "bury x", 1, "dead:over_quota"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				c.begins(s)
				s.runs("a", nil)
				if strings.HasPrefix(name, "ChainOfADead") {
					s.beat(queue.HostState{Host: "a", Instance: "i", Serial: 9, State: queue.Draining, Slots: 1, Time: s.Now()})
				}
				s.failsOnceAt(c.effect, c.nth)
				s.dispatcher(dispatcher.Config{})
				s.pass(5 * time.Minute)
				s.want("chain", s.story("x"), c.end)
				if len(s.done("secure")) == 0 {
					t.Error("the lease was not kept")
				}
				s.want("left", s.left(), 0)
				s.want("tickets", len(s.tickets()), 0)
				s.want("slots", string(s.get(names.SlotsBucket, "acme").Value) == "" || string(s.get(names.SlotsBucket, "acme").Value) == "[]", true)
			})
		})
	}
}
