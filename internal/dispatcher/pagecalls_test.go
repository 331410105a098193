package dispatcher_test

import (
	"context"
	"encoding/json"
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

func TestTheOverviewCountsJobsHostsAndWhatNeedsAPerson(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		needs := func(a queue.OverviewAnswer) string {
			var rules []string
			for _, n := range a.Needs {
				rules = append(rules, fmt.Sprintf("%s:%d", n.Rule, n.Count))
			}
			return strings.Join(rules, " ")
		}
		begun := s.Now()
		s.want("needs without a host", needs(operator[queue.OverviewAnswer](s, "overview", queue.OverviewRequest{})), "no_hosts:1 store_filling:1")
		s.beat(queue.HostState{Host: "sick", Instance: "i", Serial: 1, State: queue.Unhealthy, Slots: 2, Time: s.Now()})
		s.submit("one")
		s.submit("two")
		s.pass(15 * time.Minute)
		s.beat(queue.HostState{Host: "sick", Instance: "i", Serial: 2, State: queue.Unhealthy, Slots: 2, Time: s.Now()})
		s.pass(2 * time.Second)
		a := operator[queue.OverviewAnswer](s, "overview", queue.OverviewRequest{Trend: true, Day: begun.Add(time.Minute)})
		s.want("needs", needs(a), "jobs_wait_long:2 no_host_can_run:2 hosts_sick:1 store_filling:1")
		if diff := cmp.Diff(map[string]int{"none_capable": 2}, a.Waiting); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[job.EventKind]int{job.Waiting: 2}, a.Counts); diff != "" {
			t.Error(diff)
		}
		s.want("the day", fmt.Sprintln(a.Day.Window, a.Day.Until), fmt.Sprintln(job.Duration(a.Time.Sub(begun.Truncate(15*time.Minute))), a.Time))
		s.want("rest", fmt.Sprintln(a.Hosts, a.Slots, a.Dispatchers, len(a.Rates), len(a.Trend), len(a.Tenants), a.Tenants[0].Tenant), fmt.Sprintln(map[string]int{"unhealthy": 1}, queue.SlotCounts{Out: 2}, 1, 4, 360, 1, "acme"))
	})
}

func TestHostsAreListedWithHowBusyTheyWere(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.beat(queue.HostState{
			Host: "gpu-1", Instance: "i", Serial: 1, State: queue.Online, Slots: 2, Time: s.Now(),
			Running: []queue.RunningJob{{Tenant: "acme", Job: "one", Since: s.Now().Add(-4 * time.Minute)}},
		})
		s.pass(time.Second)
		a := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Trend: true})
		s.want("steps", len(a.Hosts[0].Busy), 30)
		s.want("a job that has run in the whole last step, on one of two slots", a.Hosts[0].Busy[29], 50)
		s.want("before", a.Hosts[0].Busy[20], 0)
		s.want("without trend", len(operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{}).Hosts[0].Busy), 0)
	})
}

// An empty list is not stored, and is read as no list.
func TestARuleWithAnEmptyListIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		begun := time.Now()
		operator[queue.AffinityAnswer](s, "affinity", map[string]any{"hash": hashOf(t, 1), "prefer": []string{"gpu-1"}, "exclude": []string{}})
		s.want("the call takes less than the time that it waits at most", time.Since(begun) < time.Second, true)
	})
}

func TestWaitingJobsAreListedInTheirOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for i := range 5 {
			s.submitTo("acme", 5, fmt.Sprintf("a%d", i))
		}
		s.submitTo("bolt", 8, "urgent")
		s.pass(time.Second)
		list := func(a jetstream.WaitingAnswer) string {
			var rows []string
			for _, r := range a.Waiting {
				rows = append(rows, fmt.Sprintf("%d:%s/%s:%s", r.Place, r.Tenant, r.Job, r.Reason))
			}
			return fmt.Sprint(strings.Join(rows, " "), " of ", a.Of, " next ", a.Next)
		}
		s.want("first page", list(operator[jetstream.WaitingAnswer](s, "waiting", jetstream.WaitingRequest{Limit: 2})), "1:bolt/urgent:none_capable 2:acme/a0:none_capable of 6 next 2")
		s.want("last page", list(operator[jetstream.WaitingAnswer](s, "waiting", jetstream.WaitingRequest{After: 4})), "5:acme/a3:none_capable 6:acme/a4:none_capable of 6 next 0")
		s.want("of a tenant", list(answered[jetstream.WaitingAnswer](s, "bolt", "waiting", jetstream.WaitingRequest{})), "1:bolt/urgent:none_capable of 6 next 0")
		s.want("of one that has none", list(answered[jetstream.WaitingAnswer](s, "zinc", "waiting", jetstream.WaitingRequest{})), " of 6 next 0")
	})
}

