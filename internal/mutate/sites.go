package main

import (
	"bytes"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// A mutation replaces one piece of a file by another.
type mutation struct {
	number     int // its place in the draw, from 1
	pkg        *pkg
	src        *source
	start, end int // offsets in the file
	text       string
	kind       string
	function   string // the enclosing one; at package level the declared name
	line       int
	known      *known
}

// The kinds of mutations.
const (
	kindNegate = "negate"
	kindDrop   = "drop"
	kindOff    = "off by one"
	kindSwap   = "swap"
)

// A site is a piece of a file with its possible replacements.
type site struct {
	mutations []*mutation // at least one; all of the same piece
	covered   bool
}

// after returns the text of the whole file with the mutation.
func (m *mutation) after() []byte {
	return slices.Concat(m.src.text[:m.start], []byte(m.text), m.src.text[m.end:])
}

// lines returns the lines that the mutation changes, before and after, each on one line.
func (m *mutation) lines() (before, after string) {
	from := bytes.LastIndexByte(m.src.text[:m.start], '\n') + 1
	to := len(m.src.text)
	if i := bytes.IndexByte(m.src.text[m.end:], '\n'); i >= 0 {
		to = m.end + i
	}
	return oneLine(string(m.src.text[from:to])), oneLine(string(m.src.text[from:m.start]) + m.text + string(m.src.text[m.end:to]))
}

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// A finder collects the sites of one file.
type finder struct {
	pkg   *pkg
	src   *source
	path  []ast.Node // from the file to the current node
	sites map[[2]int]*site
	used  func(path []ast.Node) bool
}

// sites returns all sites of a package in source order, including those that no test covers.
func (p *pkg) sites() []*site {
	var all []*site
	used := p.used()
	for _, s := range p.files {
		if s.generated {
			continue
		}
		f := &finder{pkg: p, src: s, sites: map[[2]int]*site{}, used: func(path []ast.Node) bool { return p.covered(path, used) }}
		ast.PreorderStack(s.syntax, nil, func(n ast.Node, stack []ast.Node) bool {
			f.path = append(slices.Clone(stack), n)
			return f.visit(n)
		})
		var of []*site
		for _, found := range f.sites {
			of = append(of, found)
		}
		slices.SortFunc(of, func(a, b *site) int {
			if a.mutations[0].start != b.mutations[0].start {
				return a.mutations[0].start - b.mutations[0].start
			}
			return a.mutations[0].end - b.mutations[0].end
		})
		all = append(all, of...)
	}
	return all
}

// add records a replacement of n, which is the current node or one below it.
func (f *finder) add(n ast.Node, kind, text string) {
	start, end := f.offset(n.Pos()), f.offset(n.End())
	key := [2]int{start, end}
	if f.sites[key] == nil {
		f.sites[key] = &site{covered: f.used(f.path)}
	}
	s := f.sites[key]
	if slices.ContainsFunc(s.mutations, func(m *mutation) bool { return m.text == text }) {
		return
	}
	s.mutations = append(s.mutations, &mutation{
		pkg: f.pkg, src: f.src, start: start, end: end, text: text,
		kind: kind, function: f.function(), line: f.pkg.fset.Position(n.Pos()).Line,
	})
}

func (f *finder) offset(pos token.Pos) int { return f.pkg.fset.Position(pos).Offset }

// text returns the source of a node.
func (f *finder) text(n ast.Node) string {
	return string(f.src.text[f.offset(n.Pos()):f.offset(n.End())])
}

// parent returns the parent of the current node.
func (f *finder) parent() ast.Node {
	if len(f.path) < 2 {
		return nil
	}
	return f.path[len(f.path)-2]
}

// function returns the name of the function that encloses the node: f, T.f or (*T).f.
func (f *finder) function() string {
	for _, n := range f.path {
		switch d := n.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || len(d.Recv.List) == 0 {
				return d.Name.Name
			}
			receiver := f.text(d.Recv.List[0].Type)
			if strings.HasPrefix(receiver, "*") {
				receiver = "(" + receiver + ")"
			}
			return receiver + "." + d.Name.Name
		case *ast.ValueSpec:
			return d.Names[0].Name
		}
	}
	return ""
}
