package agent_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
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

// Whoever reads one event alone knows of which job it is.
func TestEveryEventSaysWhatThePublisherHasSaid(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	check := func(e job.Event, o *job.Event) {
		t.Helper()
		got := job.Event{
			Job: e.Job, Tenant: e.Tenant, Priority: e.Priority, Hash: e.Hash, Host: e.Host, Attempt: e.Attempt,
			Name: e.Name, Metadata: e.Metadata, RequeueOf: e.RequeueOf, Webhook: e.Webhook, Traceparent: e.Traceparent,
		}
		if diff := cmp.Diff(*o, got); diff != "" {
			t.Errorf("%s: %s", e.EventKind, diff)
		}
		if e.Time.Location() != time.UTC || time.Since(e.Time).Abs() > time.Hour {
			t.Errorf("%s is of %s", e.EventKind, e.Time)
		}
	}
	for _, id := range []job.ID{"well", "badly"} {
		end := job.Completed
		h.fake.returns(now(), &comfy.Result{}, nil)
		if id == "badly" {
			end = job.Failed
			h.fake.returns(now(), nil, failure.New(failure.ExecutionError, "x"))
		}
		o := h.queued(job.Spec{ID: id, Name: "a cat", Metadata: json.RawMessage(`{"a":1}`), Webhook: "hook"})
		o.Message.RequeueOf, o.Message.Traceparent, o.Attempt = "former", trace, 2
		h.accepted(o)
		want := job.Event{
			Job: id, Tenant: "acme", Priority: 5, Hash: o.Hash, Host: "gpu", Attempt: 2,
			Name: "a cat", Metadata: json.RawMessage(`{"a":1}`), RequeueOf: "former", Webhook: "hook", Traceparent: trace,
		}
		check(h.event(o, job.Started), &want)
		check(h.event(o, end), &want)
	}
	o := h.byReference("unread", "acme/none.json", "")
	h.accepted(o)
	check(h.event(o, job.Failed), &job.Event{Job: "unread", Tenant: "acme", Priority: 5, Hash: o.Hash, Host: "gpu", Attempt: 1})
}

// A dispatcher compares hosts and jobs by what a failed event says.
func TestAFailureIsToldWithWhatComfyUISaidOfIt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	for id, c := range map[job.ID]struct {
		progress, wantProgress float64
		ran, wantRan           time.Duration
	}{"within": {0.5, 0.5, time.Second, time.Second}, "above": {1.5, 1, 0, 0}, "below": {-1, 0, -time.Second, 0}} {
		e := h.fails(id, saves, &failure.Failure{
			Kind: failure.ExecutionError, Message: "m", Node: "1", Class: "EmptyImage", Exception: "E", Progress: c.progress, NodeRan: c.ran, Waited: id == "within",
		})
		got := []any{e.Kind, e.Message, e.Node, e.Class, e.Exception, e.Progress, e.NodeRan, e.Waited, e.Proven, e.PromptID != ""}
		want := []any{failure.ExecutionError, "m", "1", "EmptyImage", "E", c.wantProgress, job.Duration(c.wantRan), id == "within", false, true}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}

// What is missing is what would be there if nothing had come.
func TestOutputsAreMissingOnlyWhenThereIsNone(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	for id, c := range map[job.ID]struct {
		result comfy.Result
		want   bool
	}{
		"none": {comfy.Result{Missing: true}, true}, "some": {comfy.Result{Missing: true, Texts: map[string][]string{"2": {"a"}}}, false}, "cached": {comfy.Result{OutputsReused: true}, false},
	} {
		h.fake.returns(now(), &c.result, nil)
		o := h.queued(job.Spec{ID: id})
		h.accepted(o)
		if e := h.event(o, job.Completed); e.OutputsMissing != c.want || e.OutputsReused != c.result.OutputsReused {
			t.Errorf("%s: missing is %t, want %t; reused is %t", id, e.OutputsMissing, c.want, e.OutputsReused)
		}
	}
}

// Of interruptions the first is free, of refusals the first of each host (docs/failures.md).
func TestTheSecondFailureOfAKindCounts(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.online()
	for id, c := range map[job.ID]struct {
		before failure.Kind
		host   string
		kind   failure.Kind
		want   bool
	}{
		"interrupted": {"", "", failure.Interrupted, false}, "again": {failure.Interrupted, "other", failure.Interrupted, true},
		"other-kind": {failure.ExecutionError, "gpu", failure.Interrupted, false},
		"refused":    {"", "", failure.Refused, false}, "elsewhere": {failure.Refused, "other", failure.Refused, false}, "here": {failure.Refused, "gpu", failure.Refused, true},
	} {
		h.fake.returns(now(), nil, failure.New(c.kind, "no"))
		o := h.queued(job.Spec{ID: id})
		if c.before != "" {
			h.append(o, job.Event{EventKind: job.Started, Host: c.host, Attempt: 1, PromptID: "x"})
			h.append(o, job.Event{EventKind: job.Failed, Host: c.host, Attempt: 1, Kind: c.before})
			h.append(o, job.Event{EventKind: job.Retrying, Attempt: 2})
			o.Attempt, o.LastInChain = 2, h.last(o).ChainSequence
		}
		h.accepted(o)
		if e := h.failed(o); e.Host != "gpu" || e.Kind != c.kind || e.Counted == nil || *e.Counted != c.want {
			t.Errorf("%s: failed is %+v, want that it counts: %t", id, e, c.want)
		}
	}
}

// failed waits for the failure of the attempt of an offer.
func (h *house) failed(o queue.Offer) job.Event {
	h.t.Helper()
	for e, err := range h.q.Follow(h.ctx, "acme", o.Job) {
		if err != nil {
			h.t.Fatal(err)
		}
		if e.EventKind == job.Failed && e.Attempt == o.Attempt {
			return e
		}
	}
	h.t.Fatal("the attempt does not fail")
	return job.Event{}
}
