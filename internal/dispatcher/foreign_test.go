package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// A host may write anything into a failed event, also the lease of another job: a dispatcher must not ack that job.
func TestAFailedEventWithTheLeaseOfAnotherJobActsOnNeither(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("busy", s.accepts("busy"))
		s.submit("victim")
		s.pass(time.Second)
		s.host("evil", s.accepts("evil"))
		own := s.submit("own")
		s.pass(time.Second)
		s.want("chains", s.story("victim")+", "+s.story("own"), "queued started, queued started")
		chain, err := s.Chain(t.Context(), "acme", "own")
		if err != nil || own != 2 {
			t.Fatal(own, err)
		}
		before := len(s.done("ack", "park", "extend", "secure"))
		e := job.Event{EventKind: job.Failed, Job: "own", Tenant: "acme", Priority: 5, Host: "evil", Attempt: 1, Kind: failure.ExecutionError, Time: s.Now()}
		if _, err := s.Append(t.Context(), &e, chain[len(chain)-1].ChainSequence, "", leaseOf(1, 1)); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		s.want("chain", s.story("own"), "queued started failed")
		for _, effect := range s.done("ack", "park", "extend", "secure")[before:] {
			t.Errorf("the dispatcher has done: %s", effect)
		}
		s.want("jobs left", s.left(), 2)
	})
}
