package main_test

import (
	"flag"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/agent"
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
	docs.CheckReference(t, root, "agent", commandLine(t), *update)
}

func TestEverySettingSaysWhatItTrades(t *testing.T) {
	t.Parallel()
	docs.CheckTrades(t, root, "agent", commandLine(t).Model.Node)
}

func TestEveryAgentLineInTheDocsIsAccepted(t *testing.T) {
	t.Parallel()
	docs.CheckLines(t, root, "agent", commandLine(t), 1)
	if commandLine(t).Read([]string{"--slot=1"}) == nil {
		t.Error("agent --slot=1 was accepted")
	}
}
