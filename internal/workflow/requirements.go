package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// ModelRef is one use of a model file.
type ModelRef struct {
	Class string // class of the node
	// Input is the input's name. A file nested in an input's object or array
	// has the dotted path to it ("lora_1.lora", "stack.0.name"): hosts
	// enumerate only top-level inputs, so a nested file is never held against
	// one, while people see where it is.
	Input string
	File  string // as in the workflow, with / for \
}

// Requirements is what a workflow needs a host to have. Both lists are sorted
// and without repetitions.
type Requirements struct {
	Classes []string
	Models  []ModelRef
}

// Requirements returns the class of every node and every (class, input, model
// file). What counts as a model file is the rule of the hash.
func (g *Graph) Requirements() Requirements {
	r := Requirements{Classes: make([]string, 0, len(g.nodes))}
	for i := range g.nodes {
		n := &g.nodes[i]
		class := string(g.text(n.class))
		r.Classes = append(r.Classes, class)
		for _, in := range g.inputsOf(n) {
			g.eachModel(in.value(), g.name(in), func(_ int32, path, file []byte) {
				r.Models = append(r.Models, ModelRef{Class: class, Input: string(path), File: string(file)})
			})
		}
	}
	slices.Sort(r.Classes)
	r.Classes = slices.Compact(r.Classes)
	slices.SortFunc(r.Models, func(a, b ModelRef) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Input, b.Input), cmp.Compare(a.File, b.File))
	})
	r.Models = slices.Compact(r.Models)
	return r
}

// eachModel calls visit for every string that names a model file in the value
// at token at, with its own token and path.
func (d *document) eachModel(at int32, path []byte, visit func(at int32, path, file []byte)) {
	switch d.kind(at) {
	case kindString:
		if file := d.model(at); file != nil {
			visit(at, path, file)
		}
	case kindObject:
		path = append(path[:len(path):len(path)], '.')
		for _, m := range d.appendMembers(nil, at) {
			d.eachModel(m.value(), append(path, d.name(m)...), visit)
		}
	case kindArray:
		if d.linkSlot(at) != nil {
			return
		}
		path = append(path[:len(path):len(path)], '.')
		for i, position := at+1, int64(0); i < d.next(at); i, position = d.next(i), position+1 {
			d.eachModel(i, strconv.AppendInt(path, position, 10), visit)
		}
	}
}

// Missing is one thing that a host is known to lack: a node class when Input is
// empty, else a model file, or an option that is no file.
type Missing struct{ Class, Input, File, Option string }

func (m Missing) String() string {
	switch {
	case m.Input == "":
		return "missing node " + m.Class
	case m.File != "":
		return fmt.Sprintf("missing model %s in %s.%s", m.File, m.Class, m.Input)
	}
	return fmt.Sprintf("missing option %s in %s.%s", quote(m.Option), m.Class, m.Input)
}

// Missing returns what a host with capability c is known to lack, classes
// first; nil when nothing. A file is missing only if the host enumerates the
// input and does not list the file.
func (r Requirements) Missing(c Capability) []Missing {
	var missing []Missing
	for _, class := range r.Classes {
		if !c.has(classKey(class)) {
			missing = append(missing, Missing{Class: class})
		}
	}
	for _, m := range r.Models {
		if c.has(inputKey(m.Class, m.Input)) && !c.has(fileKey(m.Class, m.Input, m.File)) {
			missing = append(missing, Missing{Class: m.Class, Input: m.Input, File: m.File})
		}
	}
	return missing
}

// Compiled is Requirements made ready to be compared with many hosts.
type Compiled struct {
	classes []uint64
	models  []compiledModel
}

type compiledModel struct{ input, file uint64 }

// Compile hashes the names once.
func (r Requirements) Compile() Compiled {
	k := Compiled{classes: make([]uint64, len(r.Classes)), models: make([]compiledModel, len(r.Models))}
	for i, class := range r.Classes {
		k.classes[i] = classKey(class)
	}
	for i, m := range r.Models {
		k.models[i] = compiledModel{input: inputKey(m.Class, m.Input), file: fileKey(m.Class, m.Input, m.File)}
	}
	return k
}

// MetBy says whether Missing would be empty. One look-up for a class, two at
// most for a model; it allocates nothing. Models come first, since they tell
// hosts of one fleet apart.
func (k Compiled) MetBy(c Capability) bool {
	for _, m := range k.models {
		if !c.has(m.file) && c.has(m.input) {
			return false
		}
	}
	for _, class := range k.classes {
		if !c.has(class) {
			return false
		}
	}
	return true
}
