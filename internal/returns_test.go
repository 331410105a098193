package internal_test

import (
	"fmt"
	"go/ast"
	"go/token"
)

// returnProblems finds return statements that name a variable and pass its address to a call beside it: Go leaves open whether the
// variable is read before the call or after it.
func returnProblems(t tree) []string {
	var problems []string
	for _, f := range t.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			ret, ok := n.(*ast.ReturnStmt)
			if !ok || f.test {
				return true
			}
			for i, result := range ret.Results {
				if id, named := result.(*ast.Ident); named && (fills(ret.Results[:i], id.Name) || fills(ret.Results[i+1:], id.Name)) {
					problems = append(problems, fmt.Sprintf("%s:%d: %s is returned beside a call that has its address", f.path, f.line(ret), id.Name))
				}
			}
			return true
		})
	}
	return problems
}

// fills reports whether one of the calls has the address of a variable as an argument.
func fills(results []ast.Expr, name string) (found bool) {
	for _, result := range results {
		ast.Inspect(result, func(n ast.Node) bool {
			if address, ok := n.(*ast.UnaryExpr); ok && address.Op == token.AND {
				id, is := address.X.(*ast.Ident)
				found = found || is && id.Name == name
			}
			return true
		})
	}
	return found
}
