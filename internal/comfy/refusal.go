package comfy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// refusal is the body of a 400, and of a 200 that dropped
// outputs. Old servers write error as a string, and node_errors as a list when it is empty.
type refusal struct {
	Error json.RawMessage `json:"error"`
	Nodes json.RawMessage `json:"node_errors"`
}

type nodeError struct {
	Errors []fault `json:"errors"`
	Class  text    `json:"class_type"`
}

// fault is one reason; the members of extra_info that are set depend on Type.
type fault struct {
	Type    text `json:"type"`
	Message text `json:"message"`
	Details text `json:"details"`
	Extra   struct {
		Node     text            `json:"node_id"`
		Class    *text           `json:"class_type"`
		Input    text            `json:"input_name"`
		Config   json.RawMessage `json:"input_config"`
		Received json.RawMessage `json:"received_value"`

		Exception text `json:"exception_type"`
	} `json:"extra_info"`
}

// fromComfyUI reports whether the body is ComfyUI's: it has both members, and error names a fault.
func (r refusal) fromComfyUI() bool {
	_, named := r.top()
	return named && r.Nodes != nil
}

// failure classifies a refusal that is ComfyUI's own. What no ComfyUI can accept is invalid_workflow; a class or a
// model file that is not there is incapable; all else depends on what is installed, and is refused by this host.
func (r refusal) failure(absent map[string]bool) *failure.Failure {
	top, _ := r.top()
	if f := missingClass(top); f != nil {
		return f
	}
	if f := r.nodesFailure(absent); f != nil {
		return f
	}
	f := &failure.Failure{Kind: failure.Refused, Exception: clip(oneLine(string(top.Type)), 100)}
	message := cmp.Or(oneLine(string(top.Message)), oneLine(string(top.Details)), string(top.Type))
	switch top.Type {
	case "no_prompt", "dependency_cycle":
		f.Kind = failure.InvalidWorkflow
	case "", "invalid_prompt": // old servers
		if top.Message == "no prompt" || top.Message == "Cannot execute because a node is missing the class_type property." {
			f.Kind = failure.InvalidWorkflow
		}
	case "prompt_no_outputs":
		f.Kind = failure.InvalidWorkflow
		message = "the workflow has no output node (such as SaveImage), or none of include_outputs is one"
	case "invalid_prompt_id":
		return failure.New(failure.Lost, "ComfyUI refused the prompt id: "+message)
	}
	f.Message = "ComfyUI refused the workflow: " + message
	return f
}

func (r refusal) top() (top fault, named bool) {
	var s string
	if json.Unmarshal(r.Error, &s) == nil {
		return fault{Message: text(s)}, s != ""
	}
	if decode(r.Error, &top) != nil {
		return fault{}, false
	}
	return top, top.Type != ""
}

// missingClass reads both forms: missing_node_type since 0.12, and invalid_prompt with "Cannot execute because node X does
// not exist." before.
func missingClass(top fault) *failure.Failure {
	node := string(top.Extra.Node)
	if node == "" {
		node = strings.Trim(strings.TrimPrefix(string(top.Details), "Node ID "), "'#")
	}
	f := &failure.Failure{Kind: failure.Incapable, Node: clip(oneLine(node), 100), Exception: "missing_node_type"}
	if class, old := oldMissingClass(top); old {
		f.Class = clip(oneLine(class), 100)
	} else if top.Type != "missing_node_type" {
		return nil
	} else if top.Extra.Class != nil {
		f.Class = clip(oneLine(string(*top.Extra.Class)), 100)
	}
	if f.Class == "" {
		f.Kind = failure.InvalidWorkflow
		f.Message = fmt.Sprintf("node %s has no class_type; export the workflow again with \"Workflow → Export (API)\"", f.Node)
		return f
	}
	f.Message = fmt.Sprintf("node class %s (node %s) is not installed on this host", f.Class, cmp.Or(f.Node, "unknown"))
	return f
}

