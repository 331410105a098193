package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// painter is a host with one slot that holds one job more, and loads models before its first run.
func (s *scene) painter(name string, load, run, answers time.Duration) {
	a := &agent{name: name, prefetch: 1, answers: answers}
	a.outcome = func(*queue.Offer) outcome {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.loaded) == 0 {
			return outcome{takes: load + run}
		}
		return outcome{takes: run}
	}
	s.agent(a)
}

// The second job comes while the answer to the offer of the first is under way, or while the first runs.
func TestJobsWaitForTheirWarmHostWhenLoadingElsewhereTakesLonger(t *testing.T) {
	t.Parallel()
	for _, apart := range []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(apart.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				for _, name := range []string{"a", "b"} {
					s.painter(name, 12*time.Second, 800*time.Millisecond, 40*time.Millisecond)
				}
				s.dispatcher(dispatcher.Config{})
				for n := range 4 { // one cold run and three warm ones
					s.submit(job.ID(fmt.Sprint("alone-", n)), func(spec *job.Spec) { spec.OnlyHosts = []string{"a"} })
					s.pass(20 * time.Second)
				}
				for n := range 3 {
					s.submit(job.ID(fmt.Sprint("first-", n)))
					s.pass(apart)
					s.submit(job.ID(fmt.Sprint("second-", n)))
					s.pass(5 * time.Second)
				}
				offers := s.done("offer")
				s.want("offers", len(offers), 10)
				for _, offer := range offers {
					if !strings.HasSuffix(offer, " to a") {
						t.Errorf("%s, want the warm host for all", offer)
					}
				}
				s.want("jobs left", s.left(), 0)
			})
		})
	}
}
