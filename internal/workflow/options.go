package workflow

import "slices"

// Options are the values of one workflow that a host may lack without its hash
// saying so: the sampler, a scheduler, a number out of a list, a folder that
// holds a model. They are the workflow's and not its hash's, as prompts and
// sizes are, so that two jobs of one hash differ in them.
//
// What a host lists is not always what it takes: a node may check its inputs
// itself. A lack is therefore a reason to try other hosts first, and no proof.
type Options struct {
	graph *Graph
	all   []option
}

// option is the value of one input.
type option struct {
	list, value uint64 // keys as in a Capability
	node        int32  // its position in the graph
	in          member
}

// Options returns the values of all inputs that a host might enumerate: texts of
// at most 255 bytes on one line, numbers and booleans. Links are none, what is
// nested is none, and neither are model files, which are in the hash.
func (g *Graph) Options() Options {
	o := Options{graph: g, all: make([]option, 0, len(g.inputs))}
	for i := range g.nodes {
		n := &g.nodes[i]
		class := g.text(n.class)
		for _, in := range g.inputsOf(n) {
			if value, is := g.choice(class, in); is {
				o.all = append(o.all, option{list: listKey(class, g.name(in)), value: value, node: int32(i), in: in})
			}
		}
	}
	return o
}

// choice is the key of an input's value as one of a list; is says whether it could be.
func (g *Graph) choice(class []byte, in member) (value uint64, is bool) {
	at := in.value()
	switch g.kind(at) {
	case kindBool:
		number := 0.0
		if g.src[g.start(at)] == 't' {
			number = 1
		}
		return numberKey(class, g.name(in), number), true
	case kindNumber:
		return numberKey(class, g.name(in), g.number(at)), g.finite(at)
	case kindString:
		const longest = 6 * maxChoice // every byte may be escaped as \u0061
		if len(g.inside(at)) > longest {
			return 0, false
		}
		text := g.text(at)
		if !isChoice(text) || isModel(text) {
			return 0, false
		}
		return textKey(class, g.name(in), slashes(text)), true
	}
	return 0, false
}

// Len returns how many values there are.
func (o Options) Len() int { return len(o.all) }

// Without returns o without the value of one input, which is replaced before
// the workflow runs.
func (o Options) Without(node, input string) Options {
	replaced := func(x option) bool {
		return string(o.graph.name(x.in)) == input && string(o.graph.name(o.graph.nodes[x.node].member)) == node
	}
	o.all = slices.DeleteFunc(slices.Clone(o.all), replaced)
	return o
}

// MetBy says whether Lacks would be empty. It is one look-up for each value,
// two where the host enumerates the input, and allocates nothing.
func (o Options) MetBy(c Capability) bool {
	for i := range o.all {
		if c.lacks(&o.all[i]) {
			return false
		}
	}
	return true
}

// Lacks returns what of o the host is known not to list; nil when nothing. An
// input that the host does not enumerate is never held against it.
func (c Capability) Lacks(o Options) []Missing {
	var missing []Missing
	for i := range o.all {
		if !c.lacks(&o.all[i]) {
			continue
		}
		if m := o.missing(&o.all[i]); !slices.Contains(missing, m) {
			missing = append(missing, m)
		}
	}
	return missing
}

func (c Capability) lacks(x *option) bool { return c.has(x.list) && !c.has(x.value) }

// missing names an option.
func (o Options) missing(x *option) Missing {
	g := o.graph
	m := Missing{Class: string(g.text(g.nodes[x.node].class)), Input: string(g.name(x.in))}
	at := x.in.value()
	switch {
	case g.kind(at) != kindString:
		m.Option = string(g.raw(at))
	case modelLike(g.text(at)):
		m.File = slashed(string(g.text(at)))
	default:
		m.Option = string(g.text(at))
	}
	return m
}