func oldMissingClass(top fault) (class string, is bool) {
	if top.Type != "invalid_prompt" && top.Type != "" {
		return "", false
	}
	rest, is := strings.CutPrefix(string(top.Message), "Cannot execute because node ")
	if !is {
		return "", false
	}
	return strings.CutSuffix(rest, " does not exist.")
}

// finding is one fault of one node, and its kind.
type finding struct {
	node, class string
	fault       fault
	kind        failure.Kind
}

// nodesFailure is nil when no node is named. A node that is named without a reason is refused too: it was dropped.
func (r refusal) nodesFailure(absent map[string]bool) *failure.Failure {
	var nodes map[string]nodeError
	_ = decode(r.Nodes, &nodes) // absent, or a list: no node is named
	var found []finding
	for _, node := range slices.SortedFunc(maps.Keys(nodes), compareNodes) {
		class := string(nodes[node].Class)
		faults := nodes[node].Errors
		if len(faults) == 0 {
			faults = []fault{{Type: "dropped", Message: "ComfyUI leaves this node out and does not say why"}}
		}
		for _, fault := range faults {
			found = append(found, finding{node, class, fault, fault.kind(absent)})
		}
	}
	if len(found) == 0 {
		return nil
	}
	kind := found[0].kind
	for _, f := range found {
		if rank(f.kind) < rank(kind) {
			kind = f.kind
		}
	}
	found = slices.DeleteFunc(found, func(f finding) bool { return f.kind != kind })
	texts := make([]string, 0, len(found))
	for _, f := range found {
		texts = append(texts, f.text())
	}
	return &failure.Failure{
		Kind: kind, Message: clip(strings.Join(texts, "; "), maxMessage), Node: clip(oneLine(found[0].node), 100),
		Class: clip(oneLine(found[0].class), 100), Exception: clip(oneLine(string(found[0].fault.Type)), 100),
	}
}

// rank orders kinds by how little another host would help.
func rank(k failure.Kind) int {
	return slices.Index([]failure.Kind{failure.InvalidWorkflow, failure.Refused, failure.Incapable}, k)
}

// kind is what a fault means for the job. A fault of structure is the workflow's: a malformed link, a cycle, a link to a
// node that is not in the graph. A model file that is not in the list is a requirement that the host lacks. All else
// depends on which versions, files and choices are installed.
func (f fault) kind(absent map[string]bool) failure.Kind {
	switch f.Type {
	case "bad_linked_input", "dependency_cycle":
		return failure.InvalidWorkflow
	case "value_not_in_list":
		if f.lacksModel() {
			return failure.Incapable
		}
	case "exception_during_validation", "exception_during_inner_validation":
		if f.namesAbsent(absent) {
			return failure.InvalidWorkflow
		}
	}
	return failure.Refused
}

// lacksModel says that the value has the name of a model file, which makes it a requirement of the workflow.
func (f fault) lacksModel() bool {
	var received string
	return json.Unmarshal(f.Extra.Received, &received) == nil && workflow.NamesModel(received)
}

// namesAbsent reports whether validation failed at a link to a node that the graph lacks: Python's KeyError of its id.
func (f fault) namesAbsent(absent map[string]bool) bool {
	key := strings.TrimSpace(string(f.Details))
	return f.Extra.Exception == "KeyError" && len(key) > 1 && absent[key[1:len(key)-1]]
}

func (f finding) text() string {
	var received string
	if f.kind == failure.Incapable && json.Unmarshal(f.fault.Extra.Received, &received) == nil {
		return oneLine(fmt.Sprintf("model %q (%s of node %s, %s) is not on this host", received, f.fault.Extra.Input, f.node, f.class))
	}
	message := cmp.Or(oneLine(string(f.fault.Message)), string(f.fault.Type))
	if details := oneLine(string(f.fault.Details)); details != "" {
		message += ": " + clip(details, 200)
	}
	if f.fault.Type == "custom_validation_failed" {
		message += ` (to send a file with the job, list it in the job's "inputs")`
	}
	return oneLine(fmt.Sprintf("node %s (%s): %s", f.node, f.class, message))
}
