package main_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/test/docs"
)

const (
	root      = "../.."
	flagsPage = root + "/docs/flags.md"
)

var update = flag.Bool("update", false, "write the generated part of docs/flags.md")

func TestTheReferenceOfFlagsIsFresh(t *testing.T) {
	t.Parallel()
	model, err := main.Model(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(flagsPage)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := docs.ReplaceGenerated(string(page), "dispatcher", docs.Flags(model))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(flagsPage, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if fresh != string(page) {
		t.Error("docs/flags.md is stale: run `go test ./cmd/dispatcher -run TestTheReferenceOfFlagsIsFresh -update`")
	}
}

func TestEveryDispatcherLineInTheDocsIsTaken(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, page := range pages {
		for _, args := range docs.Commands(page, "dispatcher") {
			seen++
			if err := main.Reads(t.Context(), args); err != nil {
				t.Errorf("%s: dispatcher %q: %v", name, args, err)
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d lines were seen", seen)
	}
}

func TestEveryDispatcherCommandInTheTextExists(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	model, err := main.Model(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, page := range pages {
		for _, args := range docs.Mentions(page, "dispatcher") {
			seen++
			if err := docs.Exists(model, args); err != nil {
				t.Errorf("%s: `dispatcher %s`: %v", name, strings.Join(args, " "), err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands were seen", seen)
	}
}

func TestReadsRefusesWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"fly"}, {"why"}, {"run", "--coldown=5s"}, {"hosts", "drain"}} {
		if main.Reads(t.Context(), args) == nil {
			t.Errorf("dispatcher %q was taken", args)
		}
	}
	model, err := main.Model(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"fly"}, {"run", "--coldown"}, {"hosts", "drain", "--force"}} {
		if docs.Exists(model, args) == nil {
			t.Errorf("dispatcher %q exists", args)
		}
	}
}

var inlineFlag = regexp.MustCompile(`^--([a-z-]+)`)

// A flag that the README names by itself is one of the dispatcher's, most of them of `dispatcher run`.
func TestEveryFlagInTheReadmeExists(t *testing.T) {
	t.Parallel()
	model, err := main.Model(t.Context())
	if err != nil {
		t.Fatal(err)
	}
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
	walk(model)
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
