package workflow

import (
	"sort"
	"sync"
)

// Graph is a workflow in API format that any host may be given:
// {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}}, …}.
// It is immutable.
type Graph struct {
	document
	nodes  []node
	inputs []member // of all nodes, node by node
	hash   func() Hash
}

// node is one node; its member's name is the id, its value the node's object.
type node struct {
	member
	class     int32 // token of class_type, or -1
	inputs    int32 // token of inputs, or -1
	low, high int32 // its inputs are Graph.inputs[low:high]
}

// Parse reads a workflow in API format. It keeps no reference to raw.
//
// It refuses, with an *Error, what ComfyUI could not read or would be wedged
// by: anything but strict JSON in UTF-8 without lone surrogates (at most 200
// levels, 1 GiB); workflows in UI format or without nodes; nodes without class
// or inputs; links to nodes that do not exist; cycles; and chains of links too
// long for ComfyUI's recursion. Of a name given twice in an object the last
// counts, as in ComfyUI.
func Parse(raw []byte) (*Graph, error) {
	g, err := index(string(raw))
	if err != nil {
		return nil, err
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	g.hash = sync.OnceValue(g.structure)
	return g, nil
}

// index finds the nodes and inputs of any JSON object, whatever they are.
func index(src string) (*Graph, error) {
	tokens, err := scan(src)
	if err != nil {
		return nil, err
	}
	g := &Graph{document: document{src: src, tokens: tokens}}
	if tokens[0].kind != kindObject {
		return nil, refuse("", "the workflow is %s, not an object of nodes; %s", g.kindName(0), exportHint)
	}
	members := g.appendMembers(make([]member, 0, 16), 0)
	g.nodes = make([]node, len(members))
	g.inputs = make([]member, 0, len(tokens)/3)
	for i, m := range members {
		g.nodes[i] = g.node(m)
	}
	return g, nil
}

func (g *Graph) node(m member) node {
	n := node{member: m, class: -1, inputs: -1, low: int32(len(g.inputs)), high: int32(len(g.inputs))}
	if g.tokens[m.value].kind != kindObject {
		return n
	}
	n.class, n.inputs = g.find(m.value, "class_type"), g.find(m.value, "inputs")
	if n.inputs >= 0 && g.tokens[n.inputs].kind == kindObject {
		g.inputs = g.appendMembers(g.inputs, n.inputs)
		n.high = int32(len(g.inputs))
	}
	return n
}

func (g *Graph) inputsOf(n *node) []member { return g.inputs[n.low:n.high] }

// lookup returns the position of a node, or -1.
func (g *Graph) lookup(id string) int {
	want := member{name: id, index: arrayIndex(id)}
	i := sort.Search(len(g.nodes), func(i int) bool { return compareNames(&g.nodes[i].member, &want) >= 0 })
	if i < len(g.nodes) && g.nodes[i].name == id {
		return i
	}
	return -1
}

// Hash returns the structural hash. It is computed when it is first asked for.
func (g *Graph) Hash() Hash { return g.hash() }

// Raw returns a copy of the bytes that were parsed.
func (g *Graph) Raw() []byte { return []byte(g.src) }

// Len returns the number of nodes, at least 1.
func (g *Graph) Len() int { return len(g.nodes) }

// ClassOf returns the class of a node, or "" when there is no such node.
func (g *Graph) ClassOf(node string) string {
	if i := g.lookup(node); i >= 0 {
		return g.text(g.nodes[i].class)
	}
	return ""
}

// Inputs returns the names of a node's inputs, sorted; none when there is no such node.
func (g *Graph) Inputs(node string) []string {
	i := g.lookup(node)
	if i < 0 {
		return nil
	}
	inputs := g.inputsOf(&g.nodes[i])
	names := make([]string, len(inputs))
	for j := range inputs {
		names[j] = inputs[j].name
	}
	return names
}

// Nodes returns the node ids in canonical order: array indices by number, then
// the others by UTF-16 code units.
func (g *Graph) Nodes() []string {
	ids := make([]string, len(g.nodes))
	for i := range g.nodes {
		ids[i] = g.nodes[i].name
	}
	return ids
}
