package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestACallThatComesBeforeAllIsReadIsAnsweredAfterwards(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.hostsLater = 3 * time.Second
		s.host("a", s.accepts("a"))
		s.start(dispatcher.Config{}, nil)
		s.pass(time.Second)
		s.mu.Lock()
		api := s.api
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := api.Calls["hosts"](ctx, nil)
		s.want("for who gives up", errors.Is(err, context.DeadlineExceeded), true)
		_, err = api.TenantCalls["queue"](ctx, "acme", queue.TenantRequest{})
		s.want("for a tenant that gives up", errors.Is(err, context.DeadlineExceeded), true)
		s.want("hosts", len(operator[queue.HostsAnswer](s, "hosts", nil).Hosts), 1)
	})
}

func TestACallOfADispatcherThatHasStoppedIsToBeAskedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		kill := s.dispatcher(dispatcher.Config{})
		kill()
		for _, name := range []string{"queue", "hosts", "blocks"} {
			_, err := call[any](s.memory, name, nil)
			refused[*jetstream.Stopping](s, err)
		}
	})
}

func TestACallWithARequestThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, body := range []string{`[]`, `{"limit":"many"}`, `{`} {
			_, err := s.api.Calls["hosts"](context.Background(), []byte(body))
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

func TestAForcedCancelThatCannotBeCountedIsNotDone(t *testing.T) {
	t.Parallel()
	for _, effect := range []string{"last", "state of events"} {
		inBubble(t, func(s *scene) {
			s.dispatcher(dispatcher.Config{})
			s.pass(time.Second)
			s.mu.Lock()
			s.cut = func(e string) error {
				if strings.HasPrefix(e, effect) {
					return errCut
				}
				return nil
			}
			endpoint := s.api.TenantCalls["cancel"]
			s.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, err := endpoint(ctx, "acme", queue.TenantRequest{Body: []byte(`{"job":"x","force":true}`)}); err == nil {
				t.Errorf("without %q it is answered", effect)
			}
			s.want("chain", s.story("x"), "")
		})
	}
}

func TestDispatchersAndSettingsAreListed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other")
		s.dispatcher(dispatcher.Config{Version: "1.2.3", Settings: []queue.Setting{{Name: "park", Value: "10m0s", From: "default"}}})
		s.pass(time.Second)
		a := operator[queue.DispatchersAnswer](s, "dispatchers", nil)
		s.want("dispatchers", fmt.Sprintln(len(a.Dispatchers), a.Dispatchers[0].Dispatcher, a.Dispatchers[0].Version, a.Dispatchers[1].Dispatcher, a.Answered), "2 me 1.2.3 other me\n")
		settings := operator[queue.SettingsAnswer](s, "settings", nil)
		s.want("settings", fmt.Sprintln(settings.Dispatcher, settings.Settings),
			"me [{park 10m0s default} {ack wait 30s NATS} {age of events 72h0m0s NATS} {age of presences 15s NATS} {COMFY_JOBS bytes 1000 NATS}]\n")
		s.want("the most jobs of a lane", operator[jetstream.QueueAnswer](s, "queue", nil).Most, 10_000)
	})
}

func TestGroupsOfDeadJobsAreListedAsFarAsThereIsRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n, kind := range []failure.Kind{failure.Timeout, failure.ExecutionError, failure.OutOfMemory} {
			for k := range n + 1 {
				id := job.ID(fmt.Sprint("job-", n, "-", k))
				s.goOn(id, job.Queued)
				s.goOn(id, job.Dead, func(e *job.Event) { e.Kind, e.Reason, e.Message = kind, "attempts", string(kind) })
			}
		}
		all := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature"})
		s.want("all", fmt.Sprint(len(all.Groups), all.Count, all.More), "3 6 0")
		some := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature", Limit: 1})
		s.want("one", fmt.Sprint(len(some.Groups), some.Count, some.More), "1 6 2")
		one := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature", Signature: all.Groups[1].Signature})
		s.want("of a signature", fmt.Sprint(len(one.Groups), one.Count, one.More, one.Groups[0].Signature == all.Groups[1].Signature), "1 2 0 true")
	})
}

func TestTheOverviewSaysHowFarEventsAreRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.queued("acme", "a", "b")
		s.goOn("a", job.Dead)
		s.submit("c")
		s.pass(5 * time.Second)
		a := operator[queue.OverviewAnswer](s, "overview", nil)
		s.want("when all are read", fmt.Sprintln(a.Reading == "", a.Counts[job.Dead], a.Tenants[0].Tenant, a.Tenants[0].Dead), "true 1 acme 1\n")
		s.queued("acme", "d")
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "state of events" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		a = operator[queue.OverviewAnswer](s, "overview", nil)
		if !strings.Contains(a.Reading, "still reading the events") || a.Counts[job.Dead] != 1 {
			t.Errorf("%q, %v", a.Reading, a.Counts)
		}
	})
}

