package workflow

import (
	"crypto/sha256"
	"encoding/hex"
)

// Hash is the structural hash of a workflow: 64 lower-case hex digits. Equal
// for workflows that differ in prompts, seeds, sizes, steps, titles or key
// order only; different when a node, an input's name, a link or a model
// differs.
//
// It is the SHA-256 of {id: {"class_type": c|null, "inputs": {name: v}}} as
// JavaScript's JSON.stringify would write it with sorted keys, where v is
//   - a link [string, non-negative integer]: itself;
//   - a string that names a model file: itself, with / for \;
//   - any other string: "";
//   - an object or another array: the same way, member by member;
//   - null: null; a number "number"; a boolean "boolean".
type Hash string

// Short returns the first 8 digits, for people.
func (h Hash) Short() string { return string(h[:min(8, len(h))]) }

// Valid says whether h has the form of a hash.
func (h Hash) Valid() bool {
	if len(h) != 2*sha256.Size {
		return false
	}
	for i := 0; i < len(h); i++ {
		if c := h[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// HashOf returns the structural hash of any JSON object, also of one that
// Parse refuses: what is not there, or not of the type it should have, counts
// as null (class_type) or as empty (nodes, inputs). The error is an *Error.
func HashOf(raw []byte) (Hash, error) {
	g, err := index(string(raw))
	if err != nil {
		return "", err
	}
	return g.structure(), nil
}

// hasher writes the canonical structure.
type hasher struct {
	*document
	out     []byte
	scratch []member // members of the objects being written, innermost last
}

func (g *Graph) structure() Hash {
	h := hasher{document: &g.document, out: make([]byte, 0, len(g.src)+64)}
	h.out = append(h.out, '{')
	for i := range g.nodes {
		h.node(g, i)
	}
	h.out = append(h.out, '}')
	sum := sha256.Sum256(h.out)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return Hash(digits[:])
}

func (h *hasher) node(g *Graph, i int) {
	n := &g.nodes[i]
	h.name(i, n.name)
	h.out = append(h.out, `{"class_type":`...)
	if n.class >= 0 && h.tokens[n.class].kind == kindString {
		h.string(n.class)
	} else {
		h.out = append(h.out, "null"...)
	}
	h.out = append(h.out, `,"inputs":{`...)
	for k, in := range g.inputsOf(n) {
		h.name(k, in.name)
		h.value(in.value)
	}
	h.out = append(h.out, "}}"...)
}

func (h *hasher) name(position int, name string) {
	if position > 0 {
		h.out = append(h.out, ',')
	}
	h.out = append(appendText(h.out, name), ':')
}

// string writes the string at token at. One without escapes is verbatim what
// JSON.stringify writes.
func (h *hasher) string(at int32) {
	if h.tokens[at].escaped {
		h.out = appendText(h.out, h.text(at))
		return
	}
	h.out = append(h.out, h.raw(at)...)
}

func (h *hasher) value(at int32) {
	switch h.tokens[at].kind {
	case kindNull:
		h.out = append(h.out, "null"...)
	case kindBool:
		h.out = append(h.out, `"boolean"`...)
	case kindNumber:
		h.out = append(h.out, `"number"`...)
	case kindString:
		if file := h.model(at); file != "" {
			h.out = appendText(h.out, file)
			return
		}
		h.out = append(h.out, `""`...)
	case kindArray:
		h.array(at)
	case kindObject:
		h.object(at)
	}
}

func (h *hasher) array(at int32) {
	h.out = append(h.out, '[')
	if slot := h.linkSlot(at); slot != "" {
		h.string(at + 1)
		h.out = append(append(h.out, ','), slot...)
	} else {
		for i := at + 1; i < h.tokens[at].next; i = h.tokens[i].next {
			if i > at+1 {
				h.out = append(h.out, ',')
			}
			h.value(i)
		}
	}
	h.out = append(h.out, ']')
}

func (h *hasher) object(at int32) {
	from := len(h.scratch)
	h.scratch = h.appendMembers(h.scratch, at)
	h.out = append(h.out, '{')
	for i, m := range h.scratch[from:] {
		h.name(i, m.name)
		h.value(m.value)
	}
	h.scratch = h.scratch[:from]
	h.out = append(h.out, '}')
}

// model returns the model file that the string at token at names, or "".
func (d *document) model(at int32) string {
	if s := d.text(at); isModel(s) {
		return slashed(s)
	}
	return ""
}
