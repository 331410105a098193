package integration_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	failuresDoc = "../../docs/failures.md"
	tableBegins = "<!-- generated from internal/failure: go test ./test/integration -run TestTheTableOfKinds -update -->\n"
	tableEnds   = "<!-- end of the generated part -->\n"
	causesBegin = "<!-- causes, generated from internal/failure: go test ./test/integration -run TestTheTableOfKinds -update -->\n"
	causesEnd   = "<!-- end of the causes -->\n"
)

// kindsTable is the table of kinds as the code has it.
func kindsTable() string {
	var b strings.Builder
	b.WriteString("\n| kind | strike | counts as an attempt | next | remark |\n|---|---|---|---|---|\n")
	for _, kind := range failure.Kinds() {
		v := kind.Verdict()
		b.WriteString("| `" + string(kind) + "` | " + v.Strike.String() + " | " + v.Counts.String() + " | " + v.Next.String() + " | " + v.Summary + " |\n")
	}
	return b.String() + "\n"
}

// causesTable is that of the causes.
func causesTable() string {
	var b strings.Builder
	b.WriteString("\n| cause | shown by | way back |\n|---|---|---|\n")
	for _, cause := range failure.Causes() {
		r := cause.Remedy()
		b.WriteString("| `" + string(cause) + "` | " + r.Sign + " | " + r.Back + " |\n")
	}
	return b.String() + "\n"
}

func TestTheTableOfKindsAndThatOfCausesAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(failuresDoc)
	if err != nil {
		t.Fatal(err)
	}
	want := replaced(t, string(page), tableBegins, kindsTable(), tableEnds)
	want = replaced(t, want, causesBegin, causesTable(), causesEnd)
	if *update {
		if err := os.WriteFile(failuresDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Errorf("%s is not what the code says; run this test with -update", failuresDoc)
	}
}

// replaced is a page with one generated part as it should be.
func replaced(t *testing.T, page, begins, want, ends string) string {
	t.Helper()
	before, rest, begun := strings.Cut(page, begins)
	_, after, ended := strings.Cut(rest, ends)
	if !begun || !ended {
		t.Fatalf("%s has no generated part %q", failuresDoc, begins)
	}
	return before + begins + want + ends + after
}

// Every test that the page names is there.
func TestTheTestsThatTheRulesNameExist(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(failuresDoc)
	if err != nil {
		t.Fatal(err)
	}
	known := tests(t, "../..")
	for _, word := range strings.Split(string(doc), "`") {
		if (strings.HasPrefix(word, "Test") || strings.HasPrefix(word, "Fuzz")) && !known[word] {
			t.Errorf("%s names %s, and there is no such test", failuresDoc, word)
		}
	}
}

// tests are the names of all tests of the repository.
func tests(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(os.DirFS(root), path)
		for _, found := range declared.FindAllSubmatch(source, -1) {
			names[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
