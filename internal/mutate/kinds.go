package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strings"
)

// visit adds the replacements of a node, and reports whether to visit its children.
func (f *finder) visit(n ast.Node) bool {
	if e, ok := n.(ast.Expr); ok && f.duration(e) {
		return false
	}
	switch n := n.(type) {
	case *ast.ImportSpec, *ast.TypeSpec, *ast.ArrayType, *ast.FuncType:
		return false // the size of an array is part of its type
	case *ast.IfStmt:
		f.negate(n.Cond)
	case *ast.ForStmt:
		f.negate(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, clause := range n.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					f.negate(e)
				}
			}
		}
	case *ast.ReturnStmt:
		for _, e := range n.Results {
			f.negate(e)
		}
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.BasicLit:
		f.integer(n)
	case *ast.SelectorExpr:
		f.constant(n, n.Sel)
	case *ast.Ident:
		if s, ok := f.parent().(*ast.SelectorExpr); !ok || s.Sel != n {
			f.constant(n, n)
		}
	case *ast.ExprStmt, *ast.AssignStmt, *ast.IncDecStmt:
		f.drop(n.(ast.Stmt))
	}
	return true
}

// negate adds the opposite of a condition. It leaves == and !=, true and false to the kind swap.
func (f *finder) negate(e ast.Expr) {
	if e == nil {
		return
	}
	tv := f.pkg.info.Types[e]
	if tv.Type == nil || tv.Value != nil || !isBasic(tv.Type, types.IsBoolean) {
		return
	}
	switch x := e.(type) {
	case *ast.BinaryExpr:
		if x.Op != token.EQL && x.Op != token.NEQ {
			f.add(e, kindNegate, "!("+f.text(e)+")")
		}
	case *ast.UnaryExpr:
		f.add(e, kindNegate, f.text(x.X))
	case *ast.ParenExpr, *ast.Ident, *ast.SelectorExpr, *ast.CallExpr, *ast.IndexExpr:
		f.add(e, kindNegate, "!"+f.text(e))
	default:
		f.add(e, kindNegate, "!("+f.text(e)+")")
	}
}

// binary adds the neighbours of a comparison, and the negations of the operands of && and ||.
func (f *finder) binary(e *ast.BinaryExpr) {
	with := func(op string) string {
		start, end := f.offset(e.Pos()), f.offset(e.End())
		at := f.offset(e.OpPos)
		return string(f.src.text[start:at]) + op + string(f.src.text[at+len(e.Op.String()):end])
	}
	switch e.Op {
	case token.LAND, token.LOR:
		f.negate(e.X)
		f.negate(e.Y)
		return
	case token.EQL:
		f.add(e, kindSwap, with("!="))
	case token.NEQ:
		f.add(e, kindSwap, with("=="))
	case token.LSS, token.GTR:
		f.add(e, kindOff, with(e.Op.String()+"="))
	case token.LEQ:
		f.add(e, kindOff, with("<"))
	case token.GEQ:
		f.add(e, kindOff, with(">"))
	default:
		return
	}
	for _, operand := range []ast.Expr{e.X, e.Y} {
		if call, ok := operand.(*ast.CallExpr); ok && f.builtin(call, "len", "cap", "min", "max") && isBasic(f.pkg.info.Types[call].Type, types.IsInteger) {
			f.add(call, kindOff, f.text(call)+"-1")
		}
	}
}

// integer adds the successor of an integer. It skips two places where a change would mostly have no
// effect: the capacity of a make, and one of several results, because an error among them makes it
// void.
func (f *finder) integer(lit *ast.BasicLit) {
	tv := f.pkg.info.Types[lit]
	if lit.Kind != token.INT || tv.Value == nil {
		return
	}
	switch above := f.parent().(type) {
	case *ast.ReturnStmt:
		if len(above.Results) > 1 {
			return
		}
	case *ast.CallExpr:
		if f.builtin(above, "make") && len(above.Args) == 3 && above.Args[2] == ast.Expr(lit) {
			return
		}
	}
	n, exact := constant.Uint64Val(constant.ToInt(tv.Value))
	if !exact || n+1 == 0 {
		return
	}
	format := "%d"
	switch digits := strings.ToLower(lit.Value); {
	case strings.HasPrefix(digits, "0x"):
		format = "0x%x"
	case strings.HasPrefix(digits, "0b"):
		format = "0b%b"
	case strings.HasPrefix(digits, "0o"):
		format = "0o%o"
	case len(digits) > 1 && digits[0] == '0':
		format = "0%o"
	}
	f.add(lit, kindOff, fmt.Sprintf(format, n+1))
}

