package gateway

import (
	"encoding/json"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// lackingError says in ComfyUI's form what every host lacks that a prompt needs, so that its page marks the node. lacking has the
// texts of the hosts' verdicts.
func (g *Gateway) lackingError(name job.Tenant, graph *workflow.Graph, lacking []string) error {
	nodes := graphNodes(graph)
	shown := map[string]nodeErrors{}
	for node, faults := range lackErrors(graph, lacking) {
		class := graph.ClassOf(node)
		for _, fault := range faults {
			if fault.Reason == "missing_node_type" {
				return refusePrompt("missing_node_type", "Node '"+nodes[node].title(class)+"' not found. The custom node may not be installed.",
					"Node ID '#"+node+"'", map[string]any{"node_id": node, "class_type": class, "node_title": nodes[node].title(class)})
			}
			e := shown[node]
			e.Class, e.Dependents = class, []string{}
			e.Errors = append(e.Errors, notInList(fault.Field, nodes[node].Inputs[fault.Field]))
			shown[node] = e
		}
	}
	if len(shown) == 0 {
		return refusePrompt("prompt_outputs_failed_validation", "No host of the fleet can run this prompt", strings.Join(lacking, "; "), nil)
	}
	return &refusedPrompt{promptFailure{
		Error: promptError{
			Type: "prompt_outputs_failed_validation", Message: "Prompt outputs failed validation",
			Details: "no host of the fleet has what the prompt needs: " + strings.Join(lacking, "; "), ExtraInfo: struct{}{},
		},
		NodeErrors: shown,
	}}
}

func notInList(input string, received json.RawMessage) promptError {
	if len(received) == 0 {
		received = json.RawMessage("null")
	}
	text := string(received)
	var plain string
	if json.Unmarshal(received, &plain) == nil {
		text = "'" + plain + "'"
	}
	return promptError{
		Type: "value_not_in_list", Message: "Value not in list", Details: input + ": " + text + " not in the lists of the fleet's hosts",
		ExtraInfo: map[string]any{"input_name": input, "input_config": nil, "received_value": received},
	}
}

// graphNode is a node of a graph, as far as an error shows it.
type graphNode struct {
	Inputs map[string]json.RawMessage `json:"inputs"`
	Meta   struct {
		Title string `json:"title"`
	} `json:"_meta"`
}

func (n graphNode) title(class string) string {
	if n.Meta.Title != "" {
		return n.Meta.Title
	}
	return class
}

func graphNodes(graph *workflow.Graph) map[string]graphNode {
	nodes := map[string]graphNode{}
	_ = members(graph.JSON(), func(id string, raw json.RawMessage) error {
		var n graphNode
		_ = json.Unmarshal(raw, &n) // a title of another type is none
		nodes[id] = n
		return nil
	})
	return nodes
}
