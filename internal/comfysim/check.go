package comfysim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// problem is one error of a validation answer.
type problem struct {
	Type    string         `json:"type"`
	Message string         `json:"message"`
	Details string         `json:"details"`
	Extra   map[string]any `json:"extra_info"`
}

// nodeErrors is one entry of node_errors.
type nodeErrors struct {
	Errors     []problem `json:"errors"`
	Dependents []string  `json:"dependent_outputs"`
	Class      string    `json:"class_type"`
}

// verdict is the result of validating a prompt: a problem, or the outputs to run. nodes may be filled in both cases.
type verdict struct {
	problem *problem
	outputs []string
	nodes   map[string]*nodeErrors
}

func reject(kind, message, details string, extra map[string]any) verdict {
	if extra == nil {
		extra = map[string]any{}
	}
	return verdict{problem: &problem{kind, message, details, extra}, nodes: map[string]*nodeErrors{}}
}

// checked is the state of the validation of all nodes. order has them as they were first visited, as Python's dict keeps them.
type checker struct {
	p     *process
	g     *graph
	done  map[string]checked
	order []string
	path  []string // the nodes that are being validated, outermost first
}

type checked struct {
	valid    bool
	problems []problem
}

// raised is a Python exception inside validation.
type raised struct{ kind, message string }

// recursionLimit is where Python's validation fails on long chains.
const recursionLimit = 980

// validate is ComfyUI's validate_prompt. targets limits the outputs; nil means all.
func (p *process) validate(g *graph, targets []string) verdict {
	var outputs []string
	for _, id := range g.order {
		n := g.nodes[id]
		c := p.srv.classOf(g, n)
		if c == nil {
			return p.missingType(n)
		}
		if c.outputNode && (targets == nil || slices.Contains(targets, id)) {
			outputs = append(outputs, id)
		}
	}
	if len(outputs) == 0 {
		return reject("prompt_no_outputs", "Prompt has no outputs", "", nil)
	}
	c := &checker{p: p, g: g, done: map[string]checked{}}
	v := verdict{nodes: map[string]*nodeErrors{}}
	var details []string
	for _, out := range outputs {
		r := c.output(out)
		if r.valid {
			v.outputs = append(v.outputs, out)
			continue
		}
		for _, problem := range r.problems {
			details = append(details, problem.Message+": "+problem.Details)
		}
		c.report(v.nodes, out)
	}
	if len(v.outputs) > 0 {
		return v
	}
	failed := reject("prompt_outputs_failed_validation", "Prompt outputs failed validation", strings.Join(details, "\n"), nil)
	failed.nodes = v.nodes
	if p.cfg.old() { // dependency_cycle came with 0.20; before, a cycle left node_errors empty
		for id, e := range failed.nodes {
			if e.Errors[0].Type == "dependency_cycle" {
				delete(failed.nodes, id)
			}
		}
	}
	return failed
}

func (p *process) missingType(n *node) verdict {
	details := fmt.Sprintf("Node ID '#%s'", n.id)
	if p.cfg.old() {
		message := fmt.Sprintf("Cannot execute because node %s does not exist.", n.className())
		if !n.hasClass {
			message = "Cannot execute because a node is missing the class_type property."
		}
		return reject("invalid_prompt", message, details, nil)
	}
	title := n.title
	if !n.hasClass {
		if title == "" {
			title = "ID #" + n.id
		}
		return reject("missing_node_type", fmt.Sprintf("Node '%s' has no class_type. The workflow may be corrupted or a custom node is missing.", title),
			details, map[string]any{"node_id": n.id, "class_type": nil, "node_title": nil})
	}
	var shown any
	if title == "" {
		title, shown = pythonText(n.class), n.class
	} else {
		shown = title
	}
	return reject("missing_node_type", fmt.Sprintf("Node '%s' not found. The custom node may not be installed.", title),
		details, map[string]any{"node_id": n.id, "class_type": n.class, "node_title": shown})
}

// report adds every node with problems seen so far to node_errors, as dependent on this output.
func (c *checker) report(into map[string]*nodeErrors, output string) {
	for _, id := range c.order {
		r := c.done[id]
		if len(r.problems) == 0 {
			continue
		}
		if into[id] == nil {
			into[id] = &nodeErrors{Errors: r.problems, Class: c.g.nodes[id].className()}
		}
		into[id].Dependents = append(into[id].Dependents, output)
	}
}

