package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
)

// expression notes the changes of one expression. The answer is whether to look inside.
func (f *finder) expression(e ast.Expr, stack []ast.Node) bool {
	up := parent(stack)
	if f.room.info.Types[e].IsType() {
		return false
	}
	f.result(e, up, stack)
	f.field(e, up, stack)
	if f.value(e) != nil {
		f.constant(e, up)
		return false
	}
	f.condition(e, up)
	switch e := e.(type) {
	case *ast.BinaryExpr:
		f.bound(e)
		f.arithmetic(e)
	case *ast.CallExpr:
		f.extreme(e)
	}
	return true
}

// condition makes a condition true, or false. A part of && is made true only and a part of || false only, since the
// other value is that of the whole.
func (f *finder) condition(e ast.Expr, up ast.Node) {
	if _, paren := e.(*ast.ParenExpr); paren || !f.isBool(e) {
		return
	}
	always, never := true, true
	switch up := up.(type) {
	case *ast.BinaryExpr:
		switch up.Op {
		case token.LAND:
			never = false
		case token.LOR:
			always = false
		default:
			return
		}
	case *ast.UnaryExpr:
		return
	case *ast.ForStmt:
		always = false // loops for ever
	case *ast.IfStmt, *ast.ReturnStmt:
	default:
		if !composed(e) && !f.isCase(up, e) {
			return
		}
	}
	var before string
	if always {
		if id := f.note(e, "%s → true", f.short(e)); id > 0 {
			before += fmt.Sprintf("µon(%d) || ", id)
		}
	}
	if never {
		if id := f.note(e, "%s → false", f.short(e)); id > 0 {
			before += fmt.Sprintf("!µon(%d) && ", id)
		}
	}
	if before != "" {
		f.edits.wrap(e.Pos(), e.End(), "("+before+"(", "))")
	}
}

func composed(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return true
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	}
	return false
}

// isCase says whether an expression is a case of a switch without a tag.
func (f *finder) isCase(up ast.Node, e ast.Expr) bool {
	clause, ok := up.(*ast.CaseClause)
	if !ok {
		return false
	}
	for _, c := range clause.List {
		if c == e {
			return true
		}
	}
	return false
}

var bounds = map[token.Token]token.Token{token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR}

// bound moves a bound by one.
func (f *finder) bound(e *ast.BinaryExpr) {
	other, ok := bounds[e.Op]
	if !ok || !f.copies(e) {
		return
	}
	x, y := f.text(e.X), f.text(e.Y)
	if id := f.note(e, "%s → %s", f.short(e), other); id > 0 {
		f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("(µon(%d) && (%s %s %s) || !µon(%[1]d) && (", id, x, other, y), "))")
	}
}

// movesWith says whether one more for a number of a comparison is what moving the bound is already: n < 3 becomes n <= 3
// there and n < 4 here.
func (f *finder) movesWith(up *ast.BinaryExpr, e ast.Expr) bool {
	t, ok := f.typeOf(up.X).Underlying().(*types.Basic)
	if !ok || t.Info()&types.IsInteger == 0 || !f.copies(up) || !small(f.value(e)) {
		return false
	}
	switch up.Op {
	case token.LSS, token.GEQ:
		return ast.Unparen(up.Y) == e
	case token.LEQ, token.GTR:
		return ast.Unparen(up.X) == e
	}
	return false
}

// small says whether a number is made one more, and not twice as much, when it is changed.
func small(v constant.Value) bool {
	return constant.Compare(constant.ToFloat(v), token.LEQ, constant.MakeFloat64(16))
}

// operators are the other operator for each, and the function in the switch's file that knows both.
var operators = map[token.Token]struct {
	other token.Token
	name  string
}{
	token.ADD: {token.SUB, "add"}, token.SUB: {token.ADD, "sub"}, token.MUL: {token.QUO, "mul"}, token.QUO: {token.MUL, "quo"},
	token.REM: {token.MUL, "rem"}, token.AND: {token.OR, "and"}, token.OR: {token.AND, "or"}, token.XOR: {token.AND, "xor"},
	token.AND_NOT: {token.AND, "andnot"}, token.SHL: {token.SHR, "shl"}, token.SHR: {token.SHL, "shr"},
}

// arithmetic takes another operator.
func (f *finder) arithmetic(e *ast.BinaryExpr) {
	op, ok := operators[e.Op]
	t := f.typeOf(e)
	if !ok || t == nil {
		return
	}
	if b, basic := t.Underlying().(*types.Basic); !basic || b.Info()&types.IsNumeric == 0 {
		return
	}
	spelled, ok := f.spell(t)
	if !ok {
		return
	}
	id := f.note(e, "%s → %s", f.short(e), op.other)
	if id == 0 {
		return
	}
	f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("µ%s[%s](%d, ", op.name, spelled, id), ")")
	f.edits.replace(e.OpPos, e.Op.String(), ",")
	if e.Op == token.SHL || e.Op == token.SHR {
		f.edits.wrap(e.Y.Pos(), e.Y.End(), "uint64(", ")")
	}
}

// extreme takes min for max and max for min.
func (f *finder) extreme(e *ast.CallExpr) {
	for name, other := range map[string]string{"min": "max", "max": "min"} {
		if !f.isBuiltin(e, name) || len(e.Args) != 2 {
			continue
		}
		spelled, ok := f.spell(f.typeOf(e))
		if !ok {
			return
		}
		if id := f.note(e, "%s → %s", f.short(e), other); id > 0 {
			f.edits.replace(e.Fun.Pos(), name, fmt.Sprintf("µ%s[%s]", name, spelled))
			f.edits.insert(e.Lparen+1, fmt.Sprintf("%d, ", id))
		}
	}
}

