package docs_test

import (
	"go/ast"
	"io/fs"
	"os"
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

// unheard are the rooms whose texts have no entries of their own.
var unheard = map[string]string{
	"internal/comfysim": "a simulated ComfyUI answers as ComfyUI does",
	"internal/job":      "what is wrong with a job stands behind invalid_job or the name of its file, and names the field",
	"internal/workflow": "the same for a workflow",
}

// heard are the sources of all rooms but those that are unheard.
func heard(t *testing.T) source {
	t.Helper()
	dirs, err := fs.Glob(os.DirFS(root), "internal/*")
	if err != nil {
		t.Fatal(err)
	}
	code := read(t, "cmd/*", "jetstream")
	for _, dir := range dirs {
		if _, is := unheard[dir]; is {
			continue
		}
		if files, err := fs.Glob(os.DirFS(root), dir+"/*.go"); err == nil && len(files) > 0 {
			code = append(code, read(t, dir)...)
		}
	}
	return code
}

func TestEveryErrorTextHasAnEntry(t *testing.T) {
	t.Parallel()
	var texts []string
	code := heard(t)
	for _, text := range slices.Concat(callsWithText(code, 0, "fmt.Errorf", "errors.New"), refusals(code), errorMethods(code)) {
		if !onlyContext.MatchString(text) {
			texts = append(texts, text)
		}
	}
	checkEntries(t, "messages", texts, 350)
}

func TestEveryWarningOfTheLogsHasAnEntry(t *testing.T) {
	t.Parallel()
	code := heard(t)
	checkEntries(t, "logs", append(callsWithText(code, 0, "*.Warn", "*.Error"), callsWithText(code, 2, "*.Log")...), 80)
}

// refusals are the texts of errors that are a struct with a Message, such as those of calls.
func refusals(code source) []string {
	var found []string
	for _, lit := range nodes[*ast.CompositeLit](code) {
		for _, part := range lit.Elts {
			field, named := part.(*ast.KeyValueExpr)
			if !named || !slices.Contains([]string{"BadRequest", "NotFound", "Conflict", "TooBig", "TooMany", "Failed", "Stopping"}, lastName(lit.Type)) {
				continue
			}
			found = append(found, sentence(field.Value)...)
		}
	}
	return found
}

// errorMethods are the texts that methods named Error return.
func errorMethods(code source) []string {
	var found []string
	for _, f := range nodes[*ast.FuncDecl](code) {
		if f.Name.Name != "Error" || f.Recv == nil || f.Body == nil || f.Type.Results == nil {
			continue
		}
		for n := range ast.Preorder(f.Body) {
			if ret, is := n.(*ast.ReturnStmt); is && len(ret.Results) == 1 {
				found = append(found, sentence(ret.Results[0])...)
			}
		}
	}
	return found
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// sentence is the text of an expression: a literal, a sum that has one, or the form of a Sprintf. It is none when all of it is filled in.
func sentence(e ast.Expr) []string {
	if call, is := e.(*ast.CallExpr); is && lastName(call.Fun) == "Sprintf" {
		e = call.Args[0]
	}
	if text := build(e, nil); strings.Trim(text, "<>: ") != "" {
		return []string{text}
	}
	return nil
}

// onlyContext is a text that says what was being done, and whose cause follows: it tells nothing by itself.
var onlyContext = regexp.MustCompile(`^[a-z'’ %-][a-zA-Z'’ %-]*(: [a-z ]+)?: %w$|^%[sqw](: %[sqw])+$`)

// callsWithText are the texts, literals or sums that begin with one, that are an argument of calls of some functions.
func callsWithText(code source, argument int, functions ...string) []string {
	var found []string
	for _, call := range nodes[*ast.CallExpr](code) {
		function, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || len(call.Args) <= argument {
			continue
		}
		of := "*"
		if x, named := function.X.(*ast.Ident); named && slices.Contains([]string{"fmt", "errors", "t", "b"}, x.Name) {
			of = x.Name
		}
		if !slices.Contains(functions, of+"."+function.Sel.Name) {
			continue
		}
		if text := build(call.Args[argument], nil); text != "<>" {
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
		if letters := len(regexp.MustCompile(`[^\pL]`).ReplaceAllString(entry, "")); letters < 3 && entry != "--…" {
			t.Errorf("docs/troubleshooting.md has the entry `%s` in the table %s, which fits nearly any text", entry, table)
		}
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
