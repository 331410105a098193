package agent_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// Another host has the job then at once, and not when its lease has run out.
func TestAnAgentThatStopsBeforeStartedIsStoredGivesTheJobBack(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{Drain: -1})
	o := h.queued(job.Spec{ID: "one"})
	h.wire.swap("comfy.append.jobs.acme.one.started", "comfy.appenx.jobs.acme.one.started")
	h.accepted(o)
	for range 3 { // each append asks twice
		await(h, h.wire.swapped, "the event")
	}
	h.stop()
	h.ended()
	if e := h.event(o, job.Failed); e.Kind != failure.Drained || e.Counted == nil || *e.Counted {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	h.wantChain(o, "queued failed")
}
