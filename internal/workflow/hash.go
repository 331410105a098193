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
//   - null: null; a number, NaN and Infinity too, "number"; a boolean "boolean".
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
	g, err := index(raw)
	if err != nil {
		return "", err
	}
	return g.structure(), nil
}

// hasher writes the canonical structure.
type hasher struct {
	*document
	all  []byte
	room [2048]byte // the end of all; most structures fit and need no memory on the heap
	used int
}

func (g *Graph) structure() Hash {
	h := hasher{document: &g.document}
	h.write([]byte("{"))
	for i := range g.nodes {
		h.node(g, i)
	}
	h.write([]byte("}"))
	sum := sha256.Sum256(h.room[:h.used])
	if h.all != nil {
		sum = sha256.Sum256(append(h.all, h.room[:h.used]...))
	}
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return Hash(digits[:])
}

func (h *hasher) write(b []byte) {
	for len(b) > 0 {
		if h.used == len(h.room) {
			h.all = append(h.all, h.room[:]...)
			h.used = 0
		}
		n := copy(h.room[h.used:], b)
		h.used, b = h.used+n, b[n:]
	}
}

func (h *hasher) node(g *Graph, i int) {
	n := &g.nodes[i]
	h.name(i, n.member)
	h.write([]byte(`{"class_type":`))
	if n.class >= 0 && h.kind(n.class) == kindString {
		h.string(n.class)
	} else {
		h.write([]byte("null"))
	}
	h.write([]byte(`,"inputs":{`))
	for k, in := range g.inputsOf(n) {
		h.name(k, in)
		h.value(in.value())
	}
	h.write([]byte("}}"))
}

func (h *hasher) name(position int, m member) {
	if position > 0 {
		h.write([]byte(","))
	}
	h.string(int32(m))
	h.write([]byte(":"))
}

// string writes the string at token at.
func (h *hasher) string(at int32) {
	if !h.escaped(at) { // it is what JSON.stringify writes
		h.write(h.raw(at))
		return
	}
	h.write(appendText(nil, h.text(at)))
}

func (h *hasher) value(at int32) {
	switch h.kind(at) {
	case kindNull:
		h.write([]byte("null"))
	case kindBool:
		h.write([]byte(`"boolean"`))
	case kindNumber:
		h.write([]byte(`"number"`))
	case kindString:
		h.file(at)
	case kindArray:
		h.array(at)
	case kindObject:
		h.object(at)
	}
}

func (h *hasher) file(at int32) {
	file := h.model(at)
	switch {
	case file == nil:
		h.write([]byte(`""`))
	case h.escaped(at):
		h.write(appendText(nil, file))
	default:
		h.write(h.raw(at))
	}
}

func (h *hasher) array(at int32) {
	h.write([]byte("["))
	if slot := h.linkSlot(at); slot != nil {
		h.string(at + 1)
		h.write([]byte(","))
		h.write(slot)
	} else {
		for i := at + 1; i < h.next(at); i = h.next(i) {
			if i > at+1 {
				h.write([]byte(","))
			}
			h.value(i)
		}
	}
	h.write([]byte("]"))
}

func (h *hasher) object(at int32) {
	h.write([]byte("{"))
	for i, m := range h.appendMembers(nil, at) {
		h.name(i, m)
		h.value(m.value())
	}
	h.write([]byte("}"))
}
