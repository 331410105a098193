package workflow

import "strings"

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
	var rooms struct { // most workflows fit, and need no memory on the heap
		sources [256]int32
		visits  [64]visit
	}
	sources, err := g.appendSources(rooms.sources[:0])
	if err != nil {
		return err
	}
	w := walk{g: g, sources: sources, visits: append(rooms.visits[:0], make([]visit, len(g.nodes))...)}
	return w.all()
}

// inUIFormat says whether this is the file that ComfyUI's plain "Save" writes:
// an array of nodes, beside links and more. A node named "nodes" is an object.
func (g *Graph) inUIFormat() bool {
	nodes := g.find(0, "nodes")
	return nodes >= 0 && g.kind(nodes) == kindArray
}

func (g *Graph) checkNode(n *node) error {
	switch {
	case g.kind(n.value()) != kindObject:
		return refuse(g.idOf(n), "node %s is %s, not an object with class_type and inputs; %s",
			quote(g.idOf(n)), g.kindName(n.value()), exportHint)
	case n.class < 0:
		return refuse(g.idOf(n), "node %s has no class_type; %s", quote(g.idOf(n)), exportHint)
	case g.kind(n.class) != kindString:
		return refuse(g.idOf(n), "node %s has a class_type that is %s, not a string; %s",
			quote(g.idOf(n)), g.kindName(n.class), exportHint)
	case len(g.text(n.class)) == 0:
		return refuse(g.idOf(n), "node %s has an empty class_type; %s", quote(g.idOf(n)), exportHint)
	case n.inputs < 0:
		return refuse(g.idOf(n), `node %s (%s) has no inputs, which would stop a ComfyUI host for good; give it "inputs": {} at least`,
			quote(g.idOf(n)), g.classOf(n))
	case g.kind(n.inputs) != kindObject:
		return refuse(g.idOf(n), `node %s (%s) has inputs that are %s, not an object; give it "inputs": {} at least`,
			quote(g.idOf(n)), g.classOf(n), g.kindName(n.inputs))
	}
	return nil
}

// classOf is the class of a node for messages.
func (g *Graph) classOf(n *node) string {
	quoted := quote(string(g.text(n.class)))
	return quoted[1 : len(quoted)-1]
}

// appendSources appends, for each of g.inputs, the node that it links to, or -1.
func (g *Graph) appendSources(to []int32) ([]int32, error) {
	for i := range g.nodes {
		n := &g.nodes[i]
		for _, in := range g.inputsOf(n) {
			if !g.followed(in.value()) {
				to = append(to, -1)
				continue
			}
			id := g.text(in.value() + 1)
			source := g.lookup(id)
			if source < 0 {
				return nil, refuse(g.idOf(n),
					"node %s (%s): input %s links to node %s, which does not exist and would stop a ComfyUI host for good; connect the input or remove it, then %s",
					quote(g.idOf(n)), g.classOf(n), quote(string(g.name(in))), quote(string(id)), exportHint)
			}
			to = append(to, int32(source))
		}
	}
	return to, nil
}

// followed says whether ComfyUI would follow an input's value as a link. It is
// broader than a link in the hash: Python's is_link takes a list of a string
// and any int or float, and bool is an int. Only an input's own value is
// followed, never what is nested in it.
func (g *Graph) followed(at int32) bool {
	if !g.isPair(at) {
		return false
	}
	k := g.kind(at + 2)
	return k == kindNumber || k == kindBool
}

// walk visits every node after the nodes it links to.
type walk struct {
	g       *Graph
	sources []int32
	visits  []visit
}

type visit struct {
	cursor int32 // next of the node's inputs to look at
	length int32 // nodes of the longest chain that ends here; onPath until that is known, 0 before
	from   int32 // the node that links to this one on the path; -1 where the path begins
}

const onPath = -1

func (w *walk) all() error {
	for i := range w.visits {
		if w.visits[i].length != 0 {
			continue
		}
		at := w.enter(int32(i), -1)
		for at >= 0 {
			var err error
			if at, err = w.step(at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) enter(at, from int32) int32 {
	w.visits[at] = visit{cursor: w.g.nodes[at].low, length: onPath, from: from}
	return at
}

// step looks at one more link of the innermost node, or leaves that node. It
// returns the node that is the innermost then, or -1.
func (w *walk) step(at int32) (int32, error) {
	v := &w.visits[at]
	for ; v.cursor < w.g.nodes[at].high; v.cursor++ {
		source := w.sources[v.cursor]
		if source < 0 {
			continue
		}
		switch w.visits[source].length {
		case 0:
			return w.enter(source, at), nil
		case onPath:
			return -1, w.cycle(source, at)
		}
	}
	return v.from, w.leave(at)
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
		return refuse(w.g.idOf(n), "node %s (%s) ends a chain of more than %d linked nodes, which ComfyUI cannot validate (its limit is near 980); split the workflow",
			quote(w.g.idOf(n)), w.g.classOf(n), maxChain)
	}
	w.visits[at].length = longest + 1
	return nil
}

// cycle names the nodes of a cycle, which the path's last node closes, in the
// direction of the data.
func (w *walk) cycle(first, last int32) error {
	const most = 10
	names := make([]string, 0, most+2)
	nodes := 0
	for at := last; ; at = w.visits[at].from {
		if nodes++; nodes <= most {
			names = append(names, quote(w.g.idOf(&w.g.nodes[at])))
		}
		if at == first {
			break
		}
	}
	if nodes > most {
		names = append(names, "…")
	}
	names = append(names, names[0])
	return refuse(w.g.idOf(&w.g.nodes[first]), "the workflow's links form a cycle of %d: node %s; remove one of these links, then %s",
		nodes, strings.Join(names, " → "), exportHint)
}
