package workflow

import (
	"bytes"
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
	// SeedLimit is the largest seed that an input takes. What is drawn beyond it
	// is brought within; nil knows none.
	SeedLimit func(class, input string) (most uint64, known bool)
	// Prefix comes before the value of every input named filename_prefix, with a
	// slash between; empty leaves them. Values that would leave the output folder
	// (absolute, or with "..") stay as they are: ComfyUI refuses them itself. A
	// value that is a link gets it from a node that is added, of a class that
	// Has must know; else the link is replaced by Prefix and a name.
	Prefix string
	// Has says whether the host has a node class; nil has none.
	Has func(class string) bool
	// Inputs has replacement strings, node → input → string, such as the names
	// of uploaded files. They win over the other changes; an input that the
	// node does not have yet is added.
	Inputs map[string]map[string]string
	// Spell returns the host's own spelling of a model file, which it gets as in
	// ModelRef, or of another text of one line with slashes, which may be a
	// folder; "" when the host has none, which leaves the workflow's. nil leaves
	// all of them.
	Spell func(class, input, file string) string
}

// Prepared is a workflow ready for one run.
type Prepared struct {
	Body     []byte            // the workflow; what was not replaced is verbatim
	Seeds    map[string]uint64 // node → seed drawn for it; nil when none was
	Added    []string          // nodes that the workflow did not have, and that its author does not know
	Unlinked []string          // nodes whose filename_prefix is no link any more
}

