package workflow

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

const (
	// maxDepth bounds nesting. Real workflows nest below 10; Python's json
	// gives up near 1000.
	maxDepth = 200
	// maxNumber bounds the bytes of one number: Python refuses integers of
	// more than 4300 digits, which ComfyUI answers with a 500.
	maxNumber = 4300
	// maxBytes keeps positions below the flags of a token.
	maxBytes = 1 << 30
)

type kind uint8

const (
	noKind kind = iota
	kindNull
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// kinds has the kind of a value by its first byte.
var kinds = [256]kind{
	'n': kindNull, 't': kindBool, 'f': kindBool, '"': kindString, '[': kindArray, '{': kindObject,
	'-': kindNumber, '0': kindNumber, '1': kindNumber, '2': kindNumber, '3': kindNumber, '4': kindNumber,
	'5': kindNumber, '6': kindNumber, '7': kindNumber, '8': kindNumber, '9': kindNumber, 'N': kindNumber, 'I': kindNumber,
}

// token is one JSON value, or one key, quotes and brackets included. An
// object's keys and values follow it in turn, an array's values one after the
// other. A workflow has one for every 6 to 20 bytes, so it is kept small.
type token struct {
	start uint32 // where in src it begins, and flags
	limit uint32 // where it ends; of a container the token after the whole value
}

const (
	container = 1 << 31 // flag of an object or array
	escape    = 1 << 30 // flag of a string with backslash escapes
	flags     = container | escape
)

// scanner reads the JSON of RFC 8259, in UTF-8, without lone surrogates, and the
// three numbers that Python's json writes beside it: NaN, Infinity, -Infinity.
type scanner struct {
	src  []byte
	pos  int
	all  []token
	room [256]token // the last tokens of all; it is not on the heap
	used int
}

// scan reads src as one JSON value into its tokens.
func scan(src []byte) ([]token, error) {
	if len(src) > maxBytes {
		return nil, refuse("", "the workflow has %d bytes, more than the %d that can be read", len(src), maxBytes)
	}
	s := scanner{src: src}
	if s.peek() == 0 && s.pos == len(src) {
		return nil, refuse("", "the workflow is empty; send the JSON of a workflow: %s", exportHint)
	}
	if err := s.value(0); err != nil {
		return nil, err
	}
	if s.peek(); s.pos != len(src) {
		return nil, s.fail("there is more after the end of the workflow")
	}
	return append(s.all, s.room[:s.used]...), nil
}

func (s *scanner) fail(format string, args ...any) *Error {
	before := s.src[:s.pos]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):])
	what := fmt.Sprintf(format, args...)
	if s.pos >= len(s.src) {
		what = "it ends in the middle"
	}
	return refuse("", "the workflow is not valid JSON: line %d, column %d: %s; %s", line, column, what, exportHint)
}

// peek skips space and returns the next byte, 0 at the end (no JSON begins with 0).
func (s *scanner) peek() byte {
	if s.pos < len(s.src) && s.src[s.pos] > ' ' {
		return s.src[s.pos]
	}
	return s.afterSpace()
}

func (s *scanner) afterSpace() byte {
	for ; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) value(depth int) error {
	c := s.peek()
	switch kinds[c] {
	case kindString:
		return s.text()
	case kindNumber:
		return s.number()
	case kindArray:
		return s.array(depth + 1)
	case kindObject:
		return s.object(depth + 1)
	case kindBool:
		if c == 't' {
			return s.word("true")
		}
		return s.word("false")
	case kindNull:
		return s.word("null")
	}
	if bytes.HasPrefix(s.src[s.pos:], []byte("\ufeff")) {
		return s.fail("it begins with a byte order mark; save it as UTF-8 without BOM")
	}
	return s.fail("a value is expected")
}

func (s *scanner) open(depth int) (int, error) {
	if depth > maxDepth {
		return 0, s.fail("it is nested more than %d levels deep", maxDepth)
	}
	s.push(token{start: uint32(s.pos) | container})
	s.pos++
	return len(s.all) + s.used - 1, nil
}

func (s *scanner) close(at int) {
	s.pos++
	limit := uint32(len(s.all) + s.used)
	if i := at - len(s.all); i >= 0 {
		s.room[i].limit = limit
	} else {
		s.all[at].limit = limit
	}
}

func (s *scanner) push(t token) {
	if s.used == len(s.room) {
		s.all = append(s.all, s.room[:]...)
		s.used = 0
	}
	s.room[s.used] = t
	s.used++
}

func (s *scanner) object(depth int) error {
	at, err := s.open(depth)
	if err != nil {
		return err
	}
	if s.peek() == '}' {
		s.close(at)
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("a name in double quotes is expected")
		}
		if err := s.text(); err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.fail("a colon is expected")
		}
		s.pos++
		if err := s.value(depth); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.close(at)
			return nil
		default:
			return s.fail("a comma or } is expected")
		}
	}
}

func (s *scanner) array(depth int) error {
	at, err := s.open(depth)
	if err != nil {
		return err
	}
	if s.peek() == ']' {
		s.close(at)
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.close(at)
			return nil
		default:
			return s.fail("a comma or ] is expected")
		}
	}
}

func (s *scanner) leaf(start int, flag uint32) {
	s.push(token{start: uint32(start) | flag, limit: uint32(s.pos)})
}

func (s *scanner) word(word string) error {
	start := s.pos
	if s.pos += len(word); s.pos > len(s.src) || string(s.src[start:s.pos]) != word {
		s.pos = start
		return s.fail("a value is expected")
	}
	s.leaf(start, 0)
	return nil
}

func (s *scanner) number() error {
	start := s.pos
	if s.src[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.src) && s.src[s.pos] >= 'I' {
		return s.bare(start)
	}
	zero := s.pos < len(s.src) && s.src[s.pos] == '0'
	if n := s.digits(); n == 0 || zero && n > 1 {
		return s.fail("a number is malformed")
	}
	if s.pos < len(s.src) && s.src[s.pos] == '.' {
		s.pos++
		if s.digits() == 0 {
			return s.fail("a number is malformed")
		}
	}
	if s.pos < len(s.src) && s.src[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.src) && (s.src[s.pos] == '+' || s.src[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return s.fail("a number is malformed")
		}
	}
	if s.pos-start > maxNumber {
		return s.fail("a number has more than %d digits", maxNumber)
	}
	s.leaf(start, 0)
	return nil
}

// bare scans a number that is a word, which begins at start.
func (s *scanner) bare(start int) error {
	s.pos = start
	switch rest := s.src[start:]; {
	case bytes.HasPrefix(rest, []byte("NaN")):
		return s.word("NaN")
	case bytes.HasPrefix(rest, []byte("-")):
		return s.word("-Infinity")
	}
	return s.word("Infinity")
}

func (s *scanner) digits() int {
	from := s.pos
	for s.pos < len(s.src) && '0' <= s.src[s.pos] && s.src[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - from
}
