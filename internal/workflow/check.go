package workflow

import "strings"

// maxChain is the longest chain of links, in nodes, that is let through:
// ComfyUI's validation recurses once per node and fails near 980.
const maxChain = 900

// maxNeeds is the most classes and model files that a workflow may need: hosts
// are compared with each of them. Real workflows need some dozens.
const maxNeeds = 4096

// check refuses what no host could run and what would stop a host.
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
	if err := g.checkNeeds(); err != nil {
		return err
	}
	var rooms struct { // most workflows fit, and need no memory on the heap
		sources [256]int32
		visits  [64]visit
	}
	w := walk{g: g, visits: append(rooms.visits[:0], make([]visit, len(g.nodes))...)}
	var err error
	if w.sources, err = g.appendSources(rooms.sources[:0], w.visits); err != nil {
		return err
	}
	return w.all()
}

// inUIFormat says whether this is the file that ComfyUI's plain "Save" writes:
// an array of nodes, beside links and more. A node named "nodes" is an object.
func (g *Graph) inUIFormat() bool {
	i := g.lookup([]byte("nodes"))
	return i >= 0 && g.kind(g.nodes[i].value()) == kindArray
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
	case isUUID(g.text(n.class)):
		return refuse(g.idOf(n), `node %s is a subgraph that was not expanded (its class is the id %s), which no host knows; open the workflow in ComfyUI, right-click that node, choose "Unpack Subgraph", and %s`,
			quote(g.idOf(n)), g.classOf(n), exportHint)
	}
	return nil
}

// isUUID says whether a class is the id of a subgraph: 8-4-4-4-12 hex digits.
func isUUID(class []byte) bool {
	if len(class) != 36 {
		return false
	}
	for i, c := range class {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
	}
	return true
}

// checkNeeds counts only where there may be too many.
func (g *Graph) checkNeeds() error {
	if len(g.tokens) <= maxNeeds {
		return nil
	}
	r := g.Requirements()
	if needs := len(r.Classes) + len(r.Models); needs > maxNeeds {
		return refuse("", "the workflow needs %d node classes and model files, more than the %d that hosts are compared with; split the workflow",
			needs, maxNeeds)
	}
	return nil
}

// classOf is the class of a node for messages.
func (g *Graph) classOf(n *node) string {
	quoted := quote(string(g.text(n.class)))
	return quoted[1 : len(quoted)-1]
}

// appendSources appends the nodes that each node links to, and notes where they
// are in visits.
func (g *Graph) appendSources(to []int32, visits []visit) ([]int32, error) {
	for i := range g.nodes {
		n := &g.nodes[i]
		visits[i].next = int32(len(to))
		for _, in := range g.inputsOf(n) {
			if !g.followed(in.value()) {
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
		visits[i].end = int32(len(to))
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
	sources []int32 // the nodes that each node links to, node by node
	visits  []visit
}

type visit struct {
	next, end int32 // what is left to look at of walk.sources
	longest   int32 // nodes of the longest chain that ends at one of those looked at
	length    int32 // nodes of the longest chain that ends here; onPath until that is known, 0 before
	from      int32 // the node that links to this one on the path; -1 where the path begins
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
	w.visits[at].length, w.visits[at].from = onPath, from
	return at
}

// step looks at the rest of the links of the innermost node and leaves that
// node, or comes to one that was not visited. It returns the node that is the
// innermost then, or -1.
func (w *walk) step(at int32) (int32, error) {
	v := &w.visits[at]
	for ; v.next < v.end; v.next++ {
		source := w.sources[v.next]
		length := w.visits[source].length
		switch length {
		case 0:
			return w.enter(source, at), nil
		case onPath:
			return -1, w.cycle(source, at)
		}
		v.longest = max(v.longest, length)
	}
	if v.longest >= maxChain {
		n := &w.g.nodes[at]
		return -1, refuse(w.g.idOf(n), "node %s (%s) ends a chain of more than %d linked nodes, which ComfyUI cannot validate (its limit is near 980); split the workflow",
			quote(w.g.idOf(n)), w.g.classOf(n), maxChain)
	}
	v.length = v.longest + 1
	return v.from, nil
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
