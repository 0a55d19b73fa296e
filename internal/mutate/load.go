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
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A pkg is a package that can be mutated: parsed and type-checked, without its tests.
type pkg struct {
	importPath string
	dir        string
	files      []*source
	fset       *token.FileSet
	info       *types.Info
	scope      *types.Scope
	config     types.Config
	tests      bool

	blocks     map[string][]block // covered by its tests, by the file's name without directory
	statements int                // how many statements they cover
	timeout    time.Duration
}

// A source is one file of a package.
type source struct {
	path      string // absolute, as the go command names it
	name      string // relative to the working directory, with slashes
	text      []byte
	syntax    *ast.File
	generated bool
}

// listed is the information from go list about a package.
type listed struct {
	ImportPath   string
	Dir          string
	Export       string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Module       *struct{ GoVersion string }
}

// load returns the packages that match the patterns, ordered by path.
func load(ctx context.Context, t *tester, patterns []string) ([]*pkg, error) {
	args := []string{"list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Module", "--"}
	packages, err := goList(ctx, t, append(args, patterns...))
	if err != nil {
		return nil, err
	}
	args = []string{"list", "-export", "-deps", "-json=ImportPath,Export", "--"}
	dependencies, err := goList(ctx, t, append(args, patterns...))
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, d := range dependencies {
		exports[d.ImportPath] = d.Export
	}
	imported := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	slices.SortFunc(packages, func(a, b listed) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	var loaded []*pkg
	for _, l := range packages {
		p, err := parse(l, t.dir, imported)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, p)
	}
	return loaded, nil
}

func goList(ctx context.Context, t *tester, args []string) ([]listed, error) {
	out, err := t.goCommand(ctx, args...)
	if err != nil {
		return nil, err
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		switch err := decoder.Decode(&l); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, l)
	}
}

func parse(l listed, dir string, imported types.Importer) (*pkg, error) {
	p := &pkg{
		importPath: l.ImportPath,
		dir:        l.Dir,
		fset:       token.NewFileSet(),
		info:       &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}},
		config:     types.Config{Importer: imported, Sizes: types.SizesFor("gc", runtime.GOARCH)},
		tests:      len(l.TestGoFiles)+len(l.XTestGoFiles) > 0,
	}
	if l.Module != nil && l.Module.GoVersion != "" {
		p.config.GoVersion = "go" + l.Module.GoVersion
	}
	for _, base := range l.GoFiles {
		path := filepath.Join(l.Dir, base)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		syntax, err := parser.ParseFile(p.fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			name = path
		}
		p.files = append(p.files, &source{path, filepath.ToSlash(name), text, syntax, ast.IsGenerated(syntax)})
	}
	checked, err := p.config.Check(p.importPath, p.fset, p.syntax(), p.info)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.importPath, err)
	}
	p.scope = checked.Scope()
	return p, nil
}

func (p *pkg) syntax() []*ast.File {
	files := make([]*ast.File, len(p.files))
	for i, s := range p.files {
		files[i] = s.syntax
	}
	return files
}

// compiles reports whether the package passes the type checker with another text of one file. What
// only the compiler refuses is rare, and fails when the test is built.
func (p *pkg) compiles(changed *source, text []byte) bool {
	syntax, err := parser.ParseFile(p.fset, changed.path, text, parser.SkipObjectResolution)
	if err != nil {
		return false
	}
	defer p.fset.RemoveFile(p.fset.File(syntax.FileStart))
	files := p.syntax()
	files[slices.Index(p.files, changed)] = syntax
	_, err = p.config.Check(p.importPath, p.fset, files, nil)
	return err == nil
}
