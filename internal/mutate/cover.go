package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A block is one line of a coverage profile: a sequence of statements.
type block struct {
	file               string // without its directory
	line, column       int
	endLine, endColumn int
	statements, count  int
}

// contains reports whether a position lies in the block. The end of the block does not.
func (b block) contains(line, column int) bool {
	return (line > b.line || line == b.line && column >= b.column) &&
		(line < b.endLine || line == b.endLine && column < b.endColumn)
}

// measure runs the unchanged tests of a package, and records what they cover and how long they may
// take.
func (p *pkg) measure(ctx context.Context, t *tester, short bool, grace time.Duration) error {
	built, err := t.build(ctx, p.importPath, "", "-cover")
	if err != nil {
		return err
	}
	defer built.remove()
	profile := built.path + ".cover"
	defer os.Remove(profile)
	args := []string{"-test.coverprofile=" + profile}
	if short {
		args = append(args, "-test.short")
	}
	r, err := t.run(ctx, built, p.dir, "", 10*time.Minute, args...)
	if err != nil {
		return err
	}
	if r.failed {
		return fmt.Errorf("the tests of %s fail without a mutation:\n%s", p.importPath, r.output)
	}
	p.timeout = 3*r.took + grace
	text, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	return p.readProfile(string(text))
}

func (p *pkg) readProfile(text string) error {
	p.blocks = map[string][]block{}
	mutable := map[string]bool{}
	for _, s := range p.files {
		mutable[path.Base(s.name)] = !s.generated
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		i := strings.LastIndexByte(line, ':')
		if i < 0 {
			return fmt.Errorf("coverage profile of %s: %q", p.importPath, line)
		}
		b := block{file: path.Base(line[:i])}
		_, err := fmt.Sscanf(line[i+1:], "%d.%d,%d.%d %d %d", &b.line, &b.column, &b.endLine, &b.endColumn, &b.statements, &b.count)
		if err != nil {
			return fmt.Errorf("coverage profile of %s: %q: %w", p.importPath, line, err)
		}
		p.blocks[b.file] = append(p.blocks[b.file], b)
		if b.count > 0 && mutable[b.file] {
			p.statements += b.statements
		}
	}
	return nil
}

// blockAt returns the innermost block at a position.
func (p *pkg) blockAt(pos token.Pos) (block, bool) {
	at := p.fset.Position(pos)
	var found block
	for _, b := range p.blocks[filepath.Base(at.Filename)] {
		if b.contains(at.Line, at.Column) && (b.line > found.line || b.line == found.line && b.column >= found.column) {
			found = b
		}
	}
	return found, found.file != ""
}

// covered reports whether the tests run the statement of a node. path leads from the file to the
// node, and ends with it. A node outside statements, in a declaration at package level, is covered
// if covered code uses what is declared.
func (p *pkg) covered(path []ast.Node, used map[types.Object]bool) bool {
	for i := len(path) - 1; i >= 0; i-- {
		switch n := path[i].(type) {
		case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause, *ast.LabeledStmt:
			// Blocks of a profile begin after these; the enclosing statement shows whether they
			// run.
		case ast.Stmt:
			if b, ok := p.blockAt(n.Pos()); ok {
				return b.count > 0
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				if used[p.info.Defs[name]] {
					return true
				}
			}
		}
	}
	return false
}

// used returns the package-level constants and variables that covered code uses, directly or
// through others.
func (p *pkg) used() map[types.Object]bool {
	used := map[types.Object]bool{}
	for {
		before := len(used)
		for _, s := range p.files {
			ast.PreorderStack(s.syntax, nil, func(n ast.Node, stack []ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					object := p.info.Uses[id]
					if object != nil && object.Parent() == p.scope && !used[object] && p.covered(append(slices.Clone(stack), n), used) {
						used[object] = true
					}
				}
				return true
			})
		}
		if len(used) == before {
			return used
		}
	}
}
