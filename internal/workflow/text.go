package workflow

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// text scans one string. Lone surrogates are refused although JSON's grammar
// has them: they are no text, and Python fails on them only when a node or the
// history encodes them.
//
// It skips plain bytes by eight and by sixteen: with a look at each single byte a
// job takes 10 % more CPU (docs/performance.md, "Hand-written against plain").
func (s *scanner) text() error {
	start, pos := s.pos, s.pos+1
	wide, flag := false, uint32(0)
	for ; ; pos++ {
		if pos+8 < len(s.src) {
			odd := oddBytes(binary.LittleEndian.Uint64(s.src[pos : pos+8]))
			if odd == 0 {
				pos = s.skipPlain(start, pos+7)
				continue
			}
			pos += bits.TrailingZeros64(odd) / 8
		} else if pos >= len(s.src) {
			s.pos = pos
			return s.fail("")
		}
		switch c := s.src[pos]; {
		case c == '"':
			if wide && !utf8.Valid(s.src[start:pos]) {
				s.pos = start
				return s.fail("a string is not valid UTF-8")
			}
			s.pos = pos + 1
			s.leaf(start, flag)
			return nil
		case c == '\\':
			flag, s.pos = escape, pos
			if err := s.escape(); err != nil {
				return err
			}
			pos = s.pos
		case c < ' ':
			s.pos = pos
			return s.fail("a control character is in a string; write it as \\u%04x", c)
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
}

// skipPlain goes on from pos, the last of eight plain bytes of the string that begins at start. In a long string
// it skips further plain bytes by sixteen.
func (s *scanner) skipPlain(start, pos int) int {
	const longText = 32 // names are shorter, prompts are not
	if pos > start+longText {
		pos += plainLen(s.src[pos+1:])
	}
	return pos
}

// plainLen is how many bytes at the front of b, by sixteen, oddBytes does not
// mark.
func plainLen(b []byte) int {
	rest := b
	for len(rest) > 16 && oddBytes(binary.LittleEndian.Uint64(rest))|oddBytes(binary.LittleEndian.Uint64(rest[8:])) == 0 {
		rest = rest[16:]
	}
	return len(b) - len(rest)
}

// oddBytes marks, by their highest bits, which of eight bytes cannot stand for
// themselves in a string or are no ASCII: quotes, backslashes, what is below a
// space and what is above 127. It may be wrong about bytes after the first
// that it marks: a difference is negative for the byte that is looked for, for
// those above 127, and may be so for one after these.
func oddBytes(w uint64) uint64 {
	const each, high = 0x0101010101010101, 0x8080808080808080
	return ((w ^ each*'"' - each) | (w ^ each*'\\' - each) | (w - each*' ') | w) & high
}

// escape scans one escape sequence and stops at its last byte.
func (s *scanner) escape() error {
	s.pos++
	if s.pos >= len(s.src) {
		return s.fail("")
	}
	if s.src[s.pos] != 'u' {
		if strings.IndexByte(`"\/bfnrt`, s.src[s.pos]) < 0 {
			return s.fail(`\%c is no escape sequence; write a backslash as \\`, s.src[s.pos])
		}
		return nil
	}
	r, ok := hex4(s.src[s.pos:])
	if !ok {
		return s.fail(`four hex digits are expected after \u`)
	}
	s.pos += 4
	if !utf16.IsSurrogate(r) {
		return nil
	}
	if bytes.HasPrefix(s.src[s.pos+1:], []byte(`\u`)) {
		if low, ok := hex4(s.src[s.pos+2:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			s.pos += 6
			return nil
		}
	}
	return s.fail(`\u%04x is half a character (a lone surrogate)`, r)
}

// hex4 reads the four hex digits of "uXXXX".
func hex4(s []byte) (rune, bool) {
	if len(s) < 5 {
		return 0, false
	}
	var r rune
	for i := 1; i < 5; i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// appendUnescaped appends the text of the inside of a scanned JSON string.
func appendUnescaped(b, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		s = s[i+1:]
		length := 1
		switch s[0] {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, _ := hex4(s)
			length = 5
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[6:])
				r = utf16.DecodeRune(r, low)
				length = 11
			}
			b = utf8.AppendRune(b, r)
		default: // " \ /
			b = append(b, s[0])
		}
		s = s[length:]
	}
}

// appendText writes s as JSON.stringify does: only what JSON must escape.
func appendText[T string | []byte](b []byte, s T) []byte {
	return append(appendInside(append(b, '"'), s), '"')
}

// appendInside is appendText without the quotes.
func appendInside[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		if j := strings.IndexByte("\"\\\b\f\n\r\t", c); j >= 0 {
			b = append(b, '\\', `"\bfnrt`[j])
		} else {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(b, s[from:]...)
}
