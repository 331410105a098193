package workflow

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Preparation says what to change in a workflow before one run. The zero value
// changes nothing.
type Preparation struct {
	// Seed is called for each input named seed or noise_seed whose value is -1,
	// in canonical order of nodes; nil leaves them.
	Seed func() uint64
	// Prefix comes before the value of every string input named
	// filename_prefix, with a slash between; empty leaves them. Values that
	// would leave the output folder (absolute, or with "..") stay as they are:
	// ComfyUI refuses them itself.
	Prefix string
	// Inputs has replacement strings, node → input → string, such as the names
	// of uploaded files. They win over the other changes; an input that the
	// node does not have yet is added.
	Inputs map[string]map[string]string
	// Spell returns the host's own spelling of a model file, which it gets as in
	// ModelRef; "" when the host has none, which leaves the workflow's. nil
	// leaves all of them.
	Spell func(class, input, file string) string
}

// Prepared is a workflow ready for one run.
type Prepared struct {
	Body  []byte            // the workflow; what was not replaced is verbatim
	Seeds map[string]uint64 // node → seed drawn for it; nil when none was
}

// Prepare returns the workflow with the changes of p. The error is an *Error:
// p.Inputs names a node that does not exist.
func (g *Graph) Prepare(p Preparation) (Prepared, error) {
	for _, id := range slices.Sorted(maps.Keys(p.Inputs)) {
		if g.lookup(id) < 0 {
			return Prepared{}, g.unknown(id)
		}
	}
	w := writer{Graph: g, p: p}
	for i := range g.nodes {
		w.node(&g.nodes[i])
	}
	return Prepared{Body: splice(g.src, w.edits), Seeds: w.seeds}, nil
}

// SetInput returns the workflow with one input set to a JSON value; an input
// that the node does not have yet is added. The error is an *Error: no such
// node, no JSON value, or what Parse refuses.
func (g *Graph) SetInput(node, input string, value json.RawMessage) (*Graph, error) {
	i := g.lookup(node)
	if i < 0 {
		return nil, g.unknown(node)
	}
	if _, err := scan(string(value)); err != nil {
		return nil, refuse(node, "the value for input %s of node %s is not valid JSON: %s; text stands in double quotes",
			quote(input), quote(node), quote(string(value)))
	}
	n := &g.nodes[i]
	change := edit{at: -1}
	for _, in := range g.inputsOf(n) {
		if in.name == input {
			change = g.replace(in.value, string(value))
		}
	}
	if change.at < 0 {
		change = g.add(n, input, string(value))
	}
	return Parse(splice(g.src, []edit{change}))
}

func (g *Graph) unknown(id string) *Error {
	const most = 12
	ids := make([]string, 0, most+1)
	for _, n := range g.nodes[:min(most, len(g.nodes))] {
		ids = append(ids, quote(n.name))
	}
	if len(g.nodes) > most {
		ids = append(ids, "…")
	}
	return refuse(id, "the workflow has no node %s; its nodes are %s", quote(id), strings.Join(ids, ", "))
}

// edit replaces src[at:end]; an insertion has at == end.
type edit struct {
	at, end int32
	text    string
}

func (g *Graph) replace(at int32, text string) edit {
	return edit{at: g.tokens[at].start, end: g.tokens[at].end, text: text}
}

// add inserts one more member at the end of a node's inputs.
func (g *Graph) add(n *node, name, value string) edit {
	comma := ","
	if g.tokens[n.inputs].next == n.inputs+1 {
		comma = ""
	}
	end := g.tokens[n.inputs].end - 1
	return edit{at: end, end: end, text: comma + jsonText(name) + ":" + value}
}

// jsonText spells any string in JSON; what is no UTF-8 becomes U+FFFD.
func jsonText(s string) string {
	return string(appendText(nil, strings.ToValidUTF8(s, "\ufffd")))
}

// splice returns src with the edits, which do not overlap, in any order.
func splice(src string, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	size := len(src)
	for _, e := range edits {
		size += len(e.text) - int(e.end-e.at)
	}
	out, from := make([]byte, 0, size), int32(0)
	for _, e := range edits {
		out = append(append(out, src[from:e.at]...), e.text...)
		from = e.end
	}
	return append(out, src[from:]...)
}

// writer collects the edits of one preparation.
type writer struct {
	*Graph
	p     Preparation
	edits []edit
	seeds map[string]uint64
}

func (w *writer) node(n *node) {
	given := w.p.Inputs[n.name]
	replaced := 0
	for _, in := range w.inputsOf(n) {
		if text, ok := given[in.name]; ok {
			replaced++
			w.edits = append(w.edits, w.replace(in.value, jsonText(text)))
			continue
		}
		w.input(n, in)
	}
	if replaced < len(given) {
		w.addMissing(n, given)
	}
}

func (w *writer) addMissing(n *node, given map[string]string) {
	first := true
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if w.find(n.inputs, name) >= 0 {
			continue
		}
		e := w.add(n, name, jsonText(given[name]))
		if !first && !strings.HasPrefix(e.text, ",") {
			e.text = "," + e.text
		}
		first = false
		w.edits = append(w.edits, e)
	}
}

// input makes the change, if any, of an input that was not given.
func (w *writer) input(n *node, in member) {
	k := w.tokens[in.value].kind
	switch {
	case k == kindNumber && (in.name == "seed" || in.name == "noise_seed"):
		if w.p.Seed != nil && w.number(in.value) == -1 {
			w.drawSeed(n, in)
		}
	case k == kindString && in.name == "filename_prefix":
		if prefix := w.text(in.value); w.p.Prefix != "" && staysInside(prefix) {
			w.edits = append(w.edits, w.replace(in.value, jsonText(w.p.Prefix+"/"+prefix)))
		}
	case w.p.Spell != nil:
		class := w.text(n.class)
		w.eachModel(in.value, in.name, func(at int32, path, file string) {
			if own := w.p.Spell(class, path, file); own != "" && own != w.text(at) {
				w.edits = append(w.edits, w.replace(at, jsonText(own)))
			}
		})
	}
}

func (w *writer) drawSeed(n *node, in member) {
	seed := w.p.Seed()
	if w.seeds == nil {
		w.seeds = make(map[string]uint64)
	}
	w.seeds[n.name] = seed
	w.edits = append(w.edits, w.replace(in.value, strconv.FormatUint(seed, 10)))
}

// staysInside says whether a filename prefix is relative and without "..", by
// the rules of Linux and of Windows.
func staysInside(prefix string) bool {
	path := slashed(prefix)
	drive := len(path) >= 2 && path[1] == ':'
	return !strings.HasPrefix(path, "/") && !drive && !slices.Contains(strings.Split(path, "/"), "..")
}
