package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// Without a pace the hand holds as many jobs as one pull may bring; what is over that is parked at once.
func TestAFullHandMakesRoomForATenantThatHasFewerJobsInIt(t *testing.T) {
	t.Parallel()
	const handLeast = 64
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.submit("runs")
		s.pass(10 * time.Second) // its placement is long ago
		for n := range handLeast {
			s.submit(job.ID(fmt.Sprint("job-", n)))
		}
		s.pass(0)
		s.want("tickets while there is room", len(s.tickets()), 0)
		s.submit("more")
		s.pass(0)
		s.want("tickets of acme", s.ticketsOf("acme"), "[more]")
		s.submitAs("bolt", job.Usual, "first")
		s.pass(0)
		s.want("tickets when bolt has come", fmt.Sprint(s.ticketsOf("acme"), s.ticketsOf("bolt")), fmt.Sprintf("[job-%d more] []", handLeast-1))
		s.submitAs("bolt", job.Usual, "second")
		s.submit("last")
		s.pass(0)
		s.want("tickets at last", fmt.Sprint(s.ticketsOf("acme"), s.ticketsOf("bolt")), fmt.Sprintf("[job-%d job-%d more last] []", handLeast-2, handLeast-1))
		s.pass(50 * time.Millisecond)
		s.want("all others are in hand", len(s.tickets()), 4)
		s.pass(100 * time.Millisecond)
		s.want("for a moment", len(s.tickets()), handLeast+4)
	})
}
