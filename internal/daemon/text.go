package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Short cuts a text to at most so many letters, the last of which is then an ellipsis.
func Short(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most-1]) + "…"
}

// FirstLine is the first line of a message such as a traceback, cut to 300 letters.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return Short(line, 300)
}

// Spaces writes a name of the contract, as out_of_memory, in words.
func Spaces(name string) string { return strings.ReplaceAll(name, "_", " ") }

// Joined joins the texts that are not empty.
func Joined(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), separator)
}

// mostListed is how many names of many are written out.
const mostListed = 4

// Listed names at most four of many: "gpu-1, gpu-2, gpu-3, gpu-4 and 12 more".
func Listed(names []string) string {
	if len(names) <= mostListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostListed], ", "), len(names)-mostListed)
}

// Plural is a number and a noun: "1 job", "2 jobs".
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Ago is how long ago a time was, as in "12s ago", and empty for the zero time.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Span(now.Sub(t)) + " ago"
}

// In is when a time will come, as in "in 12s", and "now" when it has.
func In(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return "in " + Span(t.Sub(now))
}

// Span is a duration in at most two units: 12ms, 3.4s, 2m05s, 3h10m, 2d4h. A negative one counts as zero.
func Span(d time.Duration) string {
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
