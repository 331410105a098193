package workflow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// longText is how many bytes of a string Shorten keeps at most: more than the name of any model file has.
const longText = 4 << 10

const dataScheme = "data:"

// ErrLong: what is left after Shorten is more than the caller takes.
var ErrLong = errors.New("too many nodes")

// Shorten reads JSON and writes "" for every string of more than 4 KiB, such as a picture in base64, and "data:," for one that is a data
// URI, so that it still is one. A graph has the same hash, requirements, options and size afterwards. It keeps in memory what is left, and fails with ErrLong when that is more than most bytes.
func Shorten(from io.Reader, most int) ([]byte, error) {
	s := shortener{}
	chunk := make([]byte, 64<<10)
	for {
		n, err := from.Read(chunk)
		s.take(chunk[:n])
		switch {
		case len(s.left) > most:
			return nil, fmt.Errorf("the workflow has more than %d bytes without its long texts: %w", most, ErrLong)
		case errors.Is(err, io.EOF):
			return s.left, nil
		case err != nil:
			return nil, err
		}
	}
}

type shortener struct {
	left    []byte
	begin   int  // of the string that is read, in left
	inside  bool // a string
	escaped bool // the byte before was a backslash that escapes the next
	long    bool // the string is left out
}

func (s *shortener) take(chunk []byte) {
	for len(chunk) > 0 {
		if s.inside {
			chunk = s.text(chunk)
			continue
		}
		n := bytes.IndexByte(chunk, '"') + 1
		if n == 0 {
			s.left = append(s.left, chunk...)
			return
		}
		s.left = append(s.left, chunk[:n]...)
		s.begin, s.inside, s.long = len(s.left), true, false
		chunk = chunk[n:]
	}
}

// text takes what belongs to a string, and gives the rest.
func (s *shortener) text(chunk []byte) []byte {
	n := 0
	for n < len(chunk) && s.inside {
		switch c := chunk[n]; {
		case s.escaped:
			s.escaped = false
		case c == '\\':
			s.escaped = true
		case c == '"':
			s.inside = false
		}
		n++
	}
	if kept := len(s.left) - s.begin; !s.long && kept+n > longText {
		s.long = true
		isURI := bytes.HasPrefix(append(s.left[s.begin:], chunk[:min(n, len(dataScheme))]...), []byte(dataScheme))
		s.left = s.left[:s.begin]
		if isURI {
			s.left = append(s.left, dataScheme+","...)
		}
	}
	if s.long {
		if !s.inside {
			s.left = append(s.left, '"')
		}
		return chunk[n:]
	}
	s.left = append(s.left, chunk[:n]...)
	return chunk[n:]
}
