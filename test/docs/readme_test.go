package docs_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/test/docs"
)

const readmeLines = 150

func pages(t *testing.T) map[string]string {
	t.Helper()
	found, err := docs.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheReadmeIsShort(t *testing.T) {
	t.Parallel()
	if n := strings.Count(pages(t)["README.md"], "\n"); n > readmeLines {
		t.Errorf("README.md has %d lines, at most %d", n, readmeLines)
	}
}

// commandKnown says for every program in a block of sh who tries it: CI, a test here, or the tests of the commands.
func commandKnown(t *testing.T, words []string) bool {
	t.Helper()
	switch words[0] {
	case "dispatcher", "agent": // cmd/dispatcher and cmd/agent parse them
		return true
	case "export": // the folder of go install, beside which TestEveryBlockIsKeptTrue says who runs the programs
		return true
	case "nats": // TestSubjectsOfTheNATSCommandsExist
		return len(words) > 2 && (words[1] == "pub" || words[1] == "sub")
	case "go":
		if len(words) > 2 && words[1] == "install" {
			return installable(t, words[2:])
		}
		if strings.Join(words, " ") == "go run ./cmd/dispatcher demo --dashboard" {
			return true // cmd/dispatcher's tests run it until its page answers
		}
		return inCI(t, strings.Join(words, " "))
	}
	return false
}

// inCI says whether .ci/run has this very command.
func inCI(t *testing.T, command string) bool {
	t.Helper()
	script, err := os.ReadFile(root + "/.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)[{;] ` + regexp.QuoteMeta(command) + `;? *\}?$`).Match(script)
}

// installable says whether all are commands of this module.
func installable(t *testing.T, paths []string) bool {
	t.Helper()
	for _, path := range paths {
		dir, ours := strings.CutPrefix(path, "./")
		if name, latest := strings.CutSuffix(path, "@latest"); latest {
			dir, ours = strings.CutPrefix(name, "github.com/comfyherd/comfyherd/")
		}
		main, err := os.ReadFile(filepath.Join(root, dir, "main.go"))
		if !ours || err != nil || !strings.Contains(string(main), "package main\n") {
			return false
		}
	}
	return true
}

func TestEveryCommandOfTheDocsIsTried(t *testing.T) {
	t.Parallel()
	for name, page := range pages(t) {
		for _, block := range docs.Fenced(page, "sh") {
			for line := range strings.Lines(block) {
				for _, words := range docs.Shell(line) {
					if !commandKnown(t, words) {
						t.Errorf("%s: nothing tries the command %q", name, words)
					}
				}
			}
		}
	}
	for _, command := range []string{"go test ./...", "go run ./cmd/dispatcher demo"} {
		if !inCI(t, command) {
			t.Errorf(".ci/run does not run %q", command)
		}
	}
}

func TestShellTakesLinesApart(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`COMFY_HOSTS=http://a agent     # beside`: {"agent"},
		`nats pub a.b "$(cat x.json)"`:            {"nats", "pub", "a.b", "$(cat x.json)"},
		`nats sub 'a.>'`:                          {"nats", "sub", "a.>"},
		`# only a remark`:                         nil,
	} {
		var got []string
		if commands := docs.Shell(line); len(commands) > 0 {
			got = commands[0]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got := docs.Shell("jq . a | dispatcher submit - && agent"); len(got) != 3 || got[1][0] != "dispatcher" {
		t.Errorf("got %q", got)
	}
}

func TestSubjectsOfTheNATSCommandsExist(t *testing.T) {
	t.Parallel()
	nc, _ := startNATS(t)
	seen := 0
	for name, page := range pages(t) {
		for _, args := range docs.Commands(page, "nats") {
			if args[0] != "pub" && args[0] != "sub" {
				continue
			}
			seen++
			var found struct{ Streams []string }
			published := strings.Replace(args[1], "comfy.events.", "comfy.append.", 1) // what is heard as an event
			ask(t, nc, "$JS.API.STREAM.NAMES", `{"subject":"`+published+`"}`, &found)
			want := map[string]string{"pub": "COMFY_JOBS", "sub": "COMFY_EVENTS"}[args[0]]
			if !slices.Contains(found.Streams, want) {
				t.Errorf("%s: nats %q: the subject is of %q, not of %s", name, args, found.Streams, want)
			}
		}
	}
	if seen < 2 {
		t.Errorf("only %d lines were seen", seen)
	}
}

// The Go of the pages, put into one program and run against a fleet, tells of the end of each job, its file and the answer of a cancel.
func TestTheGoOfThePagesRuns(t *testing.T) {
	t.Parallel()
	nc, _ := startFleet(t)
	blocks := slices.Concat(docs.Fenced(pages(t)["README.md"], "go"), docs.Fenced(pages(t)["docs/clients.md"], "go"))
	if len(blocks) != 2 {
		t.Fatalf("README.md and docs/clients.md have %d blocks of Go", len(blocks))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	text := strings.ReplaceAll(program(blocks), "nats.DefaultURL", "os.Args[1]") // the fleet of this test listens elsewhere
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "run", file, nc.ConnectedUrl(), picture("from-go"))
	run.Dir = root
	out, err := run.CombinedOutput()
	if err != nil || strings.Count(string(out), "completed gpu-") != 2 || !strings.Contains(string(out), "it had ended: completed") ||
		!regexp.MustCompile(`(?m)^from-go_\d+_\.png [1-9]\d* <nil>$`).Match(out) {
		t.Errorf("the Go of the pages: %v\n%s\n%s", err, text, out)
	}
}

// program gives blocks what they need: imports, a ctx and a workflow.
func program(blocks []string) string {
	return `package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	workflow := []byte(os.Args[2])
	{
` + strings.Join(blocks, "\t}\n\t{\n") + `	}
}
`
}

// The curl of the page of clients, as it stands there but for the address, submits a job, follows it, fetches its picture and cancels it.
func TestTheCurlOfTheClientsPageRuns(t *testing.T) {
	t.Parallel()
	_, q := startFleet(t)
	served, err := gateway.New(q, gateway.Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- served.Run(ctx, ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	blocks := docs.Fenced(pages(t)["docs/clients.md"], "bash")
	if len(blocks) != 2 || !strings.Contains(blocks[1], "gateway=http://127.0.0.1:8188\n") {
		t.Fatalf("docs/clients.md has %d blocks of bash, and curl is not the second", len(blocks))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "workflow_api.json"), []byte(picture("from-curl")), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Replace(blocks[1], "127.0.0.1:8188", served.Addr(), 1))
	run.Dir = dir
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "completed") {
		t.Errorf("the curl of docs/clients.md: %v\n%s", err, out)
	}
	if png, err := os.ReadFile(filepath.Join(dir, "picture.png")); err != nil || !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("the picture: %v, %d bytes", err, len(png))
	}
}

var (
	pythonPublish   = regexp.MustCompile(`\.publish\("([^"]+)", [^\n]*headers=\{"([^"]+)": "([^"]+)"\}`)
	pythonSubscribe = regexp.MustCompile(`\.subscribe\("([^"]+)"\)`)
)

// The README's Python, its steps taken in their order by a plain client, sees its job complete.
func TestThePythonOfTheReadmeSeesItsJobComplete(t *testing.T) {
	t.Parallel()
	nc, _ := startFleet(t)
	blocks := docs.Fenced(pages(t)["README.md"], "python")
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d blocks of Python", len(blocks))
	}
	var sub *nats.Subscription
	published := false
	for line := range strings.Lines(blocks[0]) {
		if step := pythonSubscribe.FindStringSubmatch(line); step != nil {
			var err error
			if sub, err = nc.SubscribeSync(step[1]); err != nil {
				t.Fatal(err)
			}
		}
		if step := pythonPublish.FindStringSubmatch(line); step != nil {
			if sub == nil {
				t.Error("README.md publishes before it subscribes: a quick job's events are over by then")
			}
			publish(t, nc, step[1], nats.Header{step[2]: {step[3]}}, picture("from-python"))
			published = true
		}
	}
	if sub == nil || !published {
		t.Fatalf("no publish and subscribe found in:\n%s", blocks[0])
	}
	awaitKind(t, sub, "completed")
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	for name, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(docs.Prose(page), -1) {
			target, err := url.Parse(match[1])
			if err != nil || target.IsAbs() {
				continue
			}
			if target.Path == "" {
				continue // within the page
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), target.Path)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, match[1])
			}
		}
	}
}
