package main_test

import (
	"flag"
	"os"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/agent"
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
	fresh, err := docs.ReplaceGenerated(string(page), "agent", docs.Flags(model))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(flagsPage, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if fresh != string(page) {
		t.Error("docs/flags.md is stale: run `go test ./cmd/agent -run TestTheReferenceOfFlagsIsFresh -update`")
	}
}

func TestEveryAgentLineInTheDocsIsTaken(t *testing.T) {
	t.Parallel()
	pages, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	model, err := main.Model(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range pages {
		for _, args := range docs.Mentions(page, "agent") {
			if err := docs.Exists(model, args); err != nil {
				t.Errorf("%s: agent %q: %v", name, args, err)
			}
		}
		for _, args := range docs.Commands(page, "agent") {
			if err := main.Reads(t.Context(), args); err != nil {
				t.Errorf("%s: agent %q: %v", name, args, err)
			}
		}
	}
	if main.Reads(t.Context(), []string{"--slot=1"}) == nil {
		t.Error("agent --slot=1 was taken")
	}
}