// duration adds the double and the half of a constant duration, and reports whether e is one.
func (f *finder) duration(e ast.Expr) bool {
	tv := f.pkg.info.Types[e]
	if tv.Value == nil || !isDuration(tv.Type) || constant.Sign(tv.Value) == 0 {
		return false
	}
	if _, ok := e.(*ast.BasicLit); ok {
		if above, ok := f.parent().(*ast.BinaryExpr); ok && (above.Op == token.MUL || above.Op == token.QUO) {
			return false // a factor
		}
	}
	text := f.text(e)
	if _, ok := e.(*ast.BinaryExpr); ok {
		text = "(" + text + ")"
	}
	double, half := "2 * "+text, text+" / 2"
	switch f.parent().(type) {
	case *ast.BinaryExpr, *ast.UnaryExpr, *ast.SelectorExpr:
		double, half = "("+double+")", "("+half+")"
	}
	f.add(e, kindSwap, double)
	f.add(e, kindSwap, half)
	return true
}

// constant adds the other constants of the same named type in the constant's package.
func (f *finder) constant(e ast.Expr, name *ast.Ident) {
	c, ok := f.pkg.info.Uses[name].(*types.Const)
	if !ok {
		return
	}
	if c.Parent() == types.Universe {
		if other, ok := map[string]string{"true": "false", "false": "true"}[c.Name()]; ok {
			f.add(e, kindSwap, other)
		}
		return
	}
	named, ok := types.Unalias(c.Type()).(*types.Named)
	if !ok || isDuration(named) {
		return
	}
	scope := c.Pkg().Scope()
	for _, n := range scope.Names() {
		other, ok := scope.Lookup(n).(*types.Const)
		if !ok || other == c || !types.Identical(other.Type(), named) || constant.Compare(other.Val(), token.EQL, c.Val()) {
			continue
		}
		if c.Pkg().Path() != f.pkg.importPath && !other.Exported() {
			continue
		}
		f.add(e, kindSwap, strings.TrimSuffix(f.text(e), c.Name())+n)
	}
}

// drop adds the removal of a statement. It keeps go and defer statements, statements that only log,
// and the parts of a for or if statement.
func (f *finder) drop(s ast.Stmt) {
	switch above := f.parent().(type) {
	case *ast.BlockStmt, *ast.CaseClause:
	case *ast.CommClause:
		if above.Comm == s {
			return
		}
	default:
		return
	}
	switch s := s.(type) {
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		if !ok || f.logs(call) {
			return
		}
	case *ast.AssignStmt:
		blank := true
		for _, e := range s.Lhs {
			id, ok := e.(*ast.Ident)
			blank = blank && ok && id.Name == "_"
		}
		if s.Tok == token.DEFINE || blank {
			return
		}
	}
	f.add(s, kindDrop, "")
}

// logs reports whether call calls a function of log/slog.
func (f *finder) logs(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	called := f.pkg.info.Uses[s.Sel]
	return called != nil && called.Pkg() != nil && called.Pkg().Path() == "log/slog"
}

// builtin reports whether call calls one of these built-in functions.
func (f *finder) builtin(call *ast.CallExpr, names ...string) bool {
	id, ok := call.Fun.(*ast.Ident)
	if !ok {
		return false
	}
	b, ok := f.pkg.info.Uses[id].(*types.Builtin)
	if !ok {
		return false
	}
	for _, name := range names {
		if b.Name() == name {
			return true
		}
	}
	return false
}

func isBasic(t types.Type, info types.BasicInfo) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&info != 0
}

func isDuration(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "time" && named.Obj().Name() == "Duration"
}
