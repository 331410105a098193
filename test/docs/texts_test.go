package docs_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/test/docs"
)

// entries are the first column of a table of docs/troubleshooting.md.
func entries(t *testing.T, table string) []string {
	t.Helper()
	found := column(docs.Table(pages(t)["docs/troubleshooting.md"], table), 0)
	if len(found) == 0 {
		t.Fatalf("docs/troubleshooting.md has no table %s", table)
	}
	return found
}

func TestEveryReasonKindAndCauseHasAnEntry(t *testing.T) {
	t.Parallel()
	var causes []string
	for _, cause := range failure.Causes() {
		causes = append(causes, string(cause))
	}
	for table, values := range map[string][]string{
		"waiting": read(t, "internal/route").values("HoldReason"),
		"dead":    read(t, "internal/failure").values("Reason"),
		"kinds":   read(t, "internal/failure").values("Kind"),
		"causes":  causes,
	} {
		said := entries(t, table)
		for _, value := range values {
			if !slices.Contains(said, value) {
				t.Errorf("docs/troubleshooting.md has no entry for %s in the table %s", value, table)
			}
		}
		for _, value := range said {
			if !slices.Contains(values, value) {
				t.Errorf("docs/troubleshooting.md has an entry for %s in the table %s, which does not exist", value, table)
			}
		}
	}
}

func TestEveryErrorTextHasAnEntry(t *testing.T) {
	t.Parallel()
	code := read(t, "cmd/dispatcher", "cmd/agent", "internal/daemon", "internal/embedded", "internal/access", "internal/queue", "jetstream")
	var texts []string
	for _, text := range callsWithText(code, "fmt.Errorf", "errors.New") {
		if !onlyContext.MatchString(text) {
			texts = append(texts, text)
		}
	}
	checkEntries(t, "messages", texts, 150)
}

func TestEveryWarningOfTheLogsHasAnEntry(t *testing.T) {
	t.Parallel()
	code := read(t, "cmd/dispatcher", "cmd/agent", "internal/daemon", "internal/dispatcher", "internal/agent", "internal/comfy", "internal/gateway", "internal/dashboard")
	checkEntries(t, "logs", callsWithText(code, "*.Warn", "*.Error"), 50)
}

// onlyContext is a text that says what was being done, and whose cause follows: it tells nothing by itself.
var onlyContext = regexp.MustCompile(`^[a-z'’ %-][a-zA-Z'’ %-]*(: [a-z ]+)?: %w$|^%[sqw](: %[sqw])+$`)

// callsWithText are the texts, literals or sums that begin with one, that are the first argument of calls of some functions.
func callsWithText(code source, functions ...string) []string {
	var found []string
	for _, call := range nodes[*ast.CallExpr](code) {
		function, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || len(call.Args) == 0 {
			continue
		}
		of := "*"
		if x, named := function.X.(*ast.Ident); named && slices.Contains([]string{"fmt", "errors", "t", "b"}, x.Name) {
			of = x.Name
		}
		if !slices.Contains(functions, of+"."+function.Sel.Name) {
			continue
		}
		if text := build(call.Args[0], nil); text != "<>" {
			found = append(found, text)
		}
	}
	return found
}

var verb = regexp.MustCompile(`"?%(\[\d\])?[.\d]*[a-z]"?|<>`)

// checkEntries wants an entry for each text, and a text for each entry. In an entry … stands for anything.
func checkEntries(t *testing.T, table string, texts []string, least int) {
	t.Helper()
	patterns := map[string]*regexp.Regexp{}
	for _, entry := range entries(t, table) {
		parts := strings.Split(entry, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		patterns[entry] = regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
	}
	used := map[string]bool{}
	for _, text := range texts {
		text = strings.ReplaceAll(text, "%q", `"…"`)
		text = strings.ReplaceAll(verb.ReplaceAllString(text, "…"), "%%", "%")
		found := false
		for entry, pattern := range patterns {
			if pattern.MatchString(text) {
				found, used[entry] = true, true
			}
		}
		if !found {
			t.Errorf("docs/troubleshooting.md has no entry in the table %s for: %s", table, text)
		}
	}
	for entry := range patterns {
		if !used[entry] {
			t.Errorf("docs/troubleshooting.md has the entry `%s` in the table %s, which no text of the code has", entry, table)
		}
	}
	if len(texts) < least {
		t.Errorf("only %d texts were found for the table %s", len(texts), table)
	}
}
