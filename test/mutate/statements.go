package main

import (
	"fmt"
	"go/ast"
	"go/token"
)

// assignments are the other operator for each that assigns.
var assignments = map[token.Token]token.Token{
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.MUL_ASSIGN: token.QUO_ASSIGN, token.QUO_ASSIGN: token.MUL_ASSIGN,
	token.OR_ASSIGN: token.AND_ASSIGN, token.AND_ASSIGN: token.OR_ASSIGN,
}

// statement notes the changes of a statement: to leave it out, to assign by another operator, not to run a loop.
func (f *finder) statement(n ast.Node, stack []ast.Node) {
	if loop, ok := n.(*ast.RangeStmt); ok {
		if id := f.note(loop.X, "range %s → no round", f.short(loop.X)); id > 0 {
			f.edits.insert(loop.Body.Lbrace+1, fmt.Sprintf(" if µon(%d) { break };", id))
		}
	}
	s, ok := n.(ast.Stmt)
	if !ok || !inBody(s, stack) || !f.omits(s) {
		return
	}
	if id := f.note(s, "%s → left out", f.short(s)); id > 0 {
		f.edits.wrap(s.Pos(), s.End(), fmt.Sprintf("if !µon(%d) { ", id), " }")
	}
	a, ok := s.(*ast.AssignStmt)
	if !ok {
		return
	}
	other, ok := assignments[a.Tok]
	if !ok || !f.copies(a) || f.isText(a.Lhs[0]) {
		return
	}
	if id := f.note(a, "%s → %s", f.short(a), other); id > 0 {
		f.edits.wrap(a.Pos(), a.End(), fmt.Sprintf("if µon(%d) { %s %s %s } else { ", id, f.text(a.Lhs[0]), other, f.text(a.Rhs[0])), " }")
	}
}

func (f *finder) isText(e ast.Expr) bool {
	t := f.typeOf(e)
	return t != nil && t.Underlying().String() == "string"
}

// omits says whether a statement may be left out without the compiler's noticing.
func (f *finder) omits(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		return !ok || !f.isLogging(call) && !f.isLocking(call) && !f.isBuiltin(call, "panic")
	case *ast.DeferStmt:
		return !f.isLocking(s.Call)
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE {
			return false
		}
		id, ok := s.Lhs[0].(*ast.Ident)
		return len(s.Lhs) > 1 || !ok || id.Name != "_"
	case *ast.BranchStmt:
		return s.Tok == token.BREAK || s.Tok == token.CONTINUE
	case *ast.ReturnStmt:
		return len(s.Results) == 0
	case *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt:
		return true
	}
	return false
}

// inBody says whether a statement stands in a list of statements, and not in the head of another.
func inBody(s ast.Stmt, stack []ast.Node) bool {
	var list []ast.Stmt
	switch up := stack[len(stack)-1].(type) {
	case *ast.BlockStmt:
		list = up.List
	case *ast.CaseClause:
		list = up.Body
	case *ast.CommClause:
		list = up.Body
	}
	for _, each := range list {
		if each == s {
			return true
		}
	}
	return false
}
