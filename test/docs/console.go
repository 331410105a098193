package docs

import (
	"regexp"
	"strings"
)

// Step is a command of a fenced block of console with the output that the page shows below it.
type Step struct {
	Command string // its lines, without the prompts "$ " and "> "
	Output  string // each line ends with a line break

	from, to int // where the output stands, by lines of the page
}

// Console gives the commands of the blocks of console of a page, in order.
func Console(page string) []Step {
	var steps []Step
	inside := false
	for i, line := range strings.SplitAfter(page, "\n") {
		info, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		if fence {
			inside = !inside && info == "console"
			continue
		}
		if !inside {
			continue
		}
		last := len(steps) - 1
		if command, begins := strings.CutPrefix(line, "$ "); begins {
			steps = append(steps, Step{Command: strings.TrimSuffix(command, "\n"), from: i + 1, to: i + 1})
		} else if more, goesOn := strings.CutPrefix(line, "> "); goesOn && last >= 0 && steps[last].Output == "" {
			steps[last].Command += "\n" + strings.TrimSuffix(more, "\n")
			steps[last].from, steps[last].to = i+1, i+1
		} else if last >= 0 {
			steps[last].Output += line
			steps[last].to = i + 1
		}
	}
	return steps
}

// WithOutputs is the page with other outputs below the steps that Console gave.
func WithOutputs(page string, steps []Step, outputs []string) string {
	lines := strings.SplitAfter(page, "\n")
	var b strings.Builder
	at := 0
	for i, step := range steps {
		b.WriteString(strings.Join(lines[at:step.from], ""))
		b.WriteString(outputs[i])
		at = step.to
	}
	b.WriteString(strings.Join(lines[at:], ""))
	return b.String()
}

// varying is what differs between two runs of the same command, and what stands for it in a comparison.
var varying = []struct {
	form *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`\bd-[a-z0-9]{8}\b`), "DISPATCHER"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC)?`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b(\d+d)?(\d+h)?(\d+m)?\d+(\.\d+)?(ns|µs|ms|s|m|h|d)( ago)?( |\b)`), "SPAN "},
	{regexp.MustCompile(`\bin SPAN |\bnow\b`), "SPAN "},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?([KMGT]i?B|kB|B)\b`), "SIZE"},
	{regexp.MustCompile(`, waited SPAN ?`), ""},             // left out when it is no time at all
	{regexp.MustCompile(`(?m)^5 minutes .*$`), "5 minutes"}, // of top: they are counted some seconds later
	{regexp.MustCompile(`"(time|first|last|until|received|queued_for|ran_for)":"[^"]*"`), `"$1":"TIME"`},
	{regexp.MustCompile(`\b\d+%`), "N%"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(?m) +$`), ""},
}

// Alike is an output in which times, durations, ids, sizes, addresses and the widths of columns are replaced by words, so that
// two runs of a command can be compared.
func Alike(output string) string {
	for _, v := range varying {
		output = v.form.ReplaceAllString(output, v.word)
	}
	return strings.TrimRight(output, "\n ")
}
