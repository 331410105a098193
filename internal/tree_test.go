package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
	"testing"
)

// module is the prefix of our own import paths.
const module = "github.com/comfyherd/comfyherd/"

// goFile is one parsed Go file of the tree.
type goFile struct {
	path string // from the root, with slashes
	dir  string
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// line is where a node begins.
func (f goFile) line(n ast.Node) int { return f.fset.Position(n.Pos()).Line }

// imports lists the file's import paths and the names they are given ("" for none).
func (f goFile) imports() map[string]string {
	found := map[string]string{}
	for _, spec := range f.ast.Imports {
		name := ""
		if spec.Name != nil {
			name = spec.Name.Name
		}
		found[strings.Trim(spec.Path.Value, `"`)] = name
	}
	return found
}

// tree is what the rules judge: every Go file, the names at the top, and three texts.
type tree struct {
	files []goFile
	top   []string
	plan  string // the text of internal/doc.go
	walks string // the text of docs/architecture.md
	gomod string
}

// load reads the whole tree. It uses io/fs and not `go list`, because the test cache
// knows the files that a test opened but not those that a child process did.
func load(t *testing.T, root fs.FS) tree {
	t.Helper()
	ignored := ignoredAtTop(root)
	var found tree
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		top := !strings.Contains(name, "/")
		if entry.IsDir() && (ignored[name] || entry.Name() == "testdata" || entry.Name() == ".git" || moduleOfItsOwn(root, name)) {
			return fs.SkipDir
		}
		if top && name != ".git" { // a file in a linked work tree
			found.top = append(found.top, name)
		}
		if entry.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		file, err := parse(root, name)
		if err == nil {
			found.files = append(found.files, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found.plan = text(t, root, "internal/doc.go")
	if walks, err := fs.ReadFile(root, "docs/architecture.md"); err == nil {
		found.walks = string(walks)
	}
	found.gomod = text(t, root, "go.mod")
	return found
}

func parse(root fs.FS, name string) (goFile, error) {
	src, err := fs.ReadFile(root, name)
	if err != nil {
		return goFile{}, err
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution|parser.ParseComments)
	return goFile{
		path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		ast: parsed, fset: fset,
	}, err
}

func text(t *testing.T, root fs.FS, name string) string {
	t.Helper()
	src, err := fs.ReadFile(root, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

// moduleOfItsOwn reports whether a folder below the root is another module, which this plan does not concern.
func moduleOfItsOwn(root fs.FS, folder string) bool {
	_, err := fs.Stat(root, path.Join(folder, "go.mod"))
	return err == nil && folder != "."
}

// ignoredAtTop reads the folders at the root that .gitignore names: what builds and runs leave behind.
func ignoredAtTop(root fs.FS) map[string]bool {
	ignored := map[string]bool{".git": true}
	src, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		return ignored
	}
	for line := range strings.Lines(string(src)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") && strings.HasSuffix(line, "/") {
			ignored[strings.Trim(line, "/")] = true
		}
	}
	return ignored
}

// entries are the lines of the plan that begin with a name and go on with at least three
// words about it.
func (t tree) entries() map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(t.plan) {
		line, isCode := strings.CutPrefix(line, "//\t")
		if fields := strings.Fields(line); isCode && len(fields) > 3 {
			found[fields[0]] = true
		}
	}
	return found
}

// modules are the paths of the requirements in go.mod.
func (t tree) modules() []string {
	var found []string
	for line := range strings.Lines(t.gomod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			found = append(found, fields[0])
		}
	}
	return found
}

// isStd says whether an import path belongs to the standard library.
func isStd(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// within says whether a path is the prefix or lies below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}
