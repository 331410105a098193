package job

import (
	"bytes"
	"strings"
)

// space is what may be between the parts of JSON.
const space = " \t\r\n"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }

// fields are the values that tell the three bodies apart.
type fields struct {
	workflow, prompt span
}

// span is where a value is in a body; it is empty when there is none.
type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }

// seemsBare guesses by the first field of a JSON object whether it is a workflow.
func seemsBare(body []byte) bool {
	rest := bytes.TrimLeft(body[1:], space)
	key := rest[:stringLen(rest)]
	rest = bytes.TrimLeft(rest[len(key):], space+":")
	return len(rest) > 0 && rest[0] == '{' && string(key) != `"workflow"` && string(key) != `"prompt"`
}

// topLevel finds the two fields among the keys of a JSON object without decoding the rest, which is most of what a
// body holds and is parsed once, as a workflow. It is lenient: false means that the body is malformed, but true does
// not mean that it is well-formed. The last of several equal keys wins.
func topLevel(body []byte) (fields, bool) {
	var f fields
	walk := members{body: body, pos: 1}
	for walk.next() {
		switch string(walk.key) {
		case `"workflow"`:
			f.workflow = walk.value
		case `"prompt"`:
			f.prompt = walk.value
		}
	}
	return f, walk.ended
}

// members walks over the members of a JSON object without decoding them. It reads no more of a value than where it ends.
type members struct {
	body  []byte
	pos   int  // after the opening bracket, or after a member; at the end after the closing bracket
	ended bool // the closing bracket was met; false at the end means that the object cannot be read

	// The member that next has found.
	key   []byte // with its quotes
	from  int    // where the key begins
	value span
}

// next finds the next member; false means that there is none.
func (w *members) next() bool {
	if w.skip('}') {
		w.ended = true
		return false
	}
	if w.value.to > 0 && !w.skip(',') {
		return false
	}
	w.space()
	w.from = w.pos
	w.pos += stringLen(w.body[w.pos:])
	w.key = w.body[w.from:w.pos]
	if len(w.key) == 0 || !w.skip(':') {
		return false
	}
	w.space()
	n := valueLen(w.body[w.pos:])
	w.value = span{w.pos, w.pos + n}
	for isSpace(w.body[w.value.to-1]) {
		w.value.to--
	}
	w.pos += n
	return n > 0
}

// skip takes one byte and the space before it when that comes next.
func (w *members) skip(c byte) bool {
	w.space()
	if w.pos == len(w.body) || w.body[w.pos] != c {
		return false
	}
	w.pos++
	return true
}

func (w *members) space() {
	for w.pos < len(w.body) && isSpace(w.body[w.pos]) {
		w.pos++
	}
}

// without gives the bytes of the member that was found last, and of the comma after it, or before it when it is the last.
func (w *members) without() (from, to int) {
	behind := bytes.TrimLeft(w.body[w.value.to:], space)
	if len(behind) > 0 && behind[0] == ',' {
		return w.from, len(w.body) - len(behind) + 1
	}
	before := bytes.TrimRight(w.body[:w.from], space)
	if before[len(before)-1] == ',' { // before it is at least the opening bracket
		return len(before) - 1, w.value.to
	}
	return w.from, w.value.to
}

// stringLen is the length of the string at the front with its quotes, 0 when there is none that ends.
func stringLen(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n + 1
		escapes := 0
		for k := i - 2; b[k] == '\\'; k-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
	return 0
}

// valueLen is the length of the JSON value at the front, 0 when it does not end. The space after a number or a word
// counts as a part of it.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringLen(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + depth // below zero, the bracket belongs to what is around the value
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}
