package daemon

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Screen is a terminal that a command has for itself until Close, which shows again what was there before.
type Screen struct{ out io.Writer }

// OpenScreen clears the terminal. The terminal keeps what it showed.
func OpenScreen(out io.Writer) *Screen {
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	return &Screen{out}
}

// Draw shows lines from the top on, in place of what was there. They must be printable and no longer than the terminal is wide.
func (s *Screen) Draw(lines []string) error {
	_, err := io.WriteString(s.out, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	if err != nil {
		return fmt.Errorf("draw the screen: %w", err)
	}
	return nil
}

// Close gives the terminal back.
func (s *Screen) Close() { fmt.Fprint(s.out, "\x1b[?25h\x1b[?1049l") }

// Dimensions are the columns and lines of a terminal, 0 and 0 of a stream that is no terminal.
func Dimensions(out io.Writer) (width, height int) {
	file, ok := out.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}
