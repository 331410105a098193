package comfysim

import "encoding/json"

// A lenient host (Config.Lenient) takes what suites of other programs send, which were written for hosts with other nodes and models: any
// class, links of any type, values that are in no list, and inputs that are missing. What no ComfyUI could read is refused as always: no
// JSON, a node without class_type or inputs, a link to a node that is not there, a cycle, a prompt without an output.

// classOf is the class of a node; nil: the host has none of this name. A class that a lenient host does not know passes a picture
// through, and is an output when no node takes anything from it.
func (s *Server) classOf(g *graph, n *node) *class {
	c := s.classes()[n.className()]
	if c != nil || !s.cfg.Lenient || n.className() == "" {
		return c
	}
	c = openClass(n.className())
	c.outputNode = !g.feeds(n.id)
	return c
}

// feeds reports whether another node takes something from a node.
func (g *graph) feeds(id string) bool {
	for _, n := range g.nodes {
		for _, value := range n.inputs {
			if from, _, linked := link(value); linked && from == id {
				return true
			}
		}
	}
	return false
}

// lenient reports whether a problem of an input is passed over. In the place of a value that is missing, or no value of its kind, comes
// the input's default, or its first choice.
func (c *checker) lenient(n *node, spec inputSpec, p *problem) bool {
	if !c.p.cfg.Lenient || p == nil || p.Type == "bad_linked_input" {
		return false
	}
	if p.Type == "required_input_missing" || p.Type == "invalid_input_type" {
		delete(n.inputs, spec.name)
		if usual := spec.usual(); usual != nil {
			n.inputs[spec.name] = usual
		}
	}
	return true
}

// usual is the value that an input has in a new node; nil when it is a link.
func (s inputSpec) usual() any {
	var parts []json.RawMessage
	var options struct {
		Default json.RawMessage `json:"default"`
	}
	if json.Unmarshal(s.config, &parts) == nil && len(parts) > 1 && json.Unmarshal(parts[1], &options) == nil && len(options.Default) > 0 {
		if value, err := decode(options.Default); err == nil {
			return value
		}
	}
	if len(s.choices) > 0 {
		return s.choices[0]
	}
	return nil
}
