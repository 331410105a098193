package main_test

import (
	"flag"
	"regexp"
	"testing"

	"github.com/alecthomas/kong"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/test/docs"
)

const root = "../.."

var update = flag.Bool("update", false, "write the generated part of docs/configuration.md")

func commandLine(t *testing.T) *daemon.CommandLine {
	t.Helper()
	line, err := main.CommandLine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestTheReferenceOfFlagsIsFresh(t *testing.T) {
	t.Parallel()
	docs.CheckReference(t, root, "dispatcher", commandLine(t), *update)
}

// Every command has its section in the page of commands, with its purpose and an example.
func TestEveryCommandHasItsSection(t *testing.T) {
	t.Parallel()
	docs.CheckCommands(t, root, commandLine(t))
}

func TestEverySettingSaysWhatItTrades(t *testing.T) {
	t.Parallel()
	for _, command := range commandLine(t).Model.Children {
		if command.Name == "run" {
			docs.CheckTrades(t, root, "dispatcher", command)
		}
	}
}

func TestEveryDispatcherLineInTheDocsIsAccepted(t *testing.T) {
	t.Parallel()
	docs.CheckLines(t, root, "dispatcher", commandLine(t), 8)
}

func TestWhatDoesNotExistIsRefused(t *testing.T) {
	t.Parallel()
	line := commandLine(t)
	for _, args := range [][]string{{"fly"}, {"why"}, {"run", "--coldown=5s"}, {"hosts", "drain"}} {
		if line.Read(args) == nil {
			t.Errorf("dispatcher %q was taken", args)
		}
	}
	for _, args := range [][]string{{"fly"}, {"run", "--coldown"}, {"hosts", "drain", "--force"}} {
		if docs.Exists(line.Model.Node, args) == nil {
			t.Errorf("dispatcher %q exists", args)
		}
	}
}

var inlineFlag = regexp.MustCompile(`^--([a-z-]+)`)

// A flag that the README names by itself is one of the dispatcher's, most of them of `dispatcher run`.
func TestEveryFlagInTheReadmeExists(t *testing.T) {
	t.Parallel()
	line := commandLine(t)
	known := map[string]bool{}
	var walk func(*kong.Node)
	walk = func(node *kong.Node) {
		for _, flag := range node.Flags {
			known[flag.Name] = true
		}
		for _, child := range node.Children {
			walk(child)
		}
	}
	walk(line.Model.Node)
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range docs.Code(docs.Prose(pages["README.md"])) {
		if match := inlineFlag.FindStringSubmatch(code); match != nil && !known[match[1]] {
			t.Errorf("README.md: `%s` is no flag", code)
		}
	}
}
