package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
)

// What a graph of very many nodes has done may not fit into one event of 1 MiB, and its files are worth more.
func TestAnEventLeavesOutItsNodesWhenThereAreTooMany(t *testing.T) {
	t.Parallel()
	times, cached := map[string]time.Duration{}, []string{}
	for i := range 60_000 {
		node := fmt.Sprintf("a-long-id-of-a-node-%d", i)
		times[node], cached = time.Second, append(cached, node)
	}
	for name, result := range map[string]*comfy.Result{"Times": {NodeTimes: times, CachedNodes: []string{"1"}}, "Cached": {CachedNodes: cached}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{Outputs: agent.OutputsNone})
			result.Outputs = []comfy.Output{picture}
			h.fake.returns(now(), result, nil)
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			if e := h.event(o, job.Completed); len(e.Outputs) != 1 || len(e.NodeTimes) != 0 || len(e.CachedNodes) != 0 {
				t.Errorf("completed has %d outputs, %d times and %d cached nodes, want the output alone", len(e.Outputs), len(e.NodeTimes), len(e.CachedNodes))
			}
			h.acked(o)
			h.wantChain(o, "queued started completed")
		})
	}
}
