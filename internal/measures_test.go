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

const (
	maxUsualLines = 40 // of 95 in 100 functions of a room
	maxNesting    = 3
)

// measures are rules about the size of functions and the choice of words; each returns the places that break it.
var measures = map[string]func(tree) []string{
	"NineteenInTwentyFunctionsAreShort": usualProblems,
	"StatementsAreNotNestedDeeply":      nestingProblems,
	"TheGlossaryIsInOrder":              glossaryProblems,
	"NamesUseOurWords":                  wordProblems,
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
	nested := "func f(a bool) { for a { if a { switch { case a: %s } } } }"
	for name, tc := range map[string]struct {
		rule string
		path string
		src  string
		want string // empty: the rule has nothing to say
	}{
		"OneLongFunctionInTwenty":   {"NineteenInTwentyFunctionsAreShort", "jetstream/a.go", fmt.Sprintf(long, 'f') + short, ""},
		"TwoLongFunctionsInTwenty":  {"NineteenInTwentyFunctionsAreShort", "jetstream/a.go", fmt.Sprintf(long+long, 'f', 'g') + short[12:], "jetstream: "},
		"LongTests":                 {"NineteenInTwentyFunctionsAreShort", "jetstream/a_test.go", fmt.Sprintf(long+long, 'f', 'g'), ""},
		"ThreeDeep":                 {"StatementsAreNotNestedDeeply", "jetstream/a.go", fmt.Sprintf(nested, "f(a)"), ""},
		"FourDeep":                  {"StatementsAreNotNestedDeeply", "jetstream/a.go", fmt.Sprintf(nested, "if a { f(a) }"), "jetstream/a.go:2: f"},
		"ElseIfIsNoDeeper":          {"StatementsAreNotNestedDeeply", "jetstream/a.go", fmt.Sprintf(nested, "f(a) } } else if a { for a { f(a)"), ""},
		"AFunctionWithinBeginsAnew": {"StatementsAreNotNestedDeeply", "jetstream/a.go", fmt.Sprintf(nested, "_ = func() { if a { f(a) } }"), ""},
		"GlossaryInOrder":           {"TheGlossaryIsInOrder", "internal/doc.go", words("ack  what one is", "block   what one is"), ""},
		"GlossaryOutOfOrder":        {"TheGlossaryIsInOrder", "internal/doc.go", words("block  what one is", "ack  what one is"), "ack"},
		"WordTwice":                 {"TheGlossaryIsInOrder", "internal/doc.go", words("ack  what one is", "ack  something else"), "ack"},
		"WordWithoutMeaning":        {"TheGlossaryIsInOrder", "internal/doc.go", words("ack"), "ack"},
		"Task":                      {"NamesUseOurWords", "internal/route/a.go", "func runTasks() {}", "runTasks"},
		"Worker":                    {"NamesUseOurWords", "cmd/agent/a.go", "type workerPool int", "workerPool"},
		"WorkerAsField":             {"NamesUseOurWords", "cmd/agent/a.go", "type pool struct{ worker int }", "worker"},
		"WorkerOfComfyUI":           {"NamesUseOurWords", "internal/comfy/a.go", "var worker int", ""},
		"AskedForIsNoTask":          {"NamesUseOurWords", "internal/route/a.go", "var asked, multitasking int", ""},
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

// nestingProblems finds statements within statements within statements. What a function literal holds is its own.
func nestingProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, fn := range f.functions() {
			deepest := 0
			ast.PreorderStack(fn.Body, nil, func(n ast.Node, stack []ast.Node) bool {
				deepest = max(deepest, depth(append(stack, n)))
				return true
			})
			if deepest > maxNesting {
				problems = append(problems, fmt.Sprintf("%s:%d: %s nests %d deep, at most %d", f.path, f.line(fn), fn.Name.Name, deepest, maxNesting))
			}
		}
	}
	return problems
}

// depth counts the branches and loops of a path since the innermost function. An else if is as deep as its if.
func depth(path []ast.Node) int {
	n := 0
	for i, node := range path {
		switch node := node.(type) {
		case *ast.FuncLit:
			n = 0
		case *ast.IfStmt:
			if outer, ok := path[max(i-1, 0)].(*ast.IfStmt); !ok || outer.Else != node {
				n++
			}
		case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
			n++
		}
	}
	return n
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
