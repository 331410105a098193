package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// why asks as an operator, and gives the answer without its hosts, and what it says of one.
func (s *scene) why(r jetstream.WhyRequest, host string) (whole, ofHost string) {
	s.t.Helper()
	a := operator[jetstream.WhyAnswer](s, "why", r)
	for _, v := range a.Hosts {
		if string(v.Host) == host {
			ofHost = string(v.Code)
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s", a.Reason, a.Text)), ofHost
}

func TestWhyOfAWorkflowIsForTheTenantThatIsNamed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.set(names.TenantsBucket, "default", []byte(`{"weight":1,"max_priority":3}`), -1)
		s.grant("a", queue.HostGrant{Tenants: []job.Tenant{"bolt"}, Time: s.Now()})
		s.host("a", s.accepts("a"))
		s.dispatcher(dispatcher.Config{})
		text, code := s.why(jetstream.WhyRequest{Workflow: graph(1), Tenant: "bolt"}, "a")
		s.want("for bolt", text+", "+code, ": a host may take it at once, eligible")
		text, code = s.why(jetstream.WhyRequest{Workflow: graph(1)}, "a")
		s.want("for nobody in particular", code, "other_tenants")
		if !strings.HasPrefix(text, "other_tenants: ") || !strings.HasSuffix(text, "; its priority 5 counts as 3, the most of tenant default") {
			t.Errorf("%q", text)
		}
		_, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Workflow: []byte(`{"workflow_file":"default/flow"}`)})
		if err == nil || !strings.Contains(err.Error(), "send the workflow itself") {
			t.Errorf("of a workflow in a file: %v", err)
		}
	})
}

// The hosts that have failed a job stand in its chain alone.
func TestWhyOfAJobThatIsTriedAgainSaysWhereItHasFailed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.Drained, message: "not now"}})
		s.submit("x", func(spec *job.Spec) { spec.RetryDelay = job.Duration(20 * time.Second) })
		s.pass(5 * time.Second)
		text, code := s.why(jetstream.WhyRequest{Tenant: "acme", Job: "x"}, "a")
		if !strings.HasPrefix(text, "not_due: ") {
			t.Errorf("before its delay is over: %q on a, %s", text, code)
		}
		s.host("b", silent)
		s.pass(50 * time.Millisecond)
		_, code = s.why(jetstream.WhyRequest{Tenant: "acme", Job: "x"}, "a")
		s.want("the host that failed it, beside another", code, "avoided")
	})
}

func TestWhyOfAJobThatIsStoredNoMoreIsToBeAskedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		sequence := s.submit("x")
		s.pass(time.Second)
		s.mu.Lock()
		delete(s.jobs, sequence)
		s.mu.Unlock()
		text, _ := s.why(jetstream.WhyRequest{Tenant: "acme", Job: "x"}, "")
		s.want("why", text, ": it has just stopped waiting: ask again")
	})
}