func (c *checker) set(id string, r checked) checked {
	if _, seen := c.done[id]; !seen {
		c.order = append(c.order, id)
	}
	c.done[id] = r
	return r
}

// output validates from an output node; an exception becomes a problem of that node.
func (c *checker) output(id string) checked {
	c.path = nil
	r, err := c.node(id)
	if err == nil {
		return r
	}
	return c.set(id, checked{problems: []problem{{
		"exception_during_validation", "Exception when validating node", err.message,
		map[string]any{"exception_type": err.kind, "traceback": []string{"  File \"/srv/comfyui/execution.py\", line 1184, in validate_prompt\n"}},
	}}})
}

// node is ComfyUI's validate_inputs.
func (c *checker) node(id string) (checked, *raised) {
	if r, known := c.done[id]; known {
		return r, nil
	}
	if i := slices.Index(c.path, id); i >= 0 {
		return c.cycle(c.path[i:]), nil
	}
	if len(c.path) >= recursionLimit {
		return checked{}, &raised{"RecursionError", "maximum recursion depth exceeded"}
	}
	n := c.g.nodes[id]
	if !n.hasInputs {
		return checked{}, &raised{"KeyError", "'inputs'"}
	}
	c.path = append(c.path, id)
	defer func() { c.path = c.path[:len(c.path)-1] }()
	r := checked{valid: true}
	for _, spec := range c.inputs(n) {
		ok, problem, err := c.input(n, spec)
		if err != nil {
			return checked{}, err
		}
		if c.lenient(n, spec, problem) {
			ok, problem = true, nil
		}
		if problem != nil {
			r.problems = append(r.problems, *problem)
		}
		r.valid = r.valid && ok
	}
	if known, already := c.done[id]; already { // part of a cycle
		return known, nil
	}
	return c.set(id, r), nil
}

// inputs are the declared inputs; a class that is open declares what it is given.
func (c *checker) inputs(n *node) []inputSpec {
	class := c.p.srv.classOf(c.g, n)
	if !class.open {
		return class.inputs
	}
	var specs []inputSpec
	for _, name := range n.order {
		if _, _, linked := link(n.inputs[name]); linked {
			specs = append(specs, inputSpec{name: name, kind: "*", config: json.RawMessage(`["*"]`)})
		}
	}
	return specs
}

// input validates one declared input. It is not ok when it, or anything upstream of it, has a problem.
func (c *checker) input(n *node, spec inputSpec) (bool, *problem, *raised) {
	value, given := n.inputs[spec.name]
	if !given {
		if !spec.required {
			return true, nil, nil
		}
		return false, &problem{"required_input_missing", "Required input is missing", spec.name, map[string]any{"input_name": spec.name}}, nil
	}
	if list, isList := value.([]any); isList {
		return c.linked(spec, list)
	}
	converted, problem := c.p.widget(spec, value)
	if problem != nil {
		return false, problem, nil
	}
	n.inputs[spec.name] = converted
	return true, nil, nil
}

func (s inputSpec) wrong(kind, message, details string, received any) *problem {
	return &problem{kind, message, details, map[string]any{"input_name": s.name, "input_config": s.pair(), "received_value": received}}
}

// linked validates an input that is a list, which ComfyUI always takes for a link.
func (c *checker) linked(spec inputSpec, list []any) (bool, *problem, *raised) {
	if len(list) != 2 {
		return false, spec.wrong("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", spec.name, list), nil
	}
	id, isString := list[0].(string)
	from := c.g.nodes[id]
	if !isString || from == nil {
		name := pythonText(list[0])
		if isString {
			name = quote(id)
		}
		return false, nil, &raised{"KeyError", name}
	}
	slot, isNumber := list[1].(json.Number)
	at, err := slot.Int64()
	if !isNumber || err != nil {
		return false, nil, &raised{"TypeError", "tuple indices must be integers or slices, not str"}
	}
	outputs := c.p.srv.classOf(c.g, from).outputs
	if at < 0 {
		at += int64(len(outputs))
	}
	if at < 0 || at >= int64(len(outputs)) {
		return false, nil, &raised{"IndexError", "tuple index out of range"}
	}
	if got := outputs[at]; !fits(got, spec.kind) {
		details := fmt.Sprintf("%s, received_type(%s) mismatch input_type(%s)", spec.name, got, spec.kind)
		return false, &problem{"return_type_mismatch", "Return type mismatch between linked nodes", details, map[string]any{
			"input_name": spec.name, "input_config": spec.pair(), "received_type": got, "linked_node": list,
		}}, nil
	}
	return c.upstream(spec, id, list), nil, nil
}

