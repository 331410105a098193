package workflow

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// document is scanned JSON.
type document struct {
	src    string
	tokens []token
}

// member is one name of an object with its value, in canonical order.
type member struct {
	name  string
	index int64 // the name as a JavaScript array index, or -1
	value int32 // token
}

func (d *document) raw(at int32) string {
	t := &d.tokens[at]
	return d.src[t.start:t.end]
}

// kindName says what the value at token at is instead of what it should be.
func (d *document) kindName(at int32) string {
	switch d.tokens[at].kind {
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

func (d *document) text(at int32) string {
	t := &d.tokens[at]
	inner := d.src[t.start+1 : t.end-1]
	if t.escaped {
		return unescape(inner)
	}
	return inner
}

// appendMembers appends the members of the object at token at, sorted as
// JavaScript would list them, each name once: of equal names the last counts.
func (d *document) appendMembers(to []member, at int32) []member {
	from := len(to)
	sorted := true
	for i := at + 1; i < d.tokens[at].next; i = d.tokens[i+1].next {
		name := d.text(i)
		m := member{name: name, index: arrayIndex(name), value: i + 1}
		sorted = sorted && (len(to) == from || compareNames(&to[len(to)-1], &m) < 0)
		to = append(to, m)
	}
	if sorted {
		return to
	}
	added := to[from:]
	slices.SortFunc(added, func(a, b member) int {
		if c := compareNames(&a, &b); c != 0 {
			return c
		}
		return cmp.Compare(b.value, a.value)
	})
	added = slices.CompactFunc(added, func(a, b member) bool { return a.name == b.name })
	return to[:from+len(added)]
}

// find returns the value of name in the object at token at, or -1.
func (d *document) find(at int32, name string) int32 {
	found := int32(-1)
	for i := at + 1; i < d.tokens[at].next; i = d.tokens[i+1].next {
		if d.text(i) == name {
			found = i + 1
		}
	}
	return found
}

// arrayIndex returns the number that name is the canonical spelling of when it
// is below 2³²−1, else -1 (ECMAScript's array index).
func arrayIndex(name string) int64 {
	if name == "" || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return -1
	}
	var n int64
	for i := 0; i < len(name); i++ {
		if name[i] < '0' || name[i] > '9' {
			return -1
		}
		n = n*10 + int64(name[i]-'0')
	}
	if n >= 1<<32-1 {
		return -1
	}
	return n
}

// compareNames orders array indices first, by number, then the other names by
// UTF-16 code units.
func compareNames(a, b *member) int {
	switch {
	case a.index >= 0 && b.index >= 0:
		return cmp.Compare(a.index, b.index)
	case a.index >= 0:
		return -1
	case b.index >= 0:
		return 1
	}
	return compareUTF16(a.name, b.name)
}

// compareUTF16 compares valid UTF-8 by UTF-16 code units. The two orders differ
// only where a character beyond U+FFFF meets one from U+E000 to U+FFFF: its
// lead byte is the higher one, its surrogates are the lower ones.
func compareUTF16(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		if a[i] >= 0xee && b[i] >= 0xee && (a[i] >= 0xf0) != (b[i] >= 0xf0) {
			return cmp.Compare(b[i], a[i])
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// number returns the value of the number at token at, as a float64.
func (d *document) number(at int32) float64 {
	// Out of range is ±Inf, as in JavaScript.
	f, _ := strconv.ParseFloat(d.raw(at), 64)
	return f
}

// isPair says whether the value at token at is an array of a string and one
// more value that has no members.
func (d *document) isPair(at int32) bool {
	t := d.tokens[at]
	return t.kind == kindArray && t.next == at+3 && d.tokens[at+1].kind == kindString
}

// linkSlot returns the slot of a link [id, slot] as JSON.stringify would write
// it, or "" when the value at token at is no link: a link is a string and a
// non-negative integer, whatever its spelling (1.0 is an integer, -0 is 0).
func (d *document) linkSlot(at int32) string {
	if !d.isPair(at) || d.tokens[at+2].kind != kindNumber {
		return ""
	}
	raw := d.raw(at + 2)
	if len(raw) == 1 || len(raw) < 16 && strings.Trim(raw, "0123456789") == "" {
		return raw
	}
	f := d.number(at + 2)
	switch {
	case f < 0 || math.IsInf(f, 0) || f != math.Trunc(f):
		return ""
	case f == 0:
		return "0"
	case f < 1e21:
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}
