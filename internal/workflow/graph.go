package workflow

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
)

// Graph is a workflow in API format that any host may be given:
// {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}}, …}.
// It is immutable.
type Graph struct {
	document
	nodes  []node
	inputs []member // of all nodes, node by node

	hashed   sync.Once
	hash     Hash
	measured sync.Once
	size     int64
}

// node is one node; its member's name is the id, its value the node's object.
type node struct {
	member
	index     uint32 // the id as an array index, or noIndex
	class     int32  // token of class_type, or -1
	inputs    int32  // token of inputs, or -1
	low, high int32  // its inputs are Graph.inputs[low:high]
}

// Parse reads a workflow in API format. It keeps no reference to raw.
//
// It refuses, with an *Error, what ComfyUI could not read or would be wedged
// by: anything but JSON in UTF-8 without lone surrogates (at most 200 levels,
// 1 GiB; NaN, Infinity and -Infinity are taken, as Python takes them); workflows
// in UI format or without nodes; nodes without class or inputs; subgraphs that
// were not expanded; links to nodes that do not exist; cycles; chains of links
// too long for ComfyUI's recursion; and workflows that need more than 4 096
// classes and models. Of a name given twice in an object the last counts, as in
// ComfyUI.
func Parse(raw []byte) (*Graph, error) {
	return Adopt(bytes.Clone(raw))
}

// Adopt is Parse without a copy: the caller must not change the bytes any more.
func Adopt(raw []byte) (*Graph, error) {
	g, err := index(raw)
	if err != nil {
		return nil, err
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

// index finds the nodes and inputs of any JSON object, whatever they are.
func index(src []byte) (*Graph, error) {
	tokens, err := scan(src)
	if err != nil {
		return nil, err
	}
	d := document{src: src, tokens: tokens}
	if d.kind(0) != kindObject {
		return nil, refuse("", "the workflow is %s, not an object of nodes; %s", d.kindName(0), exportHint)
	}
	g := &Graph{document: d}
	g.outline()
	return g, nil
}

func (g *Graph) outline() {
	var rooms struct { // so that only what there is is allocated
		members [64]member
		inputs  [192]member
	}
	members, inputs := g.appendMembers(rooms.members[:0], 0), rooms.inputs[:0]
	g.nodes = make([]node, len(members))
	for i, m := range members {
		g.nodes[i], inputs = g.node(m, inputs)
	}
	g.inputs = slices.Clone(inputs)
}

// node returns what is known of a node, and inputs with its own.
func (d *document) node(m member, inputs []member) (node, []member) {
	low := int32(len(inputs))
	n := node{member: m, index: arrayIndex(d.name(m)), class: -1, inputs: -1, low: low, high: low}
	if d.kind(m.value()) != kindObject {
		return n, inputs
	}
	for i, end := m.value()+1, d.next(m.value()); i < end; i = d.next(i + 1) {
		switch string(d.text(i)) {
		case "class_type":
			n.class = i + 1
		case "inputs":
			n.inputs = i + 1
		}
	}
	if n.inputs >= 0 && d.kind(n.inputs) == kindObject {
		inputs = d.appendMembers(inputs, n.inputs)
		n.high = int32(len(inputs))
	}
	return n, inputs
}

func (g *Graph) inputsOf(n *node) []member { return g.inputs[n.low:n.high] }

func (g *Graph) idOf(n *node) string { return string(g.name(n.member)) }

// lookup returns the position of a node, or -1.
func (g *Graph) lookup(id []byte) int {
	index := arrayIndex(id)
	low, high := 0, len(g.nodes)
	for low < high {
		middle := (low + high) / 2
		n := &g.nodes[middle]
		c := cmp.Compare(n.index, index)
		if c == 0 && index == noIndex {
			c = compareUTF16(g.name(n.member), id)
		}
		switch {
		case c == 0:
			return middle
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return -1
}

// Hash returns the structural hash. It is computed when it is first asked for.
func (g *Graph) Hash() Hash {
	g.hashed.Do(func() { g.hash = g.structure() })
	return g.hash
}

// Raw returns a copy of the bytes that were parsed.
func (g *Graph) Raw() []byte { return bytes.Clone(g.src) }

// JSON returns the workflow for readers of JSON alone: NaN, Infinity and
// -Infinity, which Python reads, are 0, and all else, the hash too, is the same.
func (g *Graph) JSON() []byte {
	w := writer{Graph: g}
	for at := range int32(len(g.tokens)) {
		if g.kind(at) == kindNumber && !g.finite(at) {
			w.replace(at, append(w.texts, '0'))
		}
	}
	return w.splice()
}

// Len returns the number of nodes, at least 1.
func (g *Graph) Len() int { return len(g.nodes) }

// ClassOf returns the class of a node, or "" when there is no such node.
func (g *Graph) ClassOf(node string) string {
	if i := g.lookup([]byte(node)); i >= 0 {
		return string(g.text(g.nodes[i].class))
	}
	return ""
}

// Inputs returns the names of a node's inputs, sorted; none when there is no such node.
func (g *Graph) Inputs(node string) []string {
	i := g.lookup([]byte(node))
	if i < 0 {
		return nil
	}
	inputs := g.inputsOf(&g.nodes[i])
	names := make([]string, len(inputs))
	for j, in := range inputs {
		names[j] = string(g.name(in))
	}
	return names
}

// Nodes returns the node ids in canonical order: array indices by number, then
// the others by UTF-16 code units.
func (g *Graph) Nodes() []string {
	ids := make([]string, len(g.nodes))
	for i := range g.nodes {
		ids[i] = g.idOf(&g.nodes[i])
	}
	return ids
}
