package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// CheckReference compares a program's part of docs/configuration.md, below root, with its grammar; with update it writes it.
func CheckReference(t *testing.T, root, program string, line *daemon.CommandLine, update bool) {
	t.Helper()
	name := filepath.Join(root, "docs", "configuration.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := ReplaceGenerated(string(page), program, Flags(line.Model.Node))
	if err != nil {
		t.Fatal(err)
	}
	if update {
		if err := os.WriteFile(name, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if fresh != string(page) {
		t.Errorf("docs/configuration.md is stale: run `go test ./cmd/%s -run TestTheReferenceOfFlagsIsFresh -update`", program)
	}
}

// CheckLines reads every command line of a program in the pages below root, and looks up every command and flag that their
// text mentions. At least so many of both must be found.
func CheckLines(t *testing.T, root, program string, line *daemon.CommandLine, least int) {
	t.Helper()
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	lines, mentions := 0, 0
	for name, page := range pages {
		for _, args := range Commands(page, program) {
			lines++
			if err := line.Read(args); err != nil {
				t.Errorf("%s: %s %q: %v", name, program, args, err)
			}
		}
		for _, args := range Mentions(page, program) {
			mentions++
			if err := Exists(line.Model.Node, args); err != nil {
				t.Errorf("%s: `%s %s`: %v", name, program, strings.Join(args, " "), err)
			}
		}
	}
	if min(lines, mentions) < least {
		t.Errorf("only %d command lines and %d mentions of %s were found", lines, mentions, program)
	}
}

// CheckCommands wants a section in docs/commands.md for each command of a program, with its purpose and an example.
func CheckCommands(t *testing.T, root string, line *daemon.CommandLine) {
	t.Helper()
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	var check func(node *kong.Node)
	check = func(node *kong.Node) {
		for _, child := range node.Children {
			if !child.Hidden {
				check(child)
			}
		}
		if node.Parent == nil || len(node.Children) > 0 {
			return
		}
		begin := "## `" + use(node) + "`\n\n" + paragraph(node.Help) + "\n"
		_, section, found := strings.Cut(pages["docs/commands.md"], begin)
		section, _, _ = strings.Cut(section, "\n## ")
		if !found || !strings.Contains(section, node.FullPath()[:strings.LastIndexByte(node.FullPath(), ' ')]) {
			t.Errorf("docs/commands.md lacks a section with an example that begins with:\n%s", begin)
		}
	}
	check(line.Model.Node)
}
