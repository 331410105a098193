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
	"unicode"

	"golang.org/x/term"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// console is where a command reads and writes: results to out, everything said on the way to err.
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
	c.say("dispatcher: %s", clean(daemon.WithoutPasswords(err.Error())))
	return int(exitFailed)
}

// say writes a line about the way to standard error.
func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c.err, format+"\n", args...)
}

// print writes a line of the result. A closed pipe is the reader's way to say enough.
func (c *console) print(format string, args ...any) {
	fmt.Fprintf(c.out, format+"\n", args...)
}

func (c *console) json(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = c.out.Write(append(body, '\n'))
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
	fmt.Fprintf(c.err, "%s? [y/N] ", question)
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

func paint(on bool, colour, text string) string {
	if !on || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// clean keeps what other machines said from moving the cursor or starting a line of its own.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}

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
