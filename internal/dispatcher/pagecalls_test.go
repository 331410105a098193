package dispatcher_test

import (
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
		s.want("needs without a host", needs(operator[queue.OverviewAnswer](s, "overview", queue.OverviewRequest{})), "no_hosts:1 store_filling:1")
		s.beat(queue.HostState{Host: "sick", Instance: "i", Serial: 1, State: queue.Unhealthy, Slots: 2, Time: s.Now()})
		s.submit("one")
		s.submit("two")
		s.pass(15 * time.Minute)
		s.beat(queue.HostState{Host: "sick", Instance: "i", Serial: 2, State: queue.Unhealthy, Slots: 2, Time: s.Now()})
		s.pass(2 * time.Second)
		a := operator[queue.OverviewAnswer](s, "overview", queue.OverviewRequest{Trend: true})
		s.want("needs", needs(a), "jobs_wait_long:2 no_host_can_run:2 hosts_sick:1 store_filling:1")
		if diff := cmp.Diff(map[string]int{"none_capable": 2}, a.Waiting); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[job.EventKind]int{job.Waiting: 2}, a.Counts); diff != "" {
			t.Error(diff)
		}
		s.want("rest", fmt.Sprintln(a.Hosts, a.Slots, a.Dispatchers, len(a.Rates), len(a.Trend), len(a.Tenants), a.Tenants[0].Tenant), fmt.Sprintln(map[string]int{"unhealthy": 1}, queue.SlotCounts{Out: 2}, 1, 4, 360, 1, "acme"))
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