// Prepare returns the workflow with the changes of p. The error is an *Error:
// p.Inputs names a node that does not exist.
func (g *Graph) Prepare(p Preparation) (Prepared, error) {
	var unknown []string
	for id := range p.Inputs {
		if g.lookup([]byte(id)) < 0 {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		return Prepared{}, g.unknown(slices.Min(unknown))
	}
	w := writer{Graph: g, p: p, edits: make([]edit, 0, 4), texts: make([]byte, 0, 128)}
	for i := range g.nodes {
		w.node(&g.nodes[i])
	}
	w.append()
	return Prepared{Body: w.splice(), Seeds: w.seeds, Added: w.added, Unlinked: w.unlinked}, nil
}

// SetInput returns the workflow with one input set to a JSON value; an input
// that the node does not have yet is added. The error is an *Error: no such
// node, no JSON value, or what Parse refuses.
func (g *Graph) SetInput(node, input string, value json.RawMessage) (*Graph, error) {
	i := g.lookup([]byte(node))
	if i < 0 {
		return nil, g.unknown(node)
	}
	if _, err := scan(value); err != nil {
		return nil, refuse(node, "the value for input %s of node %s is not valid JSON: %s; text is written in double quotes",
			quote(input), quote(node), quote(string(value)))
	}
	n, w := &g.nodes[i], writer{Graph: g}
	for _, in := range g.inputsOf(n) {
		if string(g.name(in)) == input {
			w.replace(in.value(), append(w.texts, value...))
		}
	}
	if len(w.edits) == 0 {
		w.add(n, append(w.opening(w.empty(n), input), value...))
	}
	return Adopt(w.splice())
}

func (g *Graph) unknown(id string) *Error {
	const most = 12
	ids := make([]string, 0, most+1)
	for _, n := range g.nodes[:min(most, len(g.nodes))] {
		ids = append(ids, quote(g.idOf(&n)))
	}
	if len(g.nodes) > most {
		ids = append(ids, "…")
	}
	return refuse(id, "the workflow has no node %s; its nodes are %s", quote(id), strings.Join(ids, ", "))
}

// edit replaces src[at:end] by texts[from:to]; an insertion has at == end.
type edit struct {
	at, end  int32
	from, to int
}

// writer collects the edits of one preparation.
type writer struct {
	*Graph
	p     Preparation
	edits []edit
	texts []byte // of all edits, one after the other
	seeds map[string]uint64

	additions []byte // nodes, as JSON
	added     []string
	unlinked  []string
}

// put makes an edit of what texts has more than w.texts.
func (w *writer) put(at, end int32, texts []byte) {
	w.edits = append(w.edits, edit{at: at, end: end, from: len(w.texts), to: len(texts)})
	w.texts = texts
}

// replace is put in the place of the value at token at.
func (w *writer) replace(at int32, texts []byte) { w.put(w.start(at), w.end(at), texts) }

// add is put at the end of a node's inputs.
func (w *writer) add(n *node, texts []byte) {
	end := w.end(n.inputs) - 1
	w.put(end, end, texts)
}

func (w *writer) empty(n *node) bool { return w.next(n.inputs) == n.inputs+1 }

// opening is w.texts and the beginning of a member up to its value.
func (w *writer) opening(first bool, name string) []byte {
	texts := w.texts
	if !first {
		texts = append(texts, ',')
	}
	return append(appendJSON(texts, name), ':')
}

// appendJSON spells any string in JSON; what is no UTF-8 becomes U+FFFD.
func appendJSON(b []byte, s string) []byte { return appendText(b, strings.ToValidUTF8(s, "\ufffd")) }

// splice returns the workflow with the edits, which do not overlap.
func (w *writer) splice() []byte {
	slices.SortStableFunc(w.edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	size := len(w.src) + len(w.texts)
	for _, e := range w.edits {
		size -= int(e.end - e.at)
	}
	out, from := make([]byte, 0, size), int32(0)
	for _, e := range w.edits {
		out = append(append(out, w.src[from:e.at]...), w.texts[e.from:e.to]...)
		from = e.end
	}
	return append(out, w.src[from:]...)
}

func (w *writer) node(n *node) {
	given := w.p.Inputs[string(w.name(n.member))]
	for _, in := range w.inputsOf(n) {
		if text, ok := given[string(w.name(in))]; ok {
			w.replace(in.value(), appendJSON(w.texts, text))
			continue
		}
		w.input(n, in)
	}
	if len(given) > 0 {
		w.addMissing(n, given)
	}
}

func (w *writer) addMissing(n *node, given map[string]string) {
	first := w.empty(n)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if w.has(n.inputs, name) {
			continue
		}
		w.add(n, appendJSON(w.opening(first, name), given[name]))
		first = false
	}
}

// input makes the change, if any, of an input that was not given.
func (w *writer) input(n *node, in member) {
	value := in.value()
	k, name := w.kind(value), w.name(in)
	switch {
	case k == kindNumber && (string(name) == "seed" || string(name) == "noise_seed"):
		if w.p.Seed != nil && w.number(value) == -1 {
			w.drawSeed(n, in)
		}
	case k == kindString && string(name) == "filename_prefix":
		if prefix := w.text(value); w.p.Prefix != "" && staysInside(prefix) {
			w.replace(value, w.prefixed(prefix))
		}
	case string(name) == "filename_prefix" && w.p.Prefix != "" && w.followed(value):
		w.prefixLink(n, value)
	case w.p.Spell != nil:
		w.respell(n, in)
	}
}

// respell writes files, and choices that have folders as well, as the host does.
func (w *writer) respell(n *node, in member) {
	change := func(at int32, path, file []byte) {
		own := w.spell(w.text(n.class), path, file)
		if own != "" && own != string(w.text(at)) {
			w.replace(at, appendJSON(w.texts, own))
		}
	}
	value, name := in.value(), w.name(in)
	if w.kind(value) == kindString && hasSlash(w.inside(value)) {
		if text := w.text(value); isChoice(text) {
			change(value, name, slashes(text))
		}
		return
	}
	w.eachModel(value, name, change)
}

// prefixed is w.texts and a file name with the prefix.
func (w *writer) prefixed(name []byte) []byte {
	texts := appendInside(append(w.texts, '"'), strings.ToValidUTF8(w.p.Prefix, "\ufffd"))
	return append(appendInside(append(texts, '/'), name), '"')
}

// spell asks for the spelling of a file. The three names are cut from one string, which is allocated once.
func (w *writer) spell(class, path, file []byte) string {
	names := string(class) + "." + string(path) + "=" + string(file)
	from, to := len(class)+1, len(class)+1+len(path)
	return w.p.Spell(names[:from-1], names[from:to], names[to+1:])
}

func (w *writer) drawSeed(n *node, in member) {
	seed := w.p.Seed()
	if w.p.SeedLimit != nil {
		if most, known := w.p.SeedLimit(string(w.text(n.class)), string(w.name(in))); known && seed > most {
			seed %= most + 1
		}
	}
	if w.seeds == nil {
		w.seeds = make(map[string]uint64)
	}
	w.seeds[w.idOf(n)] = seed
	w.replace(in.value(), strconv.AppendUint(w.texts, seed, 10))
}

// staysInside says whether a filename prefix is relative and without "..", by
// the rules of Linux and of Windows.
func staysInside(prefix []byte) bool {
	const separators = `/\`
	drive := len(prefix) > 1 && prefix[1] == ':'
	if absolute := bytes.IndexAny(prefix, separators) == 0; absolute || drive {
		return false
	}
	for rest := prefix; ; {
		end := bytes.IndexAny(rest, separators)
		if end < 0 {
			return string(rest) != ".."
		}
		if string(rest[:end]) == ".." {
			return false
		}
		rest = rest[end+1:]
	}
}
