package dispatcher_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// With the cap of longBlocks a block that is not lifted outlasts the two minutes of await.
func TestABlockEndsWithWhatTheHostLackedAlsoWhenTheFirstLiftComesToNothing(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]error{
		"NATS refuses the lift":             errCut,
		"the dispatcher that lifts it dies": errDies,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				var came atomic.Bool
				firstLift := func(effect string) error {
					if strings.HasPrefix(effect, "lift block") && !came.Swap(true) {
						return way
					}
					return nil
				}
				for _, dispatcherName := range []string{"one", "two"} {
					s.start(dispatcher.Config{Name: dispatcherName, Policy: longBlocks}, firstLift)
				}
				s.pass(time.Second)
				classes := []string{"SaveImage", "EmptyImage1"}
				s.can("a", classes...)
				s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome {
					return outcome{kind: failure.Incapable, message: "a model is missing"}
				}})
				s.submit("x")
				block := func() queue.Entry { return s.get(names.BlocksBucket, pairOf("a", hashOf(s.t, 1))) }
				s.await(func() bool { return block().Phase == queue.Put })
				blocked := block().Revision
				s.pass(500 * time.Millisecond)
				s.can("a", append(classes, "More")...)
				s.await(func() bool { return block().Phase == queue.Gone || block().Revision != blocked })
				if !came.Load() || block().Revision == blocked {
					t.Errorf("lifted once: %t; the block is still in force: %+v", came.Load(), block())
				}
			})
		})
	}
}
