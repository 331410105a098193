package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source are packages as they are written, without their tests.
type source []*ast.File

func read(t *testing.T, dirs ...string) source {
	t.Helper()
	var all source
	for _, dir := range dirs {
		all = append(all, readFiles(t, dir+"/*.go")...)
	}
	return all
}

func readFiles(t *testing.T, pattern string) source {
	t.Helper()
	names, err := fs.Glob(os.DirFS(root), pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no Go files %s: %v", pattern, err)
	}
	var files source
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// nodes gives every node of one kind.
func nodes[N ast.Node](files source) []N {
	var found []N
	for _, file := range files {
		for n := range ast.Preorder(file) {
			if n, ok := n.(N); ok {
				found = append(found, n)
			}
		}
	}
	return found
}

// constants are the string constants of a package, by name.
func (s source) constants() map[string]string {
	found := map[string]string{}
	for _, decl := range nodes[*ast.GenDecl](s) {
		if decl.Tok != token.CONST {
			continue
		}
		for _, spec := range decl.Specs {
			value := spec.(*ast.ValueSpec)
			for i := range value.Values {
				if text, ok := literal(value.Values[i]); ok {
					found[value.Names[i].Name] = text
				}
			}
		}
	}
	return found
}

// values are the constants of one type of a package, which are a closed set.
func (s source) values(typ string) []string {
	var found []string
	for _, spec := range nodes[*ast.ValueSpec](s) {
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typ {
			continue
		}
		for _, value := range spec.Values {
			if text, ok := literal(value); ok && text != "" {
				found = append(found, text)
			}
		}
	}
	return found
}

// literals are all strings of a package.
func (s source) literals() []string {
	var found []string
	for _, lit := range nodes[*ast.BasicLit](s) {
		if text, ok := literal(lit); ok {
			found = append(found, text)
		}
	}
	return found
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// built are the strings that the package puts together, with <> where something is filled in.
func (s source) built() []string {
	known, part := s.constants(), map[ast.Expr]bool{}
	var found []string
	for _, sum := range nodes[*ast.BinaryExpr](s) {
		if sum.Op != token.ADD {
			continue
		}
		part[sum.X] = true
		if !part[sum] {
			found = append(found, build(sum, known))
		}
	}
	return found
}

func build(e ast.Expr, known map[string]string) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return build(e.X, known) + build(e.Y, known)
	case *ast.Ident:
		if text, ok := known[e.Name]; ok {
			return text
		}
	case *ast.BasicLit:
		if text, ok := literal(e); ok {
			return text
		}
	}
	return "<>"
}

// wireTypes are the exported structs of a package that have JSON names.
func (s source) wireTypes() []string {
	var found []string
	for _, spec := range nodes[*ast.TypeSpec](s) {
		body, ok := spec.Type.(*ast.StructType)
		if !ok || !spec.Name.IsExported() {
			continue
		}
		for _, field := range body.Fields.List {
			if field.Tag != nil && strings.Contains(field.Tag.Value, `json:"`) {
				found = append(found, spec.Name.Name)
				break
			}
		}
	}
	return found
}

// field is a field as JSON has it.
type field struct{ name, kind string }

// fields are a struct's, with those of embedded structs.
func fields(typ reflect.Type) []field {
	var found []field
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "-" || name == "" {
			continue
		}
		found = append(found, field{name, kindOf(f.Type)})
	}
	return found
}

// kindOf is a type as the documentation writes it.
func kindOf(typ reflect.Type) string {
	switch {
	case typ.Kind() == reflect.Pointer:
		return kindOf(typ.Elem())
	case typ.String() == "time.Time":
		return "time"
	case typ.Name() == "Duration":
		return "duration"
	case typ.Name() == "RawMessage":
		return "JSON"
	}
	switch typ.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "[" + kindOf(typ.Elem()) + "]"
	case reflect.Map:
		return fmt.Sprintf("{%s: %s}", kindOf(typ.Key()), kindOf(typ.Elem()))
	}
	return typ.Name()
}
