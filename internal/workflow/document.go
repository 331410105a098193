package workflow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// document is scanned JSON.
type document struct {
	src    []byte
	tokens []token
}

// member is one name of an object: the token of the name. The value's token
// follows it.
type member int32

func (m member) value() int32 { return int32(m) + 1 }

// noIndex is the index of names that are no array index. It comes after all others.
const noIndex = math.MaxUint32

func (d *document) start(at int32) int32 { return int32(d.tokens[at].start &^ flags) }

func (d *document) kind(at int32) kind { return kinds[d.src[d.start(at)]] }

// escaped says whether the string at token at has escapes.
func (d *document) escaped(at int32) bool { return d.tokens[at].start&escape != 0 }

// next is the token after the whole value at token at.
func (d *document) next(at int32) int32 {
	if t := &d.tokens[at]; t.start&container != 0 {
		return int32(t.limit)
	}
	return at + 1
}

// end is where the value at token at ends. A container's end is not kept, since
// it is rarely asked for: its bracket comes next after its last value.
func (d *document) end(at int32) int32 {
	t := &d.tokens[at]
	if t.start&container == 0 {
		return int32(t.limit)
	}
	from := d.start(at) + 1
	for i := at + 1; i < int32(t.limit); i = d.next(i) {
		if d.next(i) == int32(t.limit) {
			from = d.end(i)
		}
	}
	return from + int32(bytes.IndexAny(d.src[from:], "]}")) + 1
}

// raw is the value at token at, which is no container, as it is written.
func (d *document) raw(at int32) []byte { return d.src[d.start(at):d.tokens[at].limit] }

// kindName names the kind of the value at token at, for messages.
func (d *document) kindName(at int32) string {
	switch d.kind(at) {
	case kindNull:
		return "null"
	case kindBool:
		return "a boolean"
	case kindNumber:
		return "a number"
	case kindString:
		return "a string"
	case kindArray:
		return "an array"
	default:
		return "an object"
	}
}

// inside is what is between the quotes of the string or key at token at.
func (d *document) inside(at int32) []byte {
	t := &d.tokens[at]
	return d.src[t.start&^flags+1 : t.limit-1]
}

// text is the string or key at token at.
func (d *document) text(at int32) []byte {
	inside := d.inside(at)
	if d.escaped(at) {
		return appendUnescaped(make([]byte, 0, len(inside)), inside)
	}
	return inside
}

func (d *document) name(m member) []byte { return d.text(int32(m)) }

// ranked is a member while members are sorted.
type ranked struct {
	rank uint64
	member
	spelled int32 // where a name with escapes is spelled out, from 1; 0 for others
}

// appendMembers appends the members of the object at token at, sorted as
// JavaScript would list them, each name once: of equal names the last counts.
func (d *document) appendMembers(to []member, at int32) []member {
	var room [32]ranked
	var spelled [][]byte
	all := room[:0]
	for i, end := at+1, d.next(at); i < end; i = d.next(i + 1) {
		name := d.text(i)
		m := ranked{rank: rankOf(name), member: member(i)}
		if d.escaped(i) {
			spelled = append(spelled, name)
			m.spelled = int32(len(spelled))
		}
		all = append(all, m)
	}
	nameOf := func(m ranked) []byte {
		if m.spelled > 0 {
			return spelled[m.spelled-1]
		}
		return d.inside(int32(m.member))
	}
	slices.SortFunc(all, func(a, b ranked) int {
		if a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		return cmp.Or(compareUTF16(nameOf(a), nameOf(b)), cmp.Compare(b.member, a.member))
	})
	for i, m := range all {
		if i > 0 && m.rank == all[i-1].rank && bytes.Equal(nameOf(m), nameOf(all[i-1])) {
			continue
		}
		to = append(to, m.member)
	}
	return to
}

// has says whether the object at token at has a member of that name.
func (d *document) has(at int32, name string) bool {
	for i, end := at+1, d.next(at); i < end; i = d.next(i + 1) {
		if string(d.text(i)) == name {
			return true
		}
	}
	return false
}

// arrayIndex returns the number that name is the canonical spelling of when it
// is below 2³²−1, else noIndex (ECMAScript's array index).
func arrayIndex(name []byte) uint32 {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return noIndex
	}
	var n uint64
	for _, c := range name {
		if c < '0' || c > '9' {
			return noIndex
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(min(n, noIndex))
}

// rankOf is lower for names that come first: array indices, by number, then the
// other names by UTF-16 code units. It tells names apart by the first bytes.
func rankOf(name []byte) uint64 {
	if index := arrayIndex(name); index != noIndex {
		return uint64(index)
	}
	if len(name) >= 8 {
		if w := binary.BigEndian.Uint64(name); w&0x8080808080808080 == 0 {
			return 1<<56 | w>>8
		}
	}
	rank, known := uint64(1), min(7, len(name))
	for _, c := range name[:known] {
		rank = rank<<8 | uint64(orderUTF16(c))
	}
	return rank << (8 * (7 - known))
}

// compareUTF16 compares valid UTF-8 by UTF-16 code units.
func compareUTF16(a, b []byte) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			return cmp.Compare(orderUTF16(a[i]), orderUTF16(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

// orderUTF16 returns a byte of UTF-8 so that it sorts as UTF-16 does. The two
// orders differ only where a character beyond U+FFFF meets one from U+E000 to
// U+FFFF: its lead byte is the higher one, its surrogates are the lower ones.
func orderUTF16(c byte) byte {
	switch {
	case c >= 0xf0: // to 0xf4
		return c - 2
	case c >= 0xee: // and 0xef
		return c + 5
	}
	return c
}

// finite says whether the number at token at is JSON's, and no NaN or Infinity.
func (d *document) finite(at int32) bool {
	raw := d.raw(at)
	return raw[len(raw)-1] < 'A'
}

// number returns the value of the number at token at, as a float64.
func (d *document) number(at int32) float64 {
	// Out of range is ±Inf, as in JavaScript.
	f, _ := strconv.ParseFloat(string(d.raw(at)), 64)
	return f
}

// isPair says whether the value at token at is an array of a string and one
// more value that has no members.
func (d *document) isPair(at int32) bool {
	return d.kind(at) == kindArray && d.tokens[at].limit == uint32(at)+3 && d.kind(at+1) == kindString
}

// linkSlot returns the slot of a link [id, slot] as JSON.stringify would write
// it, or nothing when the value at token at is no link: a link is a string and
// a non-negative integer, whatever its spelling (1.0 is an integer, -0 is 0).
func (d *document) linkSlot(at int32) []byte {
	if !d.isPair(at) || d.kind(at+2) != kindNumber {
		return nil
	}
	raw := d.raw(at + 2)
	if len(raw) == 1 || len(raw) < 16 && len(bytes.Trim(raw, "0123456789")) == 0 {
		return raw
	}
	f := d.number(at + 2)
	switch {
	case f < 0 || math.IsInf(f, 0) || f != math.Trunc(f):
		return nil
	case f == 0:
		return []byte("0")
	case f < 1e21:
		return strconv.AppendFloat(nil, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(nil, f, 'e', -1, 64)
}
