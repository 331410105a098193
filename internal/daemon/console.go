package daemon

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Console is where a command reads and writes: results go to Out, messages about progress and problems to Err. A command
// prints through its methods only, because they make text from other machines safe for a terminal.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit is an error without a message: the command has printed all there is to say, and the process ends with this code.
type Exit int

// Exit codes that all commands share.
const (
	ExitFailed      Exit = 1
	ExitInterrupted Exit = 130
)

func (Exit) Error() string { return "the command has printed why it ends" }

// End prints an error after the program's name, without the passwords in it, and returns the process's exit code.
func (c *Console) End(program string, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[Exit](err); ok {
		return int(code)
	}
	c.Say("%s: %s", program, WithoutPasswords(err.Error()))
	return int(ExitFailed)
}

// Say writes a line to Err.
func (c *Console) Say(format string, args ...any) {
	fmt.Fprintln(c.Err, Printable(fmt.Sprintf(format, args...)))
}

// Print writes a line to Out. It ignores that the reader of a pipe has closed it.
func (c *Console) Print(format string, args ...any) {
	fmt.Fprintln(c.Out, Printable(fmt.Sprintf(format, args...)))
}

// PrintPainted writes a line of coloured parts to Out. The error says that the reader has closed the pipe.
func (c *Console) PrintPainted(parts ...Painted) error {
	var line strings.Builder
	for _, part := range parts {
		line.WriteString(string(part))
	}
	_, err := io.WriteString(c.Out, line.String()+"\n")
	return err
}

// Overwrite writes a line to Err that the next call replaces, and nothing where Err is no terminal. An empty text clears
// the line.
func (c *Console) Overwrite(text string) {
	if IsTerminal(c.Err) {
		fmt.Fprint(c.Err, "\r\x1b[K"+Printable(text))
	}
}

// JSON writes a value as one line of JSON to Out.
func (c *Console) JSON(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return c.JSONText(append(body, '\n'))
}

// JSONText writes a text that is JSON already to Out.
func (c *Console) JSONText(text []byte) error {
	_, err := c.Out.Write(PrintableJSON(text))
	return err
}

// Verbatim writes bytes to Out unchanged, except to a terminal, which gets them made printable.
func (c *Console) Verbatim(body []byte) error {
	if IsTerminal(c.Out) {
		c.Print("%s", body)
		return nil
	}
	_, err := c.Out.Write(body)
	return err
}

// Table writes rows in aligned columns to Out; the first row is the head. An empty cell is shown as "-".
func (c *Console) Table(rows [][]string) error {
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			cells[i] = Printable(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// Confirm asks a person whether to go on; yes stands for the answer of --yes. The error says that nothing was done.
func (c *Console) Confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !IsTerminal(c.In) {
		return fmt.Errorf("%s: standard input is no terminal to ask on; add --yes", question)
	}
	fmt.Fprintf(c.Err, "%s? [y/N] ", Printable(question))
	answer, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && answer == "" {
		return errors.New("no answer; nothing was done")
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
