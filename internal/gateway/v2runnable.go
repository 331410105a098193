package gateway

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	verdicts "github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// nodeError is what is wrong with a node of a workflow.
type nodeError struct {
	Field   string `json:"field,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// whyTimeout bounds the question which hosts could run a workflow. Without an answer the job is published all the same.
const whyTimeout = 3 * time.Second

// runnable refuses a workflow that no host of the tenant could run whenever it comes: every host is known to lack something. When a
// host is away, or there is none yet, the job waits instead.
func (g *Gateway) runnable(ctx context.Context, of *tenant, spec *job.Spec, graph *workflow.Graph) error {
	asked := *spec
	asked.ExtraData = nil
	body, err := asked.Encode()
	if err != nil {
		return invalidWorkflow(err)
	}
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	answer, err := g.q.Client(of.name).Why(ctx, jetstream.WhyRequest{Workflow: body})
	if refused, is := err.(*jetstream.BadRequest); is { //nolint:errorlint // Client returns it as it is
		return unprocessable("invalid_workflow", "%s", refused.Message)
	}
	if err != nil || answer.Next != "" {
		return nil
	}
	lacking := lackedByAll(answer.Hosts)
	if lacking == nil {
		return nil
	}
	e := unprocessable("invalid_workflow", "no host of the fleet can run this workflow: %s", strings.Join(lacking, "; "))
	e.details = map[string]any{"node_errors": lackErrors(graph, lacking)}
	return e
}

// lackedByAll is what every host lacks that may run the tenant's jobs, as texts of workflow.Missing; when they lack different things,
// what the first one lacks. It is nil when a host may have all.
func lackedByAll(hosts []verdicts.HostVerdict) []string {
	var common, first []string
	seen := false
	for _, h := range hosts {
		if h.Code == verdicts.CodeOthers {
			continue
		}
		if h.Code != verdicts.CodeMissing || h.Text == "" {
			return nil
		}
		lacks := strings.Split(h.Text, "; ")
		if !seen {
			common, first, seen = slices.Clone(lacks), lacks, true
			continue
		}
		common = slices.DeleteFunc(common, func(text string) bool { return !slices.Contains(lacks, text) })
	}
	if len(common) > 0 {
		return common
	}
	return first
}

// lackErrors says of each node what it needs that is lacking.
func lackErrors(graph *workflow.Graph, lacking []string) map[string][]nodeError {
	found := map[string][]nodeError{}
	for _, node := range graph.Nodes() {
		class := graph.ClassOf(node)
		for _, text := range lacking {
			if text == (workflow.Missing{Class: class}).String() {
				found[node] = append(found[node], nodeError{Field: "class_type", Reason: "missing_node_type", Message: text})
			} else if _, where, _ := strings.Cut(text, " in "+class+"."); where != "" {
				found[node] = append(found[node], nodeError{Field: where, Reason: "value_not_in_list", Message: text})
			}
		}
	}
	return found
}