// upstream validates the source of a link; an exception there becomes a problem of the source.
func (c *checker) upstream(spec inputSpec, id string, list []any) bool {
	r, err := c.node(id)
	if err == nil {
		return r.valid
	}
	c.set(id, checked{problems: []problem{{
		"exception_during_inner_validation", "Exception when validating inner node", err.message, map[string]any{
			"input_name": spec.name, "input_config": spec.pair(), "exception_message": err.message, "exception_type": err.kind,
			"traceback": []string{"  File \"/srv/comfyui/execution.py\", line 955, in validate_inputs\n"}, "linked_node": list,
		},
	}}})
	return false
}

// cycle adds a problem to every node of a cycle.
func (c *checker) cycle(members []string) checked {
	var names []string
	for _, id := range append(slices.Clone(members), members[0]) {
		names = append(names, fmt.Sprintf("%s (%s)", id, c.g.nodes[id].className()))
	}
	for _, id := range members {
		c.set(id, checked{problems: []problem{{
			"dependency_cycle", "Dependency cycle detected", strings.Join(names, " -> "),
			map[string]any{"node_id": id, "cycle_nodes": slices.Clone(members)},
		}}})
	}
	return c.done[members[0]]
}

// fits says whether an output type may go into an input type; both may be lists like "INT,FLOAT".
func fits(got, want string) bool {
	if got == "*" || want == "*" || got == want {
		return true
	}
	for g := range strings.SplitSeq(got, ",") {
		if !slices.Contains(strings.Split(want, ","), g) {
			return false
		}
	}
	return true
}

// widget converts and validates a value that is no link.
func (p *process) widget(spec inputSpec, value any) (any, *problem) {
	converted, message := coerce(spec.kind, value)
	if message != "" {
		problem := spec.wrong("invalid_input_type", fmt.Sprintf("Failed to convert an input value to a %s value", spec.kind),
			fmt.Sprintf("%s, %s, %s", spec.name, pythonText(value), message), value)
		problem.Extra["exception_message"] = message
		return nil, problem
	}
	if spec.dynamic { // LoadImage.VALIDATE_INPUTS
		if f, _ := p.inputFile(value); f.data == nil {
			return nil, &problem{"custom_validation_failed", "Custom validation failed for node",
				fmt.Sprintf("%s - Invalid image file: %s", spec.name, pythonText(value)), map[string]any{"input_name": spec.name}}
		}
		return value, nil
	}
	if number, ok := converted.(json.Number); ok {
		if spec.min != "" && less(number, spec.min) {
			return nil, spec.wrong("value_smaller_than_min", fmt.Sprintf("Value %s smaller than min of %s", number, spec.min), spec.name, converted)
		}
		if spec.max != "" && less(spec.max, number) {
			return nil, spec.wrong("value_bigger_than_max", fmt.Sprintf("Value %s bigger than max of %s", number, spec.max), spec.name, converted)
		}
	}
	if spec.choices == nil {
		return converted, nil
	}
	return converted, spec.choose(value)
}

// choose validates a choice. Lists over 20 are neither printed nor repeated in input_config.
func (s inputSpec) choose(value any) *problem {
	text, isString := value.(string)
	if isString && slices.Contains(s.choices, text) {
		return nil
	}
	shown, config := pythonList(s.choices), any(s.pair())
	if len(s.choices) > 20 {
		shown, config = fmt.Sprintf("(list of length %d)", len(s.choices)), nil
	}
	problem := s.wrong("value_not_in_list", "Value not in list", fmt.Sprintf("%s: '%s' not in %s", s.name, pythonText(value), shown), value)
	problem.Extra["input_config"] = config
	return problem
}
