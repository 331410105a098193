package gateway

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// replaceLacking makes a job one that some host could run. When every host lacks node classes that ComfyUI replaces by others, the nodes
// are replaced, in spec too, if the job can run then. Otherwise the job is left as it is, and lacking is what every host lacks.
func (g *Gateway) replaceLacking(ctx context.Context, name job.Tenant, graph *workflow.Graph, spec *job.Spec, body []byte) (with *workflow.Graph, encoded []byte, lacking []string, err error) {
	lacking, err = g.lacking(ctx, name, spec, body)
	if err != nil || lacking == nil {
		return graph, body, nil, err
	}
	replaced, err := g.withReplacements(ctx, name, graph, lacking)
	if err != nil {
		g.log.Warn("it could not be read which nodes ComfyUI replaces", "tenant", name, "error", err)
	}
	if replaced == nil {
		return graph, body, lacking, nil
	}
	other := *spec
	other.Workflow, other.Inputs = replaced.Graph.Raw(), movedInputs(spec.Inputs, replaced.Inputs)
	if encoded, err = other.Encode(); err != nil {
		return graph, body, nil, err
	}
	if still, err := g.lacking(ctx, name, &other, encoded); err != nil || still != nil {
		return graph, body, lacking, err
	}
	*spec = other
	return replaced.Graph, encoded, nil, nil
}

// withReplacements is a workflow without the classes that every host lacks, as far as a host says what ComfyUI puts in their place; nil when
// none does.
func (g *Gateway) withReplacements(ctx context.Context, name job.Tenant, graph *workflow.Graph, lacking []string) (*workflow.Replaced, error) {
	p, err := g.catalogs.united(ctx, name, replacementsRoute, uniteReplacements)
	if err != nil {
		return nil, err
	}
	var listed map[string]json.RawMessage
	if !object(p.body, &listed) {
		return nil, nil
	}
	return graph.Replace(func(class string) (workflow.Replacement, bool) {
		var by []workflow.Replacement
		if !slices.Contains(lacking, workflow.Missing{Class: class}.String()) || json.Unmarshal(listed[class], &by) != nil || len(by) == 0 {
			return workflow.Replacement{}, false
		}
		return by[0], true
	})
}

const replacementsRoute = "node_replacements"

// uniteReplacements unites the hosts' lists of replaced nodes, by class (depth 1). A class that several hosts list counts as the first
// says.
func uniteReplacements(sources []source) []byte { return uniteObjects(1)(sources) }

// movedInputs are the files of inputs under the names that these have in the new nodes.
func movedInputs(inputs []job.Input, names map[string]map[string]string) []job.Input {
	var left []job.Input
	for _, in := range inputs {
		if of, replaced := names[in.Node]; replaced {
			if in.Input = of[in.Input]; in.Input == "" {
				continue
			}
		}
		left = append(left, in)
	}
	return left
}