// A dispatcher that has just been started may have to read events for long.
func TestWaitingJobsAreListedAtOnceAlsoWhenEventsAreNotRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("one", func(spec *job.Spec) { spec.Name = "a cat" })
		s.pass(5 * time.Second)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "state of events" {
				return errDropped
			}
			return nil
		}
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		reply, err := s.api.Calls["waiting"](ctx, nil)
		answer, _ := reply.(jetstream.WaitingAnswer)
		if err != nil || len(answer.Waiting) != 1 || answer.Waiting[0].Name != "a cat" {
			t.Errorf("%+v, %v", answer, err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestTheStoryOfAJobHasItsBodyWithoutSecrets(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("one", func(spec *job.Spec) {
			spec.Name, spec.ExtraData = "a cat", json.RawMessage(`{"api_key":"sk-0123456789"}`)
		})
		s.pass(time.Second)
		story := answered[jetstream.JobStory](s, "acme", "job", jetstream.StatusRequest{Job: "one"})
		if story.State != job.Waiting || len(story.Body) == 0 || story.Bytes == 0 || len(story.Events) != 2 ||
			story.Name != "a cat" || strings.Contains(string(story.Body), "sk-0123456789") {
			t.Errorf("%+v", story)
		}
		_, err := callAs[jetstream.JobStory](s.memory, "bolt", "job", jetstream.StatusRequest{Job: "one"})
		refused[*jetstream.NotFound](s, err)
	})
}

func TestWorkflowsTellWhatTheFleetCanDoWithThem(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Settings: []queue.Setting{{Name: "park", Value: "10m0s", From: "default"}}})
		s.host("gpu-1", s.accepts("gpu-1"))
		s.submit("one")
		s.pass(time.Second)
		s.goOn("one", job.Completed, func(e *job.Event) {
			e.Outputs, e.RanFor = []job.Output{{Node: "9"}, {Node: "9", Object: "acme/one/9/a.png"}}, job.Duration(4*time.Second)
		})
		s.block("gpu-1", hashOf(t, 1), []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`), time.Hour, -1)
		s.pass(time.Second)
		row := operator[jetstream.WorkflowsAnswer](s, "workflows", jetstream.WorkflowsRequest{Hash: hashOf(t, 1)[:8]}).Workflows[0]
		want := jetstream.WorkflowRow{
			Hash: hashOf(t, 1), Title: "image", Counts: map[job.EventKind]int{job.Completed: 1}, RanFor: job.Duration(4 * time.Second), Output: "acme/one/9/a.png",
			Capable: 1, Online: 1, Blocked: 1, Last: row.Last,
		}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Error(diff)
		}
		own := answered[jetstream.WorkflowsAnswer](s, "acme", "workflows", jetstream.WorkflowsRequest{}).Workflows
		s.want("capable hosts of a tenant's answer", fmt.Sprintln(len(own), own[0].Capable, own[0].Online, own[0].Output), "1 0 0 acme/one/9/a.png\n")
		s.want("workflows of another tenant", len(answered[jetstream.WorkflowsAnswer](s, "bolt", "workflows", jetstream.WorkflowsRequest{}).Workflows), 0)
		_, err := callAs[jetstream.WorkflowsAnswer](s.memory, "acme", "workflows", jetstream.WorkflowsRequest{Hash: "no hash"})
		refused[*jetstream.BadRequest](s, err)
		s.want("dispatchers", len(operator[queue.DispatchersAnswer](s, "dispatchers", queue.DispatchersRequest{}).Dispatchers), 1)
		settings := operator[queue.SettingsAnswer](s, "settings", queue.SettingsRequest{}).Settings
		s.want("settings", fmt.Sprint(settings[0], settings[len(settings)-1]), "{park 10m0s default} {COMFY_JOBS bytes 1000 NATS}")
	})
}

func TestDeadJobsAreListedAndRequeuedByWhatTheyDiedOf(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{CapableWait: time.Second})
		s.host("gpu-1", s.accepts("gpu-1"))
		s.can("gpu-1", "Other")
		for i := range 3 {
			s.submit(job.ID(fmt.Sprintf("j%d", i)))
		}
		s.pass(10 * time.Second) // no host can run them
		s.bury("acme", "other")
		a := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature"})
		if len(a.Groups) != 1 || a.Groups[0].Count != 3 || a.Count != 3 || a.UpTo != 77 || len(a.Dead) != 0 {
			t.Fatalf("%+v", a)
		}
		_, err := call[jetstream.DeadAnswer](s.memory, "dead", jetstream.DeadRequest{Group: "signature", Job: "j0"})
		refused[*jetstream.BadRequest](s, err)
		s.want("groups of another tenant", len(answered[jetstream.DeadAnswer](s, "bolt", "dead", jetstream.DeadRequest{Group: "signature"}).Groups), 0)
		one := a.Groups[0].Signature
		s.want("letters of the signature", len(operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Signature: one}).Dead), 3)
		s.want("from when on letters are meant", a.Groups[0].First.Sub(*a.Since), time.Minute)
		all := jetstream.RequeueRequest{All: true, Reason: a.Groups[0].Reason, UpTo: a.UpTo}
		s.want("requeued", operator[jetstream.RequeueAnswer](s, "requeue", all).Count, 3)
		s.want("requeued again", operator[jetstream.RequeueAnswer](s, "requeue", jetstream.RequeueRequest{Signature: one}).Count, 0)
	})
}

func TestHostsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for _, host := range []string{"a", "b", "c"} {
			s.host(host, s.accepts(host))
		}
		s.dispatcher(dispatcher.Config{})
		page := func(after string) (text string) {
			a := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{After: after, Limit: 2})
			for i := range a.Hosts {
				text += a.Hosts[i].Host
			}
			return text + "," + a.Next
		}
		s.want("first page", page(""), "ab,b")
		s.want("second page", page("b"), "c,")
	})
}
