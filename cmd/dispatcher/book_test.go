//go:build unix && !race

package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/test/docs"
)

// reading are the pages that have blocks of console, in the order in which they run. The guide comes first: it starts the
// fleet that all of them share.
var reading = []string{"docs/guide.md", "docs/README.md", "docs/commands.md", "docs/troubleshooting.md", "docs/patterns.md"}

// Every command of every block of console is run, in order and on one fleet, and its output is what the page shows. With
// -update the pages get the outputs that differ. With the race detector this would take four times as long, and it would find nothing
// that the tests of the packages do not.
func TestTheCommandsOfThePagesRun(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range pages {
		if len(docs.Console(page)) > 0 && !slices.Contains(reading, name) {
			t.Errorf("%s has blocks of console, but no place in the order of pages", name)
		}
	}
	b := openBook(t)
	for _, name := range reading {
		b.page(name, pages[name])
	}
}

// page runs the commands of a page and compares their outputs.
func (b *book) page(name, page string) {
	b.t.Helper()
	began := time.Now()
	b.first = len(b.jobs)
	steps := docs.Console(page)
	outputs := make([]string, len(steps))
	differ := false
	for i, step := range steps {
		outputs[i] = step.Output
		at := time.Now()
		got := b.run(step)
		if took := time.Since(at); took > time.Second {
			b.t.Logf("%v: %s", took.Round(time.Millisecond), step.Command)
		}
		if docs.Alike(got) == docs.Alike(step.Output) {
			continue
		}
		outputs[i], differ = got, true
		if !*update {
			b.t.Errorf("%s: $ %s\nthe page (-), the command (+); with -update the page gets it:\n%s", name, step.Command, cmp.Diff(docs.Alike(step.Output), docs.Alike(got)))
		}
	}
	if *update && differ {
		if err := os.WriteFile(root+"/"+name, []byte(docs.WithOutputs(page, steps, outputs)), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Logf("%s: %d commands in %v", name, len(steps), time.Since(began).Round(time.Millisecond))
}

// run runs a command and gives its output. A command that only asks is asked again until its output is the one that is
// wanted, since a host or a block needs a moment to come or to go.
func (b *book) run(step docs.Step) string {
	b.t.Helper()
	if job, waits, is := strings.Cut(step.Command, "; wait "); is && step.Command == "kill "+waits+"; wait "+waits { // b.kill waits, too
		return b.kill([]string{strings.TrimPrefix(job, "kill ")})
	}
	commands := docs.Shell(step.Command)
	if len(commands) != 1 || strings.ContainsAny(withoutQuotes(step.Command), "|<>$;*~\n") && !strings.HasSuffix(step.Command, "&") {
		return b.bash(step.Command)
	}
	words := commands[0]
	background := strings.HasSuffix(step.Command, "&")
	switch {
	case words[0] == "agent" && background:
		return b.agent(step.Command, words[1:])
	case words[0] == "kill":
		return b.kill(words[1:])
	case words[0] == "dispatcher" && background:
		return b.begin(words[1:])
	case words[0] == "head":
		return b.again(step, func() string { return b.bash(step.Command) })
	case words[0] != "dispatcher" || words[1] == "access": // which makes folders where it runs
		return b.bash(step.Command)
	}
	if !asks(words[1:]) {
		return b.dispatcher(words[1:])
	}
	return b.again(step, func() string { return b.dispatcher(words[1:]) })
}

// again runs what changes nothing until its output is the one that the page shows, and gives up after a while.
func (b *book) again(step docs.Step, run func() string) (got string) {
	b.until(func() bool {
		got = run()
		return step.Output == "" || docs.Alike(got) == docs.Alike(step.Output)
	})
	return got
}

// asks says whether a command changes nothing.
func asks(args []string) bool {
	switch args[0] {
	case "hosts", "blocks", "dead", "affinity", "tenants", "access":
		return len(args) == 1 || args[1] == "list" || args[1] == "show" || strings.HasPrefix(args[1], "--")
	case "jobs", "queue", "why", "status", "workflows", "top", "doctor": // jobs of the doctor are of tenants that no page looks at
		return true
	}
	return false
}

// withoutQuotes leaves out what stands between single quotes.
func withoutQuotes(command string) string {
	var b strings.Builder
	for i, part := range strings.Split(command, "'") {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}