func TestTheStatusOfAWaitingJobSaysWhenItMayStart(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome { return outcome{takes: 100 * time.Second} }})
		s.submit("before")
		s.pass(101 * time.Second)
		s.submit("runs")
		s.pass(time.Second)
		s.submit("waits")
		s.pass(5 * time.Second)
		waits := answered[jetstream.JobStatus](s, "acme", "status", jetstream.StatusRequest{Job: "waits"})
		if waits.Position != 1 || waits.Of != 1 || waits.ETA == nil || waits.ETA.Sub(s.Now()) < 80*time.Second || waits.ETA.Sub(s.Now()) > 110*time.Second {
			t.Errorf("place %d of %d, in %v", waits.Position, waits.Of, waits.ETA)
		}
		row := answered[jetstream.WaitingAnswer](s, "acme", "waiting", jetstream.WaitingRequest{}).Waiting[0]
		if row.ETA == nil || row.ETA.Sub(*waits.ETA).Abs() > 5*time.Second {
			t.Errorf("in the list in %v", row.ETA)
		}
		runs := answered[jetstream.JobStatus](s, "acme", "status", jetstream.StatusRequest{Job: "runs"})
		s.want("of one that runs", fmt.Sprint(runs.Position, runs.Of, runs.ETA == nil), "0 0 true")
		story := answered[jetstream.JobStory](s, "acme", "job", jetstream.StatusRequest{Job: "waits"})
		s.want("its trace and body", fmt.Sprint(story.Trace == job.TraceID("acme", "waits", s.Created(), ""), len(story.Body) > 0), "true true")
	})
}

// The place in the stream has something else by now.
func TestWhyOfAJobWhosePlaceIsAnothersIsToBeAskedAgain(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]job.Message{
		"NoJob":          {Tenant: "acme", Priority: job.Usual, Body: []byte("no job")},
		"AnotherJob":     {Tenant: "acme", Priority: job.Usual, Body: encoded(t, job.Spec{ID: "y", Workflow: graph(1)})},
		"AnotherTenants": {Tenant: "bolt", Priority: job.Usual, Body: encoded(t, job.Spec{ID: "x", Workflow: graph(1)})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{})
				sequence := s.submit("x")
				s.pass(time.Second)
				s.mu.Lock()
				message.Sequence, message.Received = sequence, s.Now()
				s.jobs[sequence].message = message
				s.mu.Unlock()
				why := operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Tenant: "acme", Job: "x"})
				s.want("why", why.Text, "it has just stopped waiting: ask again")
			})
		})
	}
}

func TestAWorkflowShowsTheFirstStoredFileOfItsLastJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n := range 20 {
			id := job.ID(fmt.Sprint("job-", n))
			s.goOn(id, job.Queued, func(e *job.Event) { e.Hash = hashOf(t, n) })
			s.goOn(id, job.Completed, func(e *job.Event) {
				e.Hash, e.Outputs = hashOf(t, n), []job.Output{{Node: "8"}, {Node: "9", Object: "first", Thumb: "small"}, {Node: "9", Object: "second"}}
			})
		}
		rows := operator[jetstream.WorkflowsAnswer](s, "workflows", nil).Workflows
		s.want("workflows", len(rows), 20)
		for _, row := range rows {
			s.want("file", row.Output+" "+row.Thumb, "first small")
		}
	})
}

func TestTheOverviewTellsWhatHasHappenedLately(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.off = time.Since(noon) // the times of events count from noon
		s.dispatcher(dispatcher.Config{})
		for _, id := range []job.ID{"a", "b", "c"} {
			s.goOn(id, job.Queued)
		}
		s.goOn("a", job.Started, func(e *job.Event) { e.Host, e.Attempt = "gpu", 1 })
		s.goOn("a", job.Completed, func(e *job.Event) { e.Host, e.Attempt = "gpu", 1 }) // stored a second later
		s.goOn("b", job.Dead)
		s.submit("waits")
		s.pass(4 * time.Minute)
		a := operator[queue.OverviewAnswer](s, "overview", queue.OverviewRequest{Trend: true})
		var rates []string
		for _, r := range a.Rates {
			rates = append(rates, fmt.Sprintln(time.Duration(r.Window), r.Queued, r.Started, r.Completed, r.Dead))
		}
		want := []string{"1m0s 0 0 0 0\n", "5m0s 4 1 1 1\n", "15m0s 4 1 1 1\n", "1h0m0s 4 1 1 1\n"}
		s.want("rates", rates, want)
		s.want("the tenant", fmt.Sprintln(a.Tenants[0].Tenant, a.Tenants[0].GPUSeconds, a.Tenants[0].Dead), "acme 1 1\n")
	})
}
