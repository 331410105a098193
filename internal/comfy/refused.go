package comfy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// refusal is the body of a 400, and of a 200 that dropped
// outputs. Old servers write error as a string.
type refusal struct {
	Error      json.RawMessage      `json:"error"`
	NodeErrors map[string]nodeError `json:"node_errors"`
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
	} `json:"extra_info"`
}

// failure classifies a refusal: what any host would refuse too wins over what
// only this host lacks. It is nil when the body names no fault.
func (r refusal) failure() *failure.Failure {
	top, named := r.top()
	if f := missingClass(top); f != nil {
		return f
	}
	if f := r.nodesFailure(); f != nil {
		return f
	}
	if !named {
		return nil
	}
	message := cmp.Or(oneLine(string(top.Message)), oneLine(string(top.Details)), string(top.Type))
	switch top.Type {
	case "prompt_no_outputs":
		message = "the workflow has no output node (such as SaveImage), or none of include_outputs is one"
	case "invalid_prompt_id":
		return failure.New(failure.Lost, "ComfyUI refused the prompt id: "+message)
	}
	return failure.New(failure.InvalidWorkflow, "ComfyUI refused the workflow: "+message)
}

func (r refusal) top() (top fault, named bool) {
	var s string
	if json.Unmarshal(r.Error, &s) == nil {
		return fault{Message: text(s)}, s != ""
	}
	if decode(r.Error, &top) != nil {
		return fault{}, false
	}
	return top, top.Type != "" || top.Message != ""
}

// missingClass knows both wordings: missing_node_type since 0.12, and before it
// invalid_prompt with "Cannot execute because node X does not exist."
func missingClass(top fault) *failure.Failure {
	node := string(top.Extra.Node)
	if node == "" {
		node = strings.Trim(strings.TrimPrefix(string(top.Details), "Node ID "), "'#")
	}
	f := &failure.Failure{Kind: failure.Incapable, Node: clip(oneLine(node), 100), Exception: "missing_node_type"}
	if class, old := oldMissingClass(string(top.Message)); old {
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

func oldMissingClass(message string) (class string, is bool) {
	rest, is := strings.CutPrefix(message, "Cannot execute because node ")
	if !is {
		return "", false
	}
	return strings.CutSuffix(rest, " does not exist.")
}

// finding is one fault of one node, judged.
type finding struct {
	node, class string
	fault       fault
	kind        failure.Kind
}

func (r refusal) nodesFailure() *failure.Failure {
	var found []finding
	for _, node := range slices.SortedFunc(maps.Keys(r.NodeErrors), compareNodes) {
		for _, fault := range r.NodeErrors[node].Errors {
			class := string(r.NodeErrors[node].Class)
			found = append(found, finding{node, class, fault, faultKind(class, fault)})
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
	return slices.Index([]failure.Kind{failure.InvalidWorkflow, failure.ExecutionError, failure.Incapable}, k)
}

// faultKind says who can cure a fault. A file that a LoadImage* misses may lie
// on another host, and is one job's input, not the graph's: it counts as an
// execution error, so that another host gives a second opinion and no other
// tenant is blocked.
func faultKind(class string, f fault) failure.Kind {
	switch {
	case f.Type == "value_not_in_list" && f.lacksFile():
		return failure.Incapable
	case f.Type == "custom_validation_failed" && f.lacksInput(class):
		return failure.ExecutionError
	}
	return failure.InvalidWorkflow
}

// lacksFile tells a missing model from a wrong choice: the value has the name
// of a model file, or the choices have.
func (f fault) lacksFile() bool {
	var received string
	if json.Unmarshal(f.Extra.Received, &received) == nil && fileLike(received) {
		return true
	}
	choices, _ := readChoices(f.Extra.Config)
	return slices.ContainsFunc(choices, fileLike)
}

func (f fault) lacksInput(class string) bool {
	return strings.HasPrefix(class, "LoadImage") || strings.Contains(strings.ToLower(string(f.Details)), "invalid image file") ||
		strings.HasPrefix(class, "Load") && strings.Contains(strings.ToLower(string(f.Details)), "invalid")
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
	if f.kind == failure.ExecutionError {
		message += ` (a file that a job brings along belongs into its "inputs")`
	}
	return oneLine(fmt.Sprintf("node %s (%s): %s", f.node, f.class, message))
}

// readChoices reads the choices of an input that are strings; enumerated is
// false for inputs that have no list.
func readChoices(config json.RawMessage) (choices []string, enumerated bool) {
	l, enumerated := readList(config)
	return l.texts, enumerated
}