// constant takes another value for the largest expression that the compiler evaluates.
func (f *finder) constant(e ast.Expr, up ast.Node) {
	switch up := up.(type) {
	case *ast.CaseClause:
		if len(up.Body) > 0 { // an empty one is there to be complete
			f.caseValue(e)
		}
		return
	case *ast.BinaryExpr:
		if up.Op == token.EQL || up.Op == token.NEQ {
			return // the condition is changed as a whole
		}
		if f.movesWith(up, e) {
			return
		}
	case *ast.ReturnStmt, *ast.KeyValueExpr:
		if v := f.value(e); v.Kind() != constant.Bool {
			return // is made zero
		}
	}
	v := f.value(e)
	spelled, ok := f.spell(f.typeOf(e))
	if !ok {
		return
	}
	switch v.Kind() {
	case constant.Bool:
		if f.typeOf(e) == types.Typ[types.Bool] || f.typeOf(e) == types.Typ[types.UntypedBool] {
			if id := f.note(e, "%s → %t", f.short(e), !constant.BoolVal(v)); id > 0 {
				f.edits.wrap(e.Pos(), e.End(), "(", fmt.Sprintf(" != µon(%d))", id))
			}
		}
	case constant.Int, constant.Float:
		if constant.Sign(v) == 0 && spelled == "time.Duration" {
			return
		}
		next := "twice as much"
		if small(v) {
			next = "one more"
		}
		if id := f.note(e, "%s → %s", f.short(e), next); id > 0 {
			f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("µnumber[%s](%d, ", spelled, id), ")")
		}
	}
}

// caseValue has a case of a switch never met.
func (f *finder) caseValue(e ast.Expr) {
	spelled, ok := f.spell(f.typeOf(e))
	if !ok {
		return
	}
	var name string
	switch f.value(e).Kind() {
	case constant.String:
		name = "µtext"
	case constant.Int:
		name = "µother"
	default:
		return
	}
	if id := f.note(e, "case %s → never", f.short(e)); id > 0 {
		f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("%s[%s](%d, ", name, spelled, id), ")")
	}
}

// result returns zero.
func (f *finder) result(e ast.Expr, up ast.Node, stack []ast.Node) {
	ret, ok := up.(*ast.ReturnStmt)
	if !ok || stack[len(stack)-1] != up || f.isBool(e) || f.isZero(e) {
		return
	}
	if v := f.value(e); v != nil && v.Kind() == constant.Bool {
		return
	}
	types := results(stack)
	for i, r := range ret.Results {
		if r != e || len(ret.Results) != len(types) {
			continue
		}
		if id := f.note(e, "return %s → zero", f.short(e)); id > 0 {
			f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("µzero[%s](%d, ", f.text(types[i]), id), ")")
		}
	}
}

// results are the types of the results of the innermost function, one for each.
func results(stack []ast.Node) []ast.Expr {
	var found []ast.Expr
	for i := len(stack) - 1; i >= 0; i-- {
		var fields *ast.FieldList
		switch fn := stack[i].(type) {
		case *ast.FuncDecl:
			fields = fn.Type.Results
		case *ast.FuncLit:
			fields = fn.Type.Results
		default:
			continue
		}
		if fields == nil {
			return nil
		}
		for _, field := range fields.List {
			for range max(1, len(field.Names)) {
				found = append(found, field.Type)
			}
		}
		return found
	}
	return nil
}

// field leaves a field of a struct literal at zero.
func (f *finder) field(e ast.Expr, up ast.Node, stack []ast.Node) {
	kv, ok := up.(*ast.KeyValueExpr)
	if !ok || kv.Value != e || len(stack) < 2 || f.isZero(e) {
		return
	}
	lit, ok := stack[len(stack)-2].(*ast.CompositeLit)
	if !ok {
		return
	}
	key, ok := kv.Key.(*ast.Ident)
	if !ok {
		return
	}
	if v := f.value(e); v != nil && v.Kind() == constant.Bool {
		return // is made the other
	}
	t := f.typeOf(lit)
	if p, ok := t.Underlying().(*types.Pointer); ok { // elided in a literal of pointers
		t = p.Elem()
	}
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	for v := range s.Fields() {
		if v.Name() != key.Name {
			continue
		}
		spelled, ok := f.spell(v.Type())
		if !ok {
			return
		}
		if id := f.note(e, "%s: %s → zero", key.Name, f.short(e)); id > 0 {
			f.edits.wrap(e.Pos(), e.End(), fmt.Sprintf("µzero[%s](%d, ", spelled, id), ")")
		}
	}
}

// isZero says whether an expression is plainly the zero value of its type.
func (f *finder) isZero(e ast.Expr) bool {
	if tv := f.room.info.Types[e]; tv.IsNil() {
		return true
	} else if v := tv.Value; v != nil {
		switch v.Kind() {
		case constant.String:
			return constant.StringVal(v) == ""
		case constant.Bool:
			return !constant.BoolVal(v)
		case constant.Int, constant.Float:
			return constant.Sign(v) == 0
		}
	}
	lit, ok := e.(*ast.CompositeLit)
	if !ok || len(lit.Elts) > 0 {
		return false
	}
	_, isStruct := f.typeOf(lit).Underlying().(*types.Struct)
	return isStruct
}
