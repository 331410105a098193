package gateway

import (
	"context"
	"errors"
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

// runnable refuses a workflow that no host of the tenant could run whenever it comes.
func (g *Gateway) runnable(ctx context.Context, of *tenant, s *submission, graph *workflow.Graph) error {
	graph, body, lacking, err := g.replaceLacking(ctx, of.name, graph, &s.spec, s.encoded)
	if refused, is := errors.AsType[*jetstream.BadRequest](err); is {
		return unprocessable("invalid_workflow", "%s", refused.Message)
	}
	if err != nil {
		return invalidWorkflow(err)
	}
	if s.encoded = body; lacking == nil {
		return nil
	}
	e := unprocessable("invalid_workflow", "no host of the fleet can run this workflow: %s", strings.Join(lacking, "; "))
	e.details, e.lacking = map[string]any{"node_errors": lackErrors(graph, lacking)}, true
	return e
}

// lacking asks the fleet whether any host could ever run a job, of which body is the encoded form, and gives what every host is known to
// lack. It is nil when there is no host yet, one is away, or no dispatcher answers: then the job is taken and waits. The error is a
// jetstream.BadRequest when the fleet would refuse the job. When the fleet has just said of the same workflow that a host may run it, it is
// not asked again, unless the job names hosts.
func (g *Gateway) lacking(ctx context.Context, name job.Tenant, spec *job.Spec, body []byte) ([]string, error) {
	now := g.q.Now()
	parsed, err := job.Parse(job.Message{Tenant: string(name), Priority: job.Usual, Received: now, Body: body})
	if err != nil {
		return nil, &jetstream.BadRequest{Message: err.Error()}
	}
	key := runnableKey{name, parsed.Graph.Hash()}
	kept := len(spec.OnlyHosts) == 0 && len(spec.ExcludeHosts) == 0
	runnable, changes := g.runnables.runnable(key, now)
	if runnable && kept {
		return nil, nil
	}
	question := *spec
	question.ExtraData, question.Metadata = nil, nil // which may be large, and change nothing
	asking, err := question.Encode()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	answer, err := g.q.Client(name).Why(ctx, jetstream.WhyRequest{Workflow: asking})
	if refused, is := errors.AsType[*jetstream.BadRequest](err); is {
		return nil, refused
	}
	if err != nil {
		g.log.Info("the fleet could not be asked whether it can run a job; the job is taken", "tenant", name, "error", err)
		return nil, nil
	}
	var lacked []string
	if answer.Next == "" {
		lacked = lackedByAll(answer.Hosts)
	}
	if lacked == nil && kept {
		g.runnables.put(key, now, changes)
	}
	return lacked, nil
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
