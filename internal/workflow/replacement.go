package workflow

import (
	"encoding/json"
	"strconv"
)

// Replacement is the node that ComfyUI puts in the place of one whose class it does not have: an entry of its answer to
// GET /node_replacements, of which it takes the first for a class (app/node_replace_manager.py).
type Replacement struct {
	Class string `json:"new_node_id"`
	// Inputs are the inputs of the new node. Without any, it has those of the old one, as where a class has another name only; ComfyUI
	// leaves it without inputs then.
	Inputs []InputMapping `json:"input_mapping"`
	// Outputs say which output of the new node a link to one of the old node leads to; others lead to the same one.
	Outputs []OutputMapping `json:"output_mapping"`
}

// InputMapping is an input of a new node, with the value of an input of the old one or with one of its own.
type InputMapping struct {
	New   string          `json:"new_id"`
	Old   string          `json:"old_id"`
	Value json.RawMessage `json:"set_value"` // given: its own
}

// OutputMapping is an output of an old node, and the one of the new node that takes its place. Both count from 0.
type OutputMapping struct {
	New int `json:"new_idx"`
	Old int `json:"old_idx"`
}

// Replaced is a workflow in which nodes have been replaced.
type Replaced struct {
	Graph *Graph
	// Inputs are the new names of inputs: node → old name → new name. A node whose inputs are replaced has those that are left.
	Inputs map[string]map[string]string
}

// Replace puts other nodes in the place of those for whose class of gives a replacement. All ids stay. It is nil when there is no such
// node. The error is an *Error: the workflow is none that Parse takes.
func (g *Graph) Replace(of func(class string) (Replacement, bool)) (*Replaced, error) {
	r := replacer{writer: writer{Graph: g}, by: map[int]*Replacement{}, inputs: map[string]map[string]string{}}
	for i := range g.nodes {
		if by, is := of(string(g.text(g.nodes[i].class))); is {
			r.by[i] = &by
		}
	}
	if len(r.by) == 0 {
		return nil, nil
	}
	for i := range g.nodes {
		r.node(&g.nodes[i], r.by[i])
	}
	other, err := Adopt(r.splice())
	if err != nil {
		return nil, err
	}
	return &Replaced{other, r.inputs}, nil
}

// replacer replaces nodes.
type replacer struct {
	writer

	by     map[int]*Replacement // by the index of a node
	inputs map[string]map[string]string
}

// node replaces a node; without a replacement it changes its links only.
func (r *replacer) node(n *node, by *Replacement) {
	if by != nil {
		r.replace(n.class, appendJSON(r.texts, by.Class))
	}
	if by != nil && len(by.Inputs) > 0 {
		r.inputsBy(n, by)
		return
	}
	for _, in := range r.inputsOf(n) {
		if link := r.link(in.value()); link != nil {
			r.replace(in.value(), append(r.texts, link...))
		}
	}
}

// inputsBy writes the inputs of a new node.
func (r *replacer) inputsBy(n *node, by *Replacement) {
	old, renamed := map[string]int32{}, map[string]string{}
	for _, in := range r.inputsOf(n) {
		old[string(r.name(in))] = in.value()
	}
	texts := append(r.texts, '{')
	for _, in := range by.Inputs {
		value := []byte(in.Value)
		if at, given := old[in.Old]; len(value) == 0 && given {
			renamed[in.Old] = in.New
			if value = r.link(at); value == nil {
				value = r.src[r.start(at):r.end(at)]
			}
		}
		if len(value) == 0 {
			continue // the old node has no such input, which need not be given then
		}
		if texts[len(texts)-1] != '{' {
			texts = append(texts, ',')
		}
		texts = append(append(appendJSON(texts, in.New), ':'), value...)
	}
	r.replace(n.inputs, append(texts, '}'))
	r.inputs[r.idOf(n)] = renamed
}

// link is a link that leads to another output than before; nil when the value is no link, or leads to the same one.
func (r *replacer) link(at int32) []byte {
	slot := r.linkSlot(at)
	if slot == nil {
		return nil
	}
	by := r.by[r.lookup(r.text(at+1))]
	if by == nil {
		return nil
	}
	for _, out := range by.Outputs {
		if string(slot) == strconv.Itoa(out.Old) && out.New != out.Old {
			link := append([]byte("["), r.raw(at+1)...)
			return append(strconv.AppendInt(append(link, ','), int64(out.New), 10), ']')
		}
	}
	return nil
}
