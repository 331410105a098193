package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/test/docs"
)

// kept says for each fenced block by what it is kept true: by its language on every page, or by its page, language and number.
// What cannot be run here has its reason. A test that is named must exist.
var kept = map[string]string{
	"console": "TestTheCommandsOfThePagesRun runs it and compares the output",
	"mermaid": "TestEveryDiagramIsWellFormed",
	"json":    "TestTheJSONOfThePagesIsRead, TestTheFileOfTheConfigurationPageIsRead",

	"README.md sh 1":     "TestEveryCommandOfTheDocsIsTried finds its commands in .ci/run; TestTheDemoHasAPage runs the last one",
	"README.md sh 2":     "TestEveryDispatcherLineInTheDocsIsAccepted; the guide runs the same commands with addresses of its own",
	"README.md sh 3":     "TestSubjectsOfTheNATSCommandsExist; docs/clients.md has the whole program",
	"README.md sh 4":     "TestEveryDispatcherLineInTheDocsIsAccepted; docs/commands.md runs each of them",
	"README.md text 1":   "wantOfReadme compares it with the demo",
	"README.md text 2":   "TestSubjectsInProseAreOfTheContract reads its subjects",
	"README.md go 1":     "TestTheGoOfThePagesRuns",
	"README.md python 1": "TestThePythonOfTheReadmeSeesItsJobComplete takes its steps",

	"docs/README.md sh 1": "TestEveryCommandOfTheDocsIsTried finds it in .ci/run",
	"docs/README.md sh 2": "as README.md sh 2",
	"docs/README.md sh 3": "as README.md sh 2",

	"docs/clients.md bash 1":   "not run by go test: nats is a program of others; make clients runs it",
	"docs/clients.md bash 2":   "TestTheCurlOfTheClientsPageRuns",
	"docs/clients.md go 1":     "TestTheGoOfThePagesRuns",
	"docs/clients.md python 1": "not run by go test: nats-py comes from PyPI; make clients runs it",
	"docs/clients.md ts 1":     "not run by go test: nats.js comes from npm; make clients runs it",

	"docs/commands.md sh 1":  "runs until it is stopped; the guide runs it",
	"docs/commands.md sh 2":  "internal/demo tests run the demo, and .ci/run does",
	"docs/commands.md sh 3":  "measures for a minute; TestEveryDispatcherLineInTheDocsIsAccepted, and the tests of internal/bench run less of it",
	"docs/commands.md sh 4":  "a receiver of webhooks has no public address here; TestEveryDispatcherLineInTheDocsIsAccepted",
	"docs/commands.md sh 5":  "needs a nats-server that is not embedded; TestEveryDispatcherLineInTheDocsIsAccepted",
	"docs/commands.md sh 6":  "runs until it is stopped; the guide runs it",
	"docs/commands.md sh 7":  "needs the agent as a process; TestEveryAgentLineInTheDocsIsAccepted",
	"docs/dashboard.md sh 1": "each runs until it is stopped; TestEveryDispatcherLineInTheDocsIsAccepted",
	"docs/dashboard.md sh 2": "runs until it is stopped; TestEveryDispatcherLineInTheDocsIsAccepted",

	"docs/security.md sh 1": "TestTheCommandsInTheSecurityPageWork",
	"docs/security.md sh 2": "TestTheCommandsInTheSecurityPageWork",
	"docs/security.md sh 3": "TestTheCommandsInTheSecurityPageWork",
	"docs/security.md sh 4": "TestTheCommandsInTheSecurityPageWork",
	"docs/security.md sh 5": "TestTheCommandsInTheSecurityPageWork",
	"docs/security.md sh 6": "TestTheCommandsInTheSecurityPageWork",

	"docs/security.md bash 1": "needs a nats-server that is not embedded; TestEveryDispatcherLineInTheDocsIsAccepted",
	"docs/security.md bash 2": "needs certificates of your own; TestEveryDispatcherLineInTheDocsIsAccepted",
	"docs/deploy.md sh 1":     "TestEveryCommandOfTheDocsIsTried looks for both commands in the module",

	"docs/gateway.md text 1":  "variables of a program of others",
	"docs/webhooks.md sh 1":   "a receiver of webhooks has no public address here; TestEveryDispatcherLineInTheDocsIsAccepted, and docs/commands.md runs set and list",
	"docs/webhooks.md sh 2":   "as docs/webhooks.md sh 1",
	"docs/webhooks.md http 1": "TestTheHeadersOfTheWebhooksPageAreThoseThatAreSent",
}

var indented = regexp.MustCompile(`\n\n    [^ \n]`)

var testName = regexp.MustCompile(`\bTest[A-Z]\w+`)

// Every fenced block of every page is kept true by something that is named here, so that a new one cannot be forgotten.
func TestEveryBlockIsKeptTrue(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for name, page := range pages(t) {
		if indented.MatchString(docs.Prose(page)) {
			t.Errorf("%s has a block that is indented and not fenced, so that no test sees it", name)
		}
		for language, n := range docs.Languages(page) {
			for i := range n {
				which := fmt.Sprintf("%s %s %d", name, language, i+1)
				if kept[language] != "" {
					which = language
				}
				if kept[which] == "" {
					t.Errorf("nothing keeps the block %q true: give it to a test, or say here why it cannot be run", which)
				}
				used[which] = true
			}
		}
	}
	tests := testNames(t)
	for which, how := range kept {
		if !used[which] {
			t.Errorf("there is no block %q", which)
		}
		for _, name := range testName.FindAllString(how, -1) {
			if !tests[name] {
				t.Errorf("%s: there is no test %s", which, name)
			}
		}
	}
}

func testNames(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			found[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A block of JSON is a job, all of whose fields exist. TestTheFileOfTheConfigurationPageIsRead reads that of the configuration page.
func TestTheJSONOfThePagesIsRead(t *testing.T) {
	t.Parallel()
	for name, page := range pages(t) {
		if name == "docs/configuration.md" {
			continue
		}
		for _, block := range docs.Fenced(page, "json") {
			if _, err := job.Parse(job.Message{Tenant: "acme", Priority: job.Usual, Sequence: 1, Body: []byte(block)}); err != nil {
				t.Errorf("%s: %v in %s", name, err, block)
			}
			if unknown := job.UnknownFields([]byte(block)); len(unknown) > 0 {
				t.Errorf("%s: a job has no fields %q", name, unknown)
			}
		}
	}
}

// A delivery of a webhook has the headers that the page shows: they are those by which a receiver verifies it.
func TestTheHeadersOfTheWebhooksPageAreThoseThatAreSent(t *testing.T) {
	t.Parallel()
	sent := read(t, "internal/outside", "jetstream").literals()
	for _, block := range docs.Fenced(pages(t)["docs/webhooks.md"], "http") {
		seen := 0
		for line := range strings.Lines(block) {
			if name, _, is := strings.Cut(line, ": "); is && strings.HasPrefix(name, "webhook-") {
				seen++
				if !slices.Contains(sent, name) {
					t.Errorf("docs/webhooks.md shows the header %s, which the code does not name", name)
				}
			}
		}
		if seen < 3 {
			t.Errorf("only %d headers were seen in\n%s", seen, block)
		}
	}
}
