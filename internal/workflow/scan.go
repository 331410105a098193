package workflow

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth bounds nesting. Real workflows nest below 10; Python's json
	// gives up near 1000.
	maxDepth = 200
	// maxNumber bounds the bytes of one number: Python refuses integers of
	// more than 4300 digits, which ComfyUI answers with a 500.
	maxNumber = 4300
	// maxBytes keeps positions within int32.
	maxBytes = 1 << 30
)

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// token is one JSON value, or one key, at src[start:end] (quotes and brackets
// included). An object's keys and values follow it in turn, an array's values
// one after the other; next is the token after the whole value.
type token struct {
	start, end, next int32
	kind             kind
	escaped          bool // a string with backslash escapes
}

// scanner reads exactly the JSON of RFC 8259, in UTF-8, without lone surrogates.
type scanner struct {
	src    string
	pos    int
	tokens []token
}

// scan reads src as one JSON value into its tokens.
func scan(src string) ([]token, error) {
	if len(src) > maxBytes {
		return nil, refuse("", "the workflow has %d bytes, more than the %d that can be read", len(src), maxBytes)
	}
	s := scanner{src: src, tokens: make([]token, 0, len(src)/8+8)}
	s.space()
	if s.pos == len(src) {
		return nil, refuse("", "the workflow is empty; send the JSON of a workflow: %s", exportHint)
	}
	if err := s.value(0); err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(src) {
		return nil, s.fail("there is more after the end of the workflow")
	}
	return s.tokens, nil
}

func (s *scanner) fail(format string, args ...any) *Error {
	line := 1 + strings.Count(s.src[:s.pos], "\n")
	column := 1 + utf8.RuneCountInString(s.src[1+strings.LastIndexByte(s.src[:s.pos], '\n'):s.pos])
	what := fmt.Sprintf(format, args...)
	if s.pos >= len(s.src) {
		what = "it ends in the middle"
	}
	return refuse("", "the workflow is not valid JSON: line %d, column %d: %s; %s", line, column, what, exportHint)
}

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips space and returns the next byte, 0 at the end (no JSON begins with 0).
func (s *scanner) peek() byte {
	s.space()
	if s.pos == len(s.src) {
		return 0
	}
	return s.src[s.pos]
}

func (s *scanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{':
		return s.object(depth + 1)
	case c == '[':
		return s.array(depth + 1)
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true", kindBool)
	case c == 'f':
		return s.word("false", kindBool)
	case c == 'n':
		return s.word("null", kindNull)
	}
	if strings.HasPrefix(s.src[s.pos:], "\ufeff") {
		return s.fail("it begins with a byte order mark; save it as UTF-8 without BOM")
	}
	return s.fail("a value is expected")
}

func (s *scanner) open(k kind, depth int) (int, error) {
	if depth > maxDepth {
		return 0, s.fail("it is nested more than %d levels deep", maxDepth)
	}
	at := len(s.tokens)
	s.tokens = append(s.tokens, token{start: int32(s.pos), kind: k})
	s.pos++
	return at, nil
}

func (s *scanner) close(at int) {
	s.pos++
	s.tokens[at].end = int32(s.pos)
	s.tokens[at].next = int32(len(s.tokens))
}

func (s *scanner) object(depth int) error {
	at, err := s.open(kindObject, depth)
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
	at, err := s.open(kindArray, depth)
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

func (s *scanner) leaf(k kind, start int, escaped bool) {
	s.tokens = append(s.tokens, token{
		start: int32(start), end: int32(s.pos), next: int32(len(s.tokens) + 1), kind: k, escaped: escaped,
	})
}

func (s *scanner) word(word string, k kind) error {
	if !strings.HasPrefix(s.src[s.pos:], word) {
		return s.fail("a value is expected")
	}
	start := s.pos
	s.pos += len(word)
	s.leaf(k, start, false)
	return nil
}

func (s *scanner) number() error {
	start := s.pos
	if s.src[s.pos] == '-' {
		s.pos++
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
	s.leaf(kindNumber, start, false)
	return nil
}

func (s *scanner) digits() (n int) {
	for s.pos < len(s.src) && '0' <= s.src[s.pos] && s.src[s.pos] <= '9' {
		s.pos++
		n++
	}
	return n
}
