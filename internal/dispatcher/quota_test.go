package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// allow gives a tenant settings.
func (s *scene) allow(tenant string, settings queue.TenantSettings) {
	s.t.Helper()
	value, err := json.Marshal(settings)
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(names.TenantsBucket, tenant, value, -1)
}

// jobsByStory counts the jobs of acme by what has happened to them, of those named prefix0, prefix1 and so on.
func (s *scene) jobsByStory(prefix string, n int) map[string]int {
	counts := map[string]int{}
	for i := range n {
		counts[s.story(job.ID(fmt.Sprint(prefix, i)))]++
	}
	return counts
}

func TestATenantHasNoMoreUnfinishedJobsThanItMay(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxUnfinished: 10})
		s.dispatcher(dispatcher.Config{})
		for i := range 30 { // all at once
			s.submit(job.ID(fmt.Sprint("a", i)))
		}
		body, err := json.Marshal(job.Spec{ID: "other", Workflow: graph(1)})
		if err != nil {
			t.Fatal(err)
		}
		s.publish(job.Message{Tenant: "bolt", Priority: job.Usual, Body: body})
		s.pass(time.Minute)
		s.want("of 30 jobs", s.jobsByStory("a", 30), map[string]int{"queued waiting:none_capable": 10, "dead:over_quota": 20})
		s.want("left in the stream", s.left(), 11)
		var waits, refused job.ID // which of jobs that come at once are beyond the maximum is left open
		for n := range 30 {
			if id := job.ID(fmt.Sprint("a", n)); s.story(id) == "dead:over_quota" {
				refused = id
			} else {
				waits = id
			}
		}
		dead, found, err := s.Last(context.Background(), "acme", refused)
		for _, part := range []string{"11 unfinished jobs and may have 10", "under another id", "dispatcher tenants set acme --max-unfinished N"} {
			if err != nil || !found || !strings.Contains(dead.Message, part) {
				t.Errorf("%q is not in %q, %v", part, dead.Message, err)
			}
		}
		s.goOn(waits, job.Cancelled)
		s.pass(time.Second)
		s.submit("next")
		s.pass(time.Second)
		s.submit("beyond")
		s.pass(time.Minute)
		s.want("when one has ended", s.story("next"), "queued waiting:none_capable")
		s.want("and one beyond it", s.story("beyond"), "dead:over_quota")
		s.allow("acme", queue.TenantSettings{Weight: 1})
		s.pass(time.Second)
		s.submit("free")
		s.pass(time.Minute)
		s.want("without a quota", s.story("free"), "queued waiting:none_capable")
	})
}

// What was there when a dispatcher started counts, and a job that is delivered again is not judged again.
func TestADispatcherThatStartsCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{Park: time.Minute})
		for i := range 10 {
			s.submit(job.ID(fmt.Sprint("a", i)))
		}
		s.pass(time.Second)
		kill()
		size := int64(len(s.body(1)))
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxBytes: 8 * size})
		s.dispatcher(dispatcher.Config{Name: "next", Park: time.Minute})
		s.submit("known") // while nothing is counted yet
		s.pass(2 * time.Second)
		s.submit("b0")
		s.pass(5 * time.Minute) // each of the ten is delivered again some times
		s.want("what was there", s.jobsByStory("a", 10), map[string]int{"queued waiting:none_capable": 10})
		s.want("one more", s.story("b0"), "dead:over_quota")
		dead, _, err := s.Last(context.Background(), "acme", "b0")
		if want := fmt.Sprintf("and may have %d", 8*size); err != nil || !strings.Contains(dead.Message, want) {
			t.Errorf("%q is not in %q, %v", want, dead.Message, err)
		}
	})
}

// body is that of a job as submit stores it.
func (s *scene) body(sequence uint64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[sequence].message.Body
}

// While the events cannot be read it is not known which jobs have ended: no job is refused for that, and none waits for long.
func TestNoJobIsRefusedForAQuotaThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxUnfinished: 10})
		s.dispatcher(dispatcher.Config{})
		for i := range 8 {
			s.submit(job.ID(fmt.Sprint("a", i)))
		}
		s.pass(10 * time.Second)
		for i := range 8 {
			s.goOn(job.ID(fmt.Sprint("a", i)), job.Cancelled)
		}
		s.mu.Lock()
		s.cut = func(what string) error {
			if strings.HasPrefix(what, "state of events") {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		for i := range 30 { // the jobs before have ended, but their events cannot be read
			s.submit(job.ID(fmt.Sprint("b", i)))
		}
		s.pass(5 * time.Second)
		s.want("of 30 jobs", s.jobsByStory("b", 30), map[string]int{"queued waiting:none_capable": 30})
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(time.Minute)
		s.submit("counted")
		s.pass(time.Minute)
		s.submit("beyond")
		s.pass(time.Minute)
		s.want("when they can be read again", s.story("beyond"), "dead:over_quota")
	})
}
