package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// An id is delivered again although its tenant has too many jobs by now.
func TestAJobThatWasTakenInBeforeIsNotOneTooMany(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxBytes: 1})
		s.begunBefore("x")
		s.host("a", s.accepts("a"))
		s.dispatcher(dispatcher.Config{})
		s.pass(ackWait + time.Second)
		s.want("chain", s.story("x"), "queued started")
	})
}

// What is not known to be one too many is not ended.
func TestAJobOverTheQuotaWhoseChainCannotBeReadIsLeftToItsLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxBytes: 1})
		s.dispatcher(dispatcher.Config{})
		s.cuts(map[string]error{"last x": errCut})
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "")
		s.want("leases kept", len(s.done("secure")), 1)
	})
}

// Each of these jobs has a slot of the host kept for it, and is not offered.
func TestTheSlotOfAJobThatIsNotOfferedGoesToAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings queue.TenantSettings
		cut      string
		story    string
		secured  int
	}{
		"OneTooMany":         {queue.TenantSettings{Weight: 1, MaxBytes: 1}, "no effect", "dead:over_quota", 0},
		"QueuedNotStored":    {queue.TenantSettings{Weight: 1}, "append queued x", "", 1},
		"TenantsSlotsUnread": {queue.TenantSettings{Weight: 1, MaxRunning: 1}, "look for slots acme", "queued", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.allow("acme", c.settings)
				s.dispatcher(dispatcher.Config{})
				s.host("a", s.accepts("a"))
				s.pass(time.Second)
				s.cuts(map[string]error{c.cut: errCut})
				s.submit("x")
				s.submitAs("bolt", job.Usual, "y")
				s.pass(time.Second)
				s.want("offers", s.done("offer"), []string{"offer y to a"})
				s.want("chain", s.story("x"), c.story)
				s.want("leases kept", len(s.done("secure")), c.secured)
				s.want("tickets", len(s.done("ticket")), 0)
			})
		})
	}
}

func TestAJobSaysHowOftenItIsTried(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("usual")
		s.submit("own", func(spec *job.Spec) { spec.MaxAttempts = 7 })
		s.pass(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.want("attempts", s.chain("acme", "usual")[0].MaxAttempts, failure.DefaultMaxAttempts)
		s.want("of a job with a number of its own", s.chain("acme", "own")[0].MaxAttempts, 7)
	})
}

func TestAJobWhoseWorkflowIsNotThereEndsOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x", inFile("acme/none"))
		s.pass(time.Second)
		s.want("events", s.done("append"), []string{"append queued x of 1", "append dead x of 1"})
		s.want("tickets and offers", len(s.done("ticket", "offer")), 0)
	})
}

// The claim takes a second, and the job's time is over meanwhile.
func TestAJobThatExpiresWhileItIsClaimedIsNotOffered(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(10 * time.Second) })
		s.pass(9500 * time.Millisecond)
		tickets := len(s.done("ticket"))
		s.meanwhile("claim", func() { goBy(time.Second) })
		s.host("a", s.accepts("a"))
		s.pass(2 * time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable dead:expired")
		s.want("message", s.lastOf("x").Message, "no host had accepted the job when its expires_in was over")
		s.submitAs("bolt", job.Usual, "y")
		s.pass(time.Second)
		s.want("offers", s.done("offer"), []string{"offer y to a"})
		s.want("tickets that were written", len(s.done("ticket"))-tickets, 0)
		s.want("ends", len(s.done("append dead")), 1)
		s.want("acks", len(s.done("ack")), 1)
	})
}

func TestAJobThatNoHostAcceptsGivesTheSlotOfItsTenantBackAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.host("a", func(*queue.Offer) (queue.Reply, error) {
			return queue.Reply{Answer: queue.Unfit, State: queue.HostState{Host: "a", Instance: "i", Serial: 2, State: queue.Online, Slots: 1, Time: s.Now()}}, nil
		})
		s.pass(time.Second)
		s.submit("x")
		s.pass(0)
		s.want("offers", s.done("offer"), []string{"offer x to a"})
		s.want("slots that are taken", string(s.get(names.SlotsBucket, "acme").Value), "[]")
	})
}

func TestAJobOfAProvenWorkflowEndsAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.set(names.StrikesBucket, pairOf("b", hashOf(t, 1)), encoded(t, route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}}), -1)
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.submit("x")
		s.pass(0)
		s.want("chain", s.story("x"), "queued dead:takes_hosts_down")
	})
}

// Another dispatcher has taken the slot a moment ago, which this one has not heard.
func TestAJobThatFindsNoSlotOfItsTenantGetsATicketAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
		s.dispatcher(dispatcher.Config{})
		s.takeSlotUnseen()
		s.host("a", s.accepts("a"))
		s.submit("x")
		s.pass(0)
		s.want("tickets", s.ticketsOf("acme"), []string{"x"})
	})
}
