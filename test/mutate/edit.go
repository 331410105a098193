package main

import (
	"cmp"
	"go/token"
	"slices"
)

// edits are the texts to put into one source. They add no line, so that an error of the compiler names the line of the
// original.
type edits struct {
	base int // of the file in its file set
	list []edit
}

type edit struct {
	pos, end int
	side     side
	seq      int
	text     string
}

type side int

// At one place, what ends is written before what begins.
const (
	closes side = iota
	opens
	replaces
)

// wrap puts text before and after a node. What is wrapped first is the outermost.
func (e *edits) wrap(pos, end token.Pos, before, after string) {
	e.add(pos, pos, opens, before)
	e.add(end, end, closes, after)
}

func (e *edits) replace(pos token.Pos, old, text string) {
	e.add(pos, pos+token.Pos(len(old)), replaces, text)
}

func (e *edits) insert(pos token.Pos, text string) { e.add(pos, pos, opens, text) }

func (e *edits) add(pos, end token.Pos, s side, text string) {
	e.list = append(e.list, edit{int(pos) - e.base, int(end) - e.base, s, len(e.list), text})
}

// apply is the source with its edits.
func (e *edits) apply(src []byte) []byte {
	sorted := slices.SortedFunc(slices.Values(e.list), func(a, b edit) int {
		order := cmp.Or(cmp.Compare(a.pos, b.pos), cmp.Compare(a.side, b.side), cmp.Compare(a.seq, b.seq))
		if a.pos == b.pos && a.side == closes && b.side == closes {
			return cmp.Compare(b.seq, a.seq)
		}
		return order
	})
	var out []byte
	at := 0
	for _, ed := range sorted {
		out = append(out, src[at:ed.pos]...)
		out = append(out, ed.text...)
		at = ed.end
	}
	return append(out, src[at:]...)
}
