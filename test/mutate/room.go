package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// room is one package with its types.
type room struct {
	path  string // as imported
	name  string
	dir   string
	root  string // the module's folder; files are named from there
	fset  *token.FileSet
	files []source
	info  *types.Info
	pkg   *types.Package
}

type source struct {
	path string // absolute
	name string // from the module's root
	text []byte
	ast  *ast.File
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Export     string
	GoFiles    []string
	DepOnly    bool
	Module     *struct{ Dir string }
}

// loadRoom parses a package and resolves its types with the compiler's own export data.
func loadRoom(ctx context.Context, dir, path string) (*room, error) {
	target, exports, err := list(ctx, dir, path)
	if err != nil {
		return nil, err
	}
	r := &room{path: target.ImportPath, name: target.Name, dir: target.Dir, fset: token.NewFileSet()}
	if target.Module != nil {
		r.root = target.Module.Dir
	}
	var files []*ast.File
	for _, name := range target.GoFiles {
		s := source{path: filepath.Join(r.dir, name)}
		if s.name, err = filepath.Rel(r.root, s.path); err != nil {
			return nil, err
		}
		if s.text, err = os.ReadFile(s.path); err != nil {
			return nil, err
		}
		if s.ast, err = parser.ParseFile(r.fset, s.path, s.text, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		r.files, files = append(r.files, s), append(files, s.ast)
	}
	r.info = &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{},
		Uses:  map[*ast.Ident]types.Object{},
		Defs:  map[*ast.Ident]types.Object{},
	}
	conf := types.Config{Importer: importer.ForCompiler(r.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	r.pkg, err = conf.Check(r.path, r.fset, files, r.info)
	return r, err
}

// list asks the go command for a package and for the export data of all that it imports.
func list(ctx context.Context, dir, path string) (listed, map[string]string, error) {
	var target listed
	cmd := exec.CommandContext(ctx, "go", "list", "-export", "-deps",
		"-json=ImportPath,Name,Dir,Export,GoFiles,DepOnly,Module", "--", path)
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("go list: %w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return target, nil, err
	}
	exports := map[string]string{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	for decoder.More() {
		var p listed
		if err := decoder.Decode(&p); err != nil {
			return target, nil, fmt.Errorf("read the answer of go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			target = p
		}
	}
	if len(target.GoFiles) == 0 {
		return target, nil, errors.New("the package has no Go files")
	}
	return target, exports, nil
}
