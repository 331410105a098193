package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A pair has what proves its workflow guilty in its strikes. It counts once, also when it is blocked.
func TestAnUnblockLetsJobsOfAGuiltyWorkflowRunAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		guilty := encoded(t, &route.Strikes{Guilty: map[route.Tenant]string{"acme": "two hosts went down"}})
		for _, key := range []string{pairOf("a", hashOf(t, 1)), pairOf("b", hashOf(t, 1)), pairOf("a", hashOf(t, 2))} {
			s.set(names.StrikesBucket, key, guilty, -1)
		}
		s.block("b", hashOf(t, 1), []byte(`{"kind":"host_lost","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`), time.Hour, -1)
		s.runs("c", nil)
		s.submit("x")
		s.pass(time.Second)
		s.want("before", s.story("x"), "queued dead:takes_hosts_down")
		s.want("cleared", operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Hash: hashOf(t, 1), By: "ann"}).Count, 2)
		s.want("act", s.whoActed(), []string{fmt.Sprintf(`unblock by ann for "": 2 of {"hash":"%s"}`, hashOf(t, 1))})
		s.pass(time.Second)
		s.submit("y")
		s.pass(time.Second)
		s.want("afterwards", s.story("y"), "queued started completed")
		for pair, stands := range map[string]bool{pairOf("a", hashOf(t, 1)): false, pairOf("b", hashOf(t, 1)): false, pairOf("a", hashOf(t, 2)): true} {
			s.want("strikes of "+pair, s.get(names.StrikesBucket, pair).Phase == queue.Put, stands)
		}
		s.want("block", s.get(names.BlocksBucket, pairOf("b", hashOf(t, 1))).Phase, queue.Gone)
	})
}

func TestADrainIsEndedByItsOpposite(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		drain := func(r queue.DrainRequest) string {
			a := operator[queue.DrainAnswer](s, "drain", r)
			return fmt.Sprint(a.Count, " ", a.Reply.State.Host, " ", a.Reply.State.State)
		}
		s.want("drained", drain(queue.DrainRequest{Host: "gpu-1"}), "1 gpu-1 draining")
		s.want("resumed", drain(queue.DrainRequest{Host: "gpu-1", Resume: true}), "1 gpu-1 online")
		s.want("neither", drain(queue.DrainRequest{Host: "odd", Resume: true}), "0 odd online")
		s.cuts(map[string]error{"control": queue.ErrNoAgent})
		_, err := call[queue.DrainAnswer](s.memory, "drain", queue.DrainRequest{Host: "gpu-2"})
		refused[*jetstream.NotFound](s, err)
		s.want("acts", len(s.whoActed()), 2)
	})
}

// They are read from NATS one by one, which would take long for very many.
func TestStrikesAreReadForFewPairsOrThoseOfOneHostOrWorkflow(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		const few = 64
		strikes := encoded(t, &route.Strikes{Level: 3})
		strike := func(n int) {
			s.set(names.StrikesBucket, pairOf(fmt.Sprintf("host-%02d", n), workflow.Hash(fmt.Sprintf("%064x", n%2))), strikes, -1)
		}
		for n := range few {
			strike(n)
		}
		s.pass(time.Second)
		read := func(r queue.BlocksRequest) (pairs, withStrikes int) {
			r.Struck = true
			for _, row := range operator[queue.BlocksAnswer](s, "blocks", r).Struck {
				pairs++
				if row.Level == 3 {
					withStrikes++
				}
			}
			return pairs, withStrikes
		}
		check := func(what string, r queue.BlocksRequest, want string) {
			t.Helper()
			pairs, withStrikes := read(r)
			s.want(what, fmt.Sprint(pairs, " ", withStrikes), want)
		}
		check("of few", queue.BlocksRequest{}, "64 64")
		strike(few)
		s.pass(time.Second)
		check("of many", queue.BlocksRequest{}, "65 0")
		check("of a host", queue.BlocksRequest{Host: "host-07"}, "1 1")
		check("of a workflow", queue.BlocksRequest{Hash: workflow.Hash(fmt.Sprintf("%064x", 1))}, "32 32")
	})
}
