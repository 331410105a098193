package internal_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// maxUsualLines is what 95 in 100 functions of a room have at most.
const maxUsualLines = 40

// measures are what the linter cannot see, since it judges one function or name at a time: each returns the places that
// break it. The longest function, the longest file and the deepest nesting are the linter's (.golangci.yml).
var measures = map[string]func(tree) []string{
	"NineteenInTwentyFunctionsAreShort": usualProblems,
	"TheGlossaryIsInOrder":              glossaryProblems,
	"NamesUseOurWords":                  wordProblems,
	"ACallThatFillsComesFirst":          returnProblems,
}

func TestTheHouseIsMeasured(t *testing.T) {
	t.Parallel()
	house := load(t, os.DirFS(".."))
	for name, rule := range measures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems := rule(house)
			slices.Sort(problems)
			for _, p := range problems {
				t.Error(p)
			}
		})
	}
}

func TestEveryMeasureBites(t *testing.T) {
	t.Parallel()
	long := "func %c() {" + strings.Repeat("\n", 40) + "}\n" // 41 lines
	short := strings.Repeat("func _() {}\n", 19)
	for name, tc := range map[string]struct {
		rule string
		path string
		src  string
		want string // empty: the rule has nothing to say
	}{
		"OneLongFunctionInTwenty":  {"NineteenInTwentyFunctionsAreShort", "jetstream/a.go", fmt.Sprintf(long, 'f') + short, ""},
		"TwoLongFunctionsInTwenty": {"NineteenInTwentyFunctionsAreShort", "jetstream/a.go", fmt.Sprintf(long+long, 'f', 'g') + short[12:], "jetstream: "},
		"LongTests":                {"NineteenInTwentyFunctionsAreShort", "jetstream/a_test.go", fmt.Sprintf(long+long, 'f', 'g'), ""},
		"GlossaryInOrder":          {"TheGlossaryIsInOrder", "internal/doc.go", words("ack  what one is", "block   what one is"), ""},
		"GlossaryOutOfOrder":       {"TheGlossaryIsInOrder", "internal/doc.go", words("block  what one is", "ack  what one is"), "ack"},
		"WordTwice":                {"TheGlossaryIsInOrder", "internal/doc.go", words("ack  what one is", "ack  something else"), "ack"},
		"WordWithoutMeaning":       {"TheGlossaryIsInOrder", "internal/doc.go", words("ack"), "ack"},
		"Task":                     {"NamesUseOurWords", "internal/route/a.go", "func runTasks() {}", "runTasks"},
		"Worker":                   {"NamesUseOurWords", "cmd/agent/a.go", "type workerPool int", "workerPool"},
		"WorkerAsField":            {"NamesUseOurWords", "cmd/agent/a.go", "type pool struct{ worker int }", "worker"},
		"WorkerOfComfyUI":          {"NamesUseOurWords", "internal/comfy/a.go", "var worker int", ""},
		"ReturnedBesideACall":      {"ACallThatFillsComesFirst", "internal/queue/a.go", "func f() (a int, err error) { return a, g(1, &a) }", "internal/queue/a.go:2: a "},
		"ReturnedBehindACall":      {"ACallThatFillsComesFirst", "internal/queue/a.go", "func f() (a int, err error) { return a, g(&b) }", ""},
		"AskedForIsNoTask":         {"NamesUseOurWords", "internal/route/a.go", "var asked, multitasking int", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{
				"go.mod":          {Data: []byte("module m\n")},
				"internal/doc.go": {Data: []byte("package internal\n")},
			}
			src := tc.src
			if tc.path != "internal/doc.go" {
				src = "package a\n" + src
			}
			files[tc.path] = &fstest.MapFile{Data: []byte(src)}
			found := measures[tc.rule](load(t, files))
			if tc.want == "" && len(found) > 0 || tc.want != "" && (len(found) != 1 || !strings.Contains(found[0], tc.want)) {
				t.Errorf("%s found %q, want %q", tc.rule, found, tc.want)
			}
		})
	}
}

