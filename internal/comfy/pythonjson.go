package comfy

import (
	"encoding/json"
	"errors"
	"io"
)

// lenient replaces the words NaN, Infinity and -Infinity outside of strings by null: Python's json writes them, and JSON
// has none of them. It keeps its state between chunks, so that it works on streams too.
type lenient struct {
	inString, escaped bool
	minus             bool // held back: it may belong to -Infinity
	word              bool // inside of a replaced word
}

func (l *lenient) append(dst, src []byte) []byte {
	for _, c := range src {
		if l.inString {
			dst = append(dst, c)
			l.text(c)
			continue
		}
		if l.word {
			if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
				continue
			}
			l.word = false
		}
		dst = l.bare(dst, c)
	}
	return dst
}

func (l *lenient) text(c byte) {
	switch {
	case l.escaped:
		l.escaped = false
	case c == '\\':
		l.escaped = true
	case c == '"':
		l.inString = false
	}
}

func (l *lenient) bare(dst []byte, c byte) []byte {
	if c == 'N' || c == 'I' {
		l.minus, l.word = false, true
		return append(dst, "null"...)
	}
	if l.minus {
		l.minus = false
		dst = append(dst, '-')
	}
	if c == '-' {
		l.minus = true
		return dst
	}
	l.inString = c == '"'
	return append(dst, c)
}

// decode is json.Unmarshal for what Python wrote. A value of another type than
// expected leaves its field as it is; only what is no JSON at all is an error.
func decode(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		var l lenient
		err = json.Unmarshal(l.append(make([]byte, 0, len(data)+16), data), into)
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return nil
	}
	return err
}

// valid is json.Valid for what Python would read: bare NaN and Infinity are values.
func valid(data []byte) bool {
	var l lenient
	return json.Valid(data) || json.Valid(l.append(make([]byte, 0, len(data)+16), data))
}

// lenientReader is lenient as a stream.
type lenientReader struct {
	from  io.Reader
	state lenient
	in    []byte
	out   []byte // not yet read
	err   error
}

func newLenientReader(from io.Reader) *lenientReader {
	return &lenientReader{from: from, in: make([]byte, 32<<10)}
}

func (r *lenientReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		var n int
		n, r.err = r.from.Read(r.in)
		r.out = r.state.append(r.out[:0], r.in[:n])
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}
