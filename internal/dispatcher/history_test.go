package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// queued appends so many queued events of a tenant's jobs.
func (s *scene) queued(tenant job.Tenant, ids ...job.ID) {
	s.t.Helper()
	for _, id := range ids {
		e := job.Event{EventKind: job.Queued, Job: id, Tenant: tenant, Priority: 7, Time: s.Now()}
		if _, err := s.Append(context.Background(), &e, 0, "", ""); err != nil {
			s.t.Fatal(err)
		}
	}
}

func listed(a jetstream.JobsAnswer, err error) string {
	var text []string
	for _, r := range a.Jobs {
		text = append(text, fmt.Sprintf("%s/%s:%s", r.Tenant, r.Job, r.State))
	}
	if err != nil {
		text = append(text, err.Error())
	}
	return strings.Join(text, " ")
}

func TestAListOfJobsHasAllThatWasStoredBeforeItWasAskedFor(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.queued("acme", "a", "b", "c", "d")
		s.dispatcher(dispatcher.Config{})
		s.queued("bolt", "e")
		s.goOn("b", job.Started, func(e *job.Event) { e.Host, e.Attempt = "gpu-1", 1 })
		s.want("of all", listed(call[jetstream.JobsAnswer](s.memory, "jobs", jetstream.JobsRequest{})), "acme/b:started bolt/e:queued acme/d:queued acme/c:queued acme/a:queued")
		s.want("of bolt", listed(callAs[jetstream.JobsAnswer](s.memory, "bolt", "jobs", jetstream.JobsRequest{})), "bolt/e:queued")
		s.want("of a tenant for the operator", listed(call[jetstream.JobsAnswer](s.memory, "jobs", jetstream.JobsRequest{Tenant: "acme", State: job.Started})), "acme/b:started")
		got, err := callAs[jetstream.JobsAnswer](s.memory, "acme", "jobs", jetstream.JobsRequest{Limit: 1})
		want := jetstream.JobsAnswer{
			Jobs: []jetstream.JobRow{{
				Job: "b", Tenant: "acme", State: job.Started, Priority: 5, Host: "gpu-1", Attempt: 1,
				First: jetstream.Mark{Sequence: 2, Time: noon.Add(2 * time.Second)}, Last: jetstream.Mark{Sequence: 6, Time: noon.Add(6 * time.Second)},
			}},
			Next: 6, Since: jetstream.Mark{Sequence: 1, Time: noon}, Counts: map[job.EventKind]int{job.Queued: 3, job.Started: 1},
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s (%v)", diff, err)
		}
		s.want("the next page", listed(callAs[jetstream.JobsAnswer](s.memory, "acme", "jobs", jetstream.JobsRequest{Before: got.Next})), "acme/d:queued acme/c:queued acme/a:queued")
	})
}

func TestAListOfJobsHasOnlyWhatTheRequestNames(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n, id := range []job.ID{"cat-1", "cat-2", "dog-1"} {
			s.goOn(id, job.Queued, func(e *job.Event) { e.Hash, e.Name = hashOf(t, n), "a "+string(id[:3]) })
		}
		s.goOn("cat-1", job.Started, func(e *job.Event) { e.Host = "gpu-1" })
		s.goOn("cat-2", job.Started, func(e *job.Event) { e.Host = "gpu-2" })
		s.goOn("cat-2", job.Failed, func(e *job.Event) { e.Host, e.Kind = "gpu-2", "timeout" })
		s.goOn("dog-1", job.Waiting, func(e *job.Event) { e.Reason = "none_capable" })
		for want, r := range map[string]jetstream.JobsRequest{
			"acme/cat-1:started":                   {Host: "gpu-1"},
			"acme/cat-2:failed":                    {Kind: "timeout"},
			"acme/dog-1:waiting":                   {Reason: "none_capable"},
			"acme/cat-2:failed acme/cat-1:started": {Job: "cat"},
			"acme/dog-1:waiting ":                  {Text: "DOG"},
			"acme/cat-1:started ":                  {Hash: hashOf(t, 0)},
			"acme/cat-2:failed ":                   {State: job.Failed},
		} {
			s.want(fmt.Sprintf("%+v", r), listed(call[jetstream.JobsAnswer](s.memory, "jobs", r)), strings.TrimSpace(want))
		}
	})
}

