package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"hash/fnv"
	"strings"
)

// change is one thing that is different while its number is in force.
type change struct {
	id   int
	nth  int // in its function
	file string
	line int
	last int // the last line that it touches
	fn   string
	sum  uint64 // of the function's text
	what string
}

func (c change) String() string { return fmt.Sprintf("%s:%d: %s", c.file, c.line, c.what) }

// key names a change as long as its function stays the same, wherever its lines move to.
func (c change) key() string {
	return fmt.Sprintf("%s %s %x %d %s", c.file, c.fn, c.sum, c.nth, c.what)
}

// function names the function that a change is in.
func (c change) function() string { return c.file + " " + c.fn }

// finder walks one file and notes the edits for every change that it can think of.
type finder struct {
	room    *room
	src     source
	edits   edits
	changes *[]change
	skip    map[int]bool // changes that do not compile
	fn      string
	sum     uint64
	first   int // number of changes before those of this function
	imports map[string]string
}

// find returns all changes of a room and its sources with every change built in.
func find(r *room, skip map[int]bool) ([]change, map[string][]byte) {
	var changes []change
	texts := map[string][]byte{}
	for _, s := range r.files {
		f := finder{room: r, src: s, changes: &changes, skip: skip, imports: importNames(r, s)}
		f.edits.base = r.fset.File(s.ast.FileStart).Base()
		for _, decl := range s.ast.Decls {
			f.decl(decl)
		}
		texts[s.path] = f.edits.apply(s.text)
	}
	return changes, texts
}

func importNames(r *room, s source) map[string]string {
	names := map[string]string{}
	for _, p := range r.pkg.Imports() {
		names[p.Path()] = p.Name()
	}
	here := map[string]string{}
	for _, spec := range s.ast.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		here[path] = names[path]
		if spec.Name != nil {
			here[path] = spec.Name.Name
		}
	}
	return here
}

func (f *finder) decl(decl ast.Decl) {
	fn, ok := decl.(*ast.FuncDecl)
	if !ok || fn.Body == nil {
		return
	}
	f.fn = fn.Name.Name
	if fn.Recv != nil && len(fn.Recv.List) > 0 {
		f.fn = f.text(fn.Recv.List[0].Type) + "." + f.fn
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.text(fn)))
	f.sum, f.first = h.Sum64(), len(*f.changes)
	ast.PreorderStack(fn, nil, func(n ast.Node, stack []ast.Node) bool {
		if f.leftAlone(n) {
			return false
		}
		f.statement(n, stack)
		if e, ok := n.(ast.Expr); ok {
			return f.expression(e, stack)
		}
		return true
	})
}

// note numbers a change. The answer is 0 when it must be left out of the sources.
func (f *finder) note(n ast.Node, format string, args ...any) int {
	id := len(*f.changes) + 1
	from, to := f.room.fset.Position(n.Pos()), f.room.fset.Position(n.End())
	*f.changes = append(*f.changes, change{
		id: id, nth: id - f.first, file: f.src.name, line: from.Line, last: to.Line, fn: f.fn, sum: f.sum, what: fmt.Sprintf(format, args...),
	})
	if f.skip[id] {
		return 0
	}
	return id
}

// leftAlone are nodes whose insides are not changed: logs, capacities, declarations of constants and types.
func (f *finder) leftAlone(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		return f.isLogging(n) || f.isBuiltin(n, "make") || f.isBuiltin(n, "panic")
	case *ast.GenDecl:
		return n.Tok != token.VAR
	case *ast.ArrayType, *ast.StructType, *ast.InterfaceType, *ast.FuncType:
		return true
	}
	return false
}

func (f *finder) isBuiltin(call *ast.CallExpr, name string) bool {
	id, ok := call.Fun.(*ast.Ident)
	if !ok || id.Name != name {
		return false
	}
	_, builtin := f.room.info.Uses[id].(*types.Builtin)
	return builtin
}

// isLogging says whether a call writes to package log/slog.
func (f *finder) isLogging(call *ast.CallExpr) bool {
	obj := f.callee(call)
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == "log/slog"
}

// isLocking says whether a call locks or unlocks something of package sync.
func (f *finder) isLocking(call *ast.CallExpr) bool {
	obj := f.callee(call)
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == "sync" && strings.HasSuffix(strings.ToLower(obj.Name()), "lock")
}

func (f *finder) callee(call *ast.CallExpr) types.Object {
	switch fun := call.Fun.(type) {
	case *ast.SelectorExpr:
		return f.room.info.Uses[fun.Sel]
	case *ast.Ident:
		return f.room.info.Uses[fun]
	}
	return nil
}

func (f *finder) text(n ast.Node) string {
	return string(f.src.text[int(n.Pos())-f.edits.base : int(n.End())-f.edits.base])
}

// short is a node's text on one line, for the report.
func (f *finder) short(n ast.Node) string {
	text := strings.Join(strings.Fields(f.text(n)), " ")
	if runes := []rune(text); len(runes) > 70 {
		return string(runes[:70]) + "…"
	}
	return text
}

// copies says whether a node's text may be written a second time on its line.
func (f *finder) copies(n ast.Node) bool {
	text := f.src.text[int(n.Pos())-f.edits.base : int(n.End())-f.edits.base]
	return !bytes.ContainsAny(text, "\n") && !bytes.Contains(text, []byte("func("))
}

func (f *finder) typeOf(e ast.Expr) types.Type { return f.room.info.Types[e].Type }

func (f *finder) value(e ast.Expr) constant.Value { return f.room.info.Types[e].Value }

// isBool says whether an expression is of type bool itself, known only at run time.
func (f *finder) isBool(e ast.Expr) bool {
	tv := f.room.info.Types[e]
	if tv.Type == nil || tv.Value != nil || !tv.IsValue() {
		return false
	}
	return tv.Type == types.Typ[types.Bool] || tv.Type == types.Typ[types.UntypedBool]
}

// spell writes a type as this file would. It fails for types of packages that the file does not import.
func (f *finder) spell(t types.Type) (string, bool) {
	if t == nil {
		return "", false
	}
	ok := true
	text := types.TypeString(types.Default(t), func(p *types.Package) string {
		if p == f.room.pkg {
			return ""
		}
		name := f.imports[p.Path()]
		if name == "" || name == "_" || name == "." {
			ok = false
		}
		return name
	})
	return text, ok && !strings.Contains(text, "untyped") && !strings.HasPrefix(text, "(")
}

func parent(stack []ast.Node) ast.Node {
	for i := len(stack) - 1; i >= 0; i-- {
		if _, paren := stack[i].(*ast.ParenExpr); !paren {
			return stack[i]
		}
	}
	return nil
}
