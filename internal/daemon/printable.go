package daemon

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable makes a text fit for one line of a terminal: what would move the cursor, start a line or turn the direction
// of the letters is a space, and what is no UTF-8 a replacement character.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return ' '
		}
		return r
	}, s)
}

// PrintableJSON writes the same characters of a JSON text as \uXXXX, which changes nothing of what it says. Line feeds
// between values stay.
func PrintableJSON(text []byte) []byte {
	clean := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1, r != '\n' && steers(r):
			for _, unit := range utf16.Encode([]rune{r}) {
				clean = fmt.Appendf(clean, `\u%04x`, unit)
			}
		default:
			clean = append(clean, text[i:i+size]...)
		}
		i += size
	}
	return clean
}

// steers reports whether a character changes how others are shown: controls (C0, DEL, C1), format characters, among them
// the marks of direction, and separators of lines and paragraphs.
func steers(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// jsonWriter takes one JSON text with each write.
type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(text []byte) (int, error) {
	if _, err := j.w.Write(PrintableJSON(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}
