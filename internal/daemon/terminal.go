package daemon

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Colourful reports whether a stream is a terminal that shows colours and whose user wants them (see no-color.org).
func Colourful(stream any) bool {
	return IsTerminal(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Width is the width of a terminal in columns, 0 of a stream that is no terminal.
func Width(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Colour is the number of an SGR attribute.
type Colour string

// The colours that the commands use.
const (
	Bold   Colour = "1"
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Blue   Colour = "34"
	Grey   Colour = "90"
)

// Painted is a printable text, in a colour or plain.
type Painted string

// Plain makes a text printable.
func Plain(text string) Painted { return Painted(Printable(text)) }

// Paint makes a text printable, in a colour when on.
func Paint(on bool, colour Colour, text string) Painted {
	if !on || colour == "" {
		return Plain(text)
	}
	return "\x1b[" + Painted(colour) + "m" + Plain(text) + "\x1b[0m"
}

// Wrap breaks a text between words into lines of at most width letters; a longer word is on a line alone.
func Wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
