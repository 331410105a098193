package workflow

import (
	"slices"
	"strings"
)

// maxChain is the longest chain of links, in nodes, that is let through:
// ComfyUI's validation recurses once per node and fails near 980.
const maxChain = 900

// check refuses what no host could run and what would wedge a host.
func (g *Graph) check() error {
	if len(g.nodes) == 0 {
		return refuse("", "the workflow has no nodes; %s", exportHint)
	}
	if g.inUIFormat() {
		return refuse("", "the workflow is in ComfyUI's UI format (nodes and links), which hosts cannot run; %s", exportHint)
	}
	for i := range g.nodes {
		if err := g.checkNode(&g.nodes[i]); err != nil {
			return err
		}
	}
	sources, err := g.sources()
	if err != nil {
		return err
	}
	w := walk{g: g, sources: sources, visits: make([]visit, len(g.nodes)), path: make([]int32, 0, 32)}
	return w.all()
}

// inUIFormat says whether this is the file that ComfyUI's plain "Save" writes:
// an array of nodes, beside links and more. A node named "nodes" is an object.
func (g *Graph) inUIFormat() bool {
	nodes := g.find(0, "nodes")
	return nodes >= 0 && g.tokens[nodes].kind == kindArray
}

func (g *Graph) checkNode(n *node) error {
	switch {
	case g.tokens[n.value].kind != kindObject:
		return refuse(n.name, "node %s is %s, not an object with class_type and inputs; %s",
			quote(n.name), g.kindName(n.value), exportHint)
	case n.class < 0:
		return refuse(n.name, "node %s has no class_type; %s", quote(n.name), exportHint)
	case g.tokens[n.class].kind != kindString:
		return refuse(n.name, "node %s has a class_type that is %s, not a string; %s",
			quote(n.name), g.kindName(n.class), exportHint)
	case g.text(n.class) == "":
		return refuse(n.name, "node %s has an empty class_type; %s", quote(n.name), exportHint)
	case n.inputs < 0:
		return refuse(n.name, `node %s (%s) has no inputs, which would stop a ComfyUI host for good; give it "inputs": {} at least`,
			quote(n.name), g.classOf(n))
	case g.tokens[n.inputs].kind != kindObject:
		return refuse(n.name, `node %s (%s) has inputs that are %s, not an object; give it "inputs": {} at least`,
			quote(n.name), g.classOf(n), g.kindName(n.inputs))
	}
	return nil
}

// classOf is the class of a node for messages.
func (g *Graph) classOf(n *node) string {
	quoted := quote(g.text(n.class))
	return quoted[1 : len(quoted)-1]
}

// sources returns, for each of g.inputs, the node that it links to, or -1.
func (g *Graph) sources() ([]int32, error) {
	sources := make([]int32, len(g.inputs))
	for i := range g.nodes {
		n := &g.nodes[i]
		for k := n.low; k < n.high; k++ {
			in := &g.inputs[k]
			if sources[k] = -1; !g.followed(in.value) {
				continue
			}
			id := g.text(in.value + 1)
			if sources[k] = int32(g.lookup(id)); sources[k] < 0 {
				return nil, refuse(n.name,
					"node %s (%s): input %s links to node %s, which does not exist and would stop a ComfyUI host for good; connect the input or remove it, then %s",
					quote(n.name), g.classOf(n), quote(in.name), quote(id), exportHint)
			}
		}
	}
	return sources, nil
}

// followed says whether ComfyUI would follow an input's value as a link. It is
// broader than a link in the hash: Python's is_link takes a list of a string
// and any int or float, and bool is an int. Only an input's own value is
// followed, never what is nested in it.
func (g *Graph) followed(at int32) bool {
	if !g.isPair(at) {
		return false
	}
	k := g.tokens[at+2].kind
	return k == kindNumber || k == kindBool
}

// walk visits every node after the nodes it links to.
type walk struct {
	g       *Graph
	sources []int32
	visits  []visit
	path    []int32 // the nodes being visited, each linking to the next
}

type visit struct {
	started bool
	length  int32 // nodes of the longest chain that ends here; 0 while on the path
	cursor  int32 // next of the node's inputs to look at
}

func (w *walk) all() error {
	for i := range w.visits {
		if w.visits[i].started {
			continue
		}
		w.enter(int32(i))
		for len(w.path) > 0 {
			if err := w.step(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) enter(i int32) {
	w.visits[i] = visit{started: true, cursor: w.g.nodes[i].low}
	w.path = append(w.path, i)
}

// step looks at one more link of the innermost node, or leaves that node.
func (w *walk) step() error {
	at := w.path[len(w.path)-1]
	v := &w.visits[at]
	for ; v.cursor < w.g.nodes[at].high; v.cursor++ {
		source := w.sources[v.cursor]
		if source < 0 {
			continue
		}
		switch s := &w.visits[source]; {
		case !s.started:
			w.enter(source)
			return nil
		case s.length == 0:
			return w.cycle(source)
		}
	}
	return w.leave(at)
}

func (w *walk) leave(at int32) error {
	n := &w.g.nodes[at]
	longest := int32(0)
	for _, source := range w.sources[n.low:n.high] {
		if source >= 0 {
			longest = max(longest, w.visits[source].length)
		}
	}
	if longest >= maxChain {
		return refuse(n.name, "node %s (%s) ends a chain of more than %d linked nodes, which ComfyUI cannot validate (its limit is near 980); split the workflow",
			quote(n.name), w.g.classOf(n), maxChain)
	}
	w.visits[at].length = longest + 1
	w.path = w.path[:len(w.path)-1]
	return nil
}

// cycle names the nodes of a cycle in the direction of the data.
func (w *walk) cycle(first int32) error {
	const most = 10
	ring := slices.Clone(w.path[slices.Index(w.path, first):])
	slices.Reverse(ring)
	names := make([]string, 0, most+2)
	for i, at := range ring {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, quote(w.g.nodes[at].name))
	}
	names = append(names, names[0])
	return refuse(w.g.nodes[first].name, "the workflow's links form a cycle of %d: node %s; remove one of these links, then %s",
		len(ring), strings.Join(names, " → "), exportHint)
}
