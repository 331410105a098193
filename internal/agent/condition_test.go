package agent_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// want compares a host's conditions with what they should be.
func want(t *testing.T, c *agent.Conditions, text string) {
	t.Helper()
	if got := c.String(); got != text {
		t.Errorf("the conditions are %q, want %q", got, text)
	}
}

func TestAConditionKeepsTheFirstJobThatIsBlamed(t *testing.T) {
	t.Parallel()
	var c agent.Conditions
	c.Put(failure.Down, "", "")
	c.Put(failure.Down, "", "acme")
	want(t, &c, `down of process "" by acme`)
	c.Put(failure.Down, "1", "bolt")
	c.Put(failure.Down, "1", "")
	want(t, &c, `down of process "1" by acme`)
}

func TestOnlyWhatEndsWithAProcessIsTiedToIt(t *testing.T) {
	t.Parallel()
	var c agent.Conditions
	c.Put(failure.WorkerGone, "1", "")
	c.Put(failure.Poisoned, "1", "")
	c.Put(failure.Stuck, "", "") // found while the process could not be identified
	c.Put(failure.DiskFull, "", "")
	c.Restart("1")
	want(t, &c, `worker_gone of process "1"; stuck of process "1"; poisoned of process "1"; disk_full of process ""`)
	c.Restart("2")
	want(t, &c, `disk_full of process ""`)
}

func TestWhatTheNextAgentFindsByItselfIsNotStored(t *testing.T) {
	t.Parallel()
	var c agent.Conditions
	c.Put(failure.Down, "", "")
	c.Put(failure.Unstorable, "", "")
	if got := c.Lasting(); got != "" {
		t.Errorf("%s is stored", got)
	}
	c.Put(failure.DiskFull, "", "")
	if got := c.Lasting(); got != failure.DiskFull {
		t.Errorf("%q is stored", got)
	}
}

func TestATrialIsProvenByAnotherWorkflowAndBlamesOneTenantOnly(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]struct {
		tenant, text string
	}{
		"SameTenant":    {"acme", `poisoned of process "1": second by acme`},
		"AnotherTenant": {"bolt", `poisoned of process "1": second`},
		"NobodyToBlame": {"", `poisoned of process "1": second by acme`},
	} {
		var c agent.Conditions
		a, b, third := workflow.Hash("a"), workflow.Hash("b"), workflow.Hash("c")
		if c.Fail(a, "first", "acme", time.Time{}) || c.Fail(a, "again", "acme", time.Time{}) {
			t.Errorf("%s: one workflow proves it", name)
		}
		want(t, &c, `poisoned of process "1" on trial: first by acme`)
		if !c.Fail(b, "second", job.Tenant(second.tenant), time.Time{}) {
			t.Errorf("%s: two workflows prove nothing", name)
		}
		want(t, &c, second.text)
		if !c.Fail(third, "third", "acme", time.Time{}) {
			t.Errorf("%s: a third one ends it", name)
		}
		want(t, &c, second.text)
	}
}

func TestATrialEndsWithAnotherWorkflowThatBeganAfterIt(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var c agent.Conditions
	c.Fail("a", "x", "", noon)
	for name, ended := range map[string]bool{
		"TheSameWorkflow": c.Pass("a", noon.Add(time.Second)),
		"OneFromBefore":   c.Pass("b", noon.Add(-time.Second)),
	} {
		if ended {
			t.Errorf("it was ended by %s", name)
		}
	}
	if !c.Pass("b", noon) || c.String() != "" {
		t.Errorf("it goes on: %s", &c)
	}
}

func TestAConditionThatIsNotTiedToAProcessOutlivesIt(t *testing.T) {
	t.Parallel()
	var c agent.Conditions
	c.Put(failure.DiskFull, "1", "")
	c.Restart("2")
	want(t, &c, `disk_full of process "1"`)
	if c.Remove(failure.Barred) || !c.Remove(failure.DiskFull) || c.Remove(failure.DiskFull) {
		t.Error("what was removed is told wrongly")
	}
}

func TestATrialThatBlamesNobodyIsProvenAndBlamesNobody(t *testing.T) {
	t.Parallel()
	var c agent.Conditions
	c.Fail("a", "x", "", time.Time{})
	if !c.Fail("b", "y", "acme", time.Time{}) {
		t.Error("it is not proven")
	}
	want(t, &c, `poisoned of process "1": y`)
}