// words is a plan with a glossary.
func words(lines ...string) string {
	return "// Plan.\n//\n// # Words\n//\n// About them.\n//\n//\t" + strings.Join(lines, "\n//\t") + "\npackage internal\n"
}

// usualProblems finds rooms in which more than one function in twenty is longer than usual.
func usualProblems(t tree) []string {
	lengths := map[string][]int{}
	for _, f := range t.files {
		for _, fn := range f.functions() {
			if !f.test {
				lengths[f.dir] = append(lengths[f.dir], f.fset.Position(fn.End()).Line-f.line(fn)+1)
			}
		}
	}
	var problems []string
	for room, all := range lengths {
		slices.Sort(all)
		if usual := all[(len(all)*95+99)/100-1]; usual > maxUsualLines {
			problems = append(problems, fmt.Sprintf("%s: 95 %% of the functions have up to %d lines, at most %d", room, usual, maxUsualLines))
		}
	}
	return problems
}

func (f goFile) functions() []*ast.FuncDecl {
	var found []*ast.FuncDecl
	for _, decl := range f.ast.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
			found = append(found, fn)
		}
	}
	return found
}

// glossaryProblems finds words that stand twice, at the wrong place, or without a meaning.
func glossaryProblems(t tree) []string {
	_, glossary, _ := strings.Cut(t.plan, "// # Words\n")
	var problems []string
	last := ""
	for line := range strings.Lines(glossary) {
		line, entry := strings.CutPrefix(strings.TrimSpace(line), "//\t")
		if !entry {
			continue
		}
		word, meaning, _ := strings.Cut(line, "  ")
		switch {
		case strings.TrimSpace(meaning) == "":
			problems = append(problems, fmt.Sprintf("internal/doc.go: %q has no meaning", word))
		case word <= last:
			problems = append(problems, fmt.Sprintf("internal/doc.go: %q stands behind %q", word, last))
		}
		last = word
	}
	return problems
}

// others are words of other systems for a job and an agent.
var others = []string{"task", "tasks", "worker", "workers"}

// foreign are the rooms that speak of ComfyUI's worker thread and of threads of the system, and those beside the house.
var foreign = []string{"internal/comfy", "internal/comfysim", "internal/bench", "test"}

// threads are the names by which other rooms speak of ComfyUI's worker thread.
var threads = []string{"WorkerGone", "WorkerDied"}

// wordProblems finds declared names with a word of others for what is ours.
func wordProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		if f.test || slices.ContainsFunc(foreign, func(room string) bool { return within(f.dir, room) }) {
			continue
		}
		for _, name := range declared(f.ast) {
			if slices.Contains(threads, name.Name) {
				continue
			}
			for _, word := range split(name.Name) {
				if slices.Contains(others, word) {
					problems = append(problems, fmt.Sprintf("%s:%d: %s: the house says job, agent or goroutine", f.path, f.line(name), name.Name))
				}
			}
		}
	}
	return problems
}

// declared are the names that a file gives to functions, types, fields, constants, variables and parameters.
func declared(file *ast.File) []*ast.Ident {
	var found []*ast.Ident
	for n := range ast.Preorder(file) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			found = append(found, n.Name)
		case *ast.TypeSpec:
			found = append(found, n.Name)
		case *ast.ValueSpec:
			found = append(found, n.Names...)
		case *ast.Field:
			found = append(found, n.Names...)
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					found = append(found, id)
				}
			}
		}
	}
	return found
}

// split divides a name into its words, in lower case.
func split(name string) []string {
	var found []string
	for _, r := range name {
		if len(found) == 0 || unicode.IsUpper(r) || r == '_' {
			found = append(found, "")
		}
		found[len(found)-1] += string(unicode.ToLower(r))
	}
	return found
}