func TestAListOfJobsSaysWhatIsWrongWithTheRequest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for name, r := range map[string]jetstream.JobsRequest{
			"is no state of a job": {State: "mood"}, "limit is negative": {Limit: -1}, "is no hash": {Hash: "xyz"}, "is no tenant": {Tenant: "a.b"},
		} {
			_, err := call[jetstream.JobsAnswer](s.memory, "jobs", r)
			bad, is := errors.AsType[*jetstream.BadRequest](err)
			if !is || !strings.Contains(bad.Message, name) {
				t.Errorf("%+v is answered %v", r, err)
			}
		}
	})
}

// While the events cannot be read a call waits as long as it may, and then its error says how far reading has come. The next call
// is answered once reading has gone on from there.
func TestAListOfJobsWaitsUntilItsEventsAreRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.queued("acme", "a", "b", "c", "d", "e")
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "read events after 3" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		s.dispatcher(dispatcher.Config{})
		ask := func(wait time.Duration) (jetstream.JobsAnswer, error) {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			s.mu.Lock()
			endpoint := s.api.TenantCalls["jobs"]
			s.mu.Unlock()
			reply, err := endpoint(ctx, "acme", queue.TenantRequest{})
			if err != nil {
				return jetstream.JobsAnswer{}, err
			}
			var a jetstream.JobsAnswer
			return a, json.Unmarshal(reply.Body, &a)
		}
		begun := time.Now()
		_, err := ask(10 * time.Second)
		if _, is := errors.AsType[*jetstream.Stopping](err); !is || !strings.Contains(err.Error(), "still reading the events, 3 of 5 so far") {
			t.Errorf("it is answered %v", err)
		}
		s.want("it has waited", time.Since(begun), 9*time.Second)
		go func() {
			goBy(5 * time.Second)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cut = nil
		}()
		s.want("at last", listed(ask(10*time.Second)), "acme/e:queued acme/d:queued acme/c:queued acme/b:queued acme/a:queued")
	})
}

// Another stream begins with sequence 1 again.
func TestAListOfJobsBeginsAnewWithAStreamThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.queued("acme", "a", "b")
		s.dispatcher(dispatcher.Config{})
		s.want("before", listed(call[jetstream.JobsAnswer](s.memory, "jobs", nil)), "acme/b:queued acme/a:queued")
		s.mu.Lock()
		s.events, s.links, s.made = nil, map[string][]int{}, noon
		s.mu.Unlock()
		s.queued("acme", "c")
		s.want("after", listed(call[jetstream.JobsAnswer](s.memory, "jobs", nil)), "acme/c:queued")
		s.queued("acme", "d", "e")
		s.want("with all", listed(call[jetstream.JobsAnswer](s.memory, "jobs", nil)), "acme/e:queued acme/d:queued acme/c:queued")
		s.mu.Lock()
		s.events = s.events[:2] // its newest is lost, as when NATS comes back from a copy of its disk
		s.mu.Unlock()
		s.want("later", listed(call[jetstream.JobsAnswer](s.memory, "jobs", nil)), "acme/d:queued acme/c:queued")
	})
}

// Events that come fast are not read until a call asks, and that call gets all of them.
func TestEventsThatComeFastAreReadWhenSomebodyAsks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Minute)
		reads := 0
		s.mu.Lock()
		s.cut = func(effect string) error {
			if strings.HasPrefix(effect, "read events after") {
				reads++
			}
			return nil
		}
		s.mu.Unlock()
		for n := range 3000 {
			s.queued("acme", job.ID(fmt.Sprint("a", n)))
		}
		s.pass(3 * time.Second)
		s.mu.Lock()
		s.want("reads while nobody asks", reads, 0)
		s.mu.Unlock()
		a, err := call[jetstream.JobsAnswer](s.memory, "jobs", jetstream.JobsRequest{Limit: 1})
		s.want("for who asks", fmt.Sprint(listed(a, err), " ", a.Counts), "acme/a2999:queued map[queued:3000]")
	})
}
