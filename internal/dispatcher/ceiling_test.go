package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// All wait while no host is there, and then run on one after the other; a cancel frees it.
func TestAJobAboveTheMostOfItsTenantCountsAsThat(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		most := job.Priority(5)
		s.set(names.TenantsBucket, "acme", []byte(`{"weight":1,"max_priority":9}`), -1)
		s.dispatcher(dispatcher.Config{MaxPriority: &most})
		s.submitAs("bolt", 9, "b")
		s.pass(time.Second)
		s.submitAs("acme", 6, "a")
		s.pass(time.Second)
		answer, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "bolt", Job: "b"})
		if err != nil || !strings.Contains(answer.Text, "its priority 9 counts as 5, the most of tenant bolt") {
			t.Errorf("why: %q, %v", answer.Text, err)
		}
		s.want("place of bolt's", answer.Position, 2)
		s.host("h", s.accepts("h"))
		s.pass(time.Second)
		s.want("offers", s.done("offer"), []string{"offer a to h"})
		queue, err := call[jetstream.QueueAnswer](s.memory, "queue", struct{}{})
		if err != nil || len(queue.Lanes) != 2 || queue.Lanes[0].Priority != 9 || queue.Lanes[0].CountsAs == nil || *queue.Lanes[0].CountsAs != 5 {
			t.Errorf("lanes %+v, %v", queue.Lanes, err)
		}
	})
}

func TestTheUsualCapHoldsForTenantsWithoutSettings(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.set(names.TenantsBucket, "bolt", []byte(`{"weight":1,"max_running":0}`), -1)
		s.dispatcher(dispatcher.Config{MaxRunning: 1})
		for _, host := range []string{"h", "i", "k", "l"} {
			s.host(host, s.accepts(host))
		}
		for _, id := range []job.ID{"a1", "a2"} {
			s.submitAs("acme", 5, id)
		}
		s.pass(time.Second)
		for _, id := range []job.ID{"b1", "b2"} {
			s.submitAs("bolt", 5, id)
		}
		s.pass(time.Second)
		s.want("offers", len(s.done("offer")), 3)
		s.want("chains", s.story("a1")+" | "+s.story("a2"), "queued started | queued waiting:over_cap")
	})
}
