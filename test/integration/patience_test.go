package integration_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// capable_wait says how long a fleet may have no host that can run a job, so it means something only while the fleet
// can be asked: with no host online nobody knows what it can run, and an outage of all agents, or a dispatcher that
// starts before them, must not cost every job that waits. A host that is away with a known capability keeps its jobs
// for the same reason.
func TestAJobIsNotGivenUpWhileNoHostIsThereToBeAsked(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a"), noAgents: true, config: dispatcher.Config{CapableWait: 300 * time.Millisecond}})
	patient := f.submit("acme", job.Spec{Workflow: picture(1)})
	f.await(patient, job.Waiting)
	// That another job, which came later, expires proves that capable_wait is over several times.
	if end := f.end(f.submit("acme", job.Spec{Workflow: picture(2), ExpiresIn: job.Duration(1500 * time.Millisecond)})); end.Reason != string(failure.Expired) {
		t.Errorf("the impatient job ended %s, %s", end.EventKind, end.Reason)
	}
	if link, _, err := f.q.Last(f.context(), patient.Tenant, patient.Job); err != nil || link.EventKind != job.Waiting {
		t.Errorf("the patient job is %s, %v", link.EventKind, err)
	}
	f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.wantPicture(f.end(patient), rgb(1))

	// Once a host is there, a job that it cannot run has its time.
	never := graph(map[string]any{"1": node("NoSuchNode"), "9": node("SaveImage", "images", link("1"), "filename_prefix", "out")})
	if end := f.end(f.submit("acme", job.Spec{Workflow: never})); end.Reason != string(failure.NoCapableHost) {
		t.Errorf("the impossible job ended %s, %s", end.EventKind, end.Reason)
	}
}
