package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// console is where a command reads and writes: results to out, everything said on the way to err. All that a command
// prints goes through its methods, which make what others said fit for a terminal.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// end says what went wrong, if anything, and gives the exit code.
func (c *console) end(err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	c.say("dispatcher: %s", daemon.WithoutPasswords(err.Error()))
	return int(exitFailed)
}

// say writes a line about the way to standard error.
func (c *console) say(format string, args ...any) {
	fmt.Fprintln(c.err, clean(fmt.Sprintf(format, args...)))
}

// print writes a line of the result. A closed pipe is the reader's way to say enough.
func (c *console) print(format string, args ...any) {
	fmt.Fprintln(c.out, clean(fmt.Sprintf(format, args...)))
}

// printPainted writes a line of the result whose parts have colours. The error is that of a reader who has gone.
func (c *console) printPainted(parts ...painted) error {
	var line strings.Builder
	for _, part := range parts {
		line.WriteString(string(part))
	}
	_, err := io.WriteString(c.out, line.String()+"\n")
	return err
}

func (c *console) json(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return c.jsonText(append(body, '\n'))
}

// jsonText writes what is JSON already.
func (c *console) jsonText(text []byte) error {
	_, err := c.out.Write(daemon.PrintableJSON(text))
	return err
}

// verbatim writes a file of somebody else's: as it is, and to a terminal as far as it can be shown there.
func (c *console) verbatim(body []byte) error {
	if isTerminal(c.out) {
		c.print("%s", body)
		return nil
	}
	_, err := c.out.Write(body)
	return err
}

// table aligns rows in columns; the first row is the head.
func (c *console) table(rows [][]string) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			row[i] = clean(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// confirm asks a person before something is done to many. Without a person --yes must have answered.
func (c *console) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(c.in) {
		return fmt.Errorf("%s: nobody is there to be asked; add --yes", question)
	}
	fmt.Fprintf(c.err, "%s? [y/N] ", clean(question))
	answer, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil && answer == "" {
		return errors.New("no answer; nothing was done")
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colourful reports whether a stream shows colours to a person who wants them.
func colourful(stream any) bool {
	return isTerminal(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	grey   = "90"
)

// painted is a clean text, in a colour or plain.
type painted string

func plain(text string) painted { return painted(clean(text)) }

func paint(on bool, colour, text string) painted {
	if !on || colour == "" {
		return plain(text)
	}
	return "\x1b[" + painted(colour) + "m" + plain(text) + "\x1b[0m"
}

// clean makes what others said fit for one line.
func clean(s string) string { return daemon.Printable(s) }

// short cuts a text for one cell of a line.
func short(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most-1]) + "…"
}

// ago is how long a moment is past, as in "12s ago".
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return span(now.Sub(t)) + " ago"
}

// in is how long a moment is ahead, as in "in 12s".
func in(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return "in " + span(t.Sub(now))
}

// span is a duration with two figures that matter: 12ms, 3.4s, 2m05s, 3h10m, 2d4h.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Truncate(time.Second).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// bytesText is a size as people say it.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, step := float64(n)/unit, 0
	for value >= unit && step < 4 {
		value /= unit
		step++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[step])
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
