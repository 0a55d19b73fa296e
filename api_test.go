package otago_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// budgets bound the types, functions and methods of packages, by path below the module. A new name
// within the budget is a reviewed line of a golden file, one beyond it a decision about the budget.
// Packages that share a budget are named together. Constants and variables are listed in the golden
// files, and not counted.
var budgets = map[string]int{
	"lwm2m":                     217,
	"firmware/fsm":              84,
	"firmware, firmware/device": 137,
}

// TestAPI compares the exported API of each package with its file in api: one line for each
// constant, variable, type, field, function and method, as in the api directory of Go itself.
func TestAPI(t *testing.T) {
	counted := map[string]int{}
	listed := map[string]bool{}
	for _, path := range importable(t) {
		lines, count := exportedAPI(t, path)
		counted[path] = count
		name := strings.ReplaceAll(path, "/", "-") + ".txt"
		listed[name] = true
		golden(t, filepath.Join("api", name), strings.Join(lines, ""))
		for _, line := range lines {
			require.NotContains(t, line, "cfg ", "a parameter that is a configuration is named config")
		}
	}
	files, err := os.ReadDir("api")
	require.NoError(t, err)
	for _, f := range files {
		require.True(t, listed[f.Name()], "api/%s has no package: delete it", f.Name())
	}
	for paths, budget := range budgets {
		sum := 0
		for path := range strings.SplitSeq(paths, ", ") {
			sum += counted[path]
		}
		t.Logf("%s: %d of %d", paths, sum, budget)
		if sum > budget {
			t.Errorf("%s export %d types, functions and methods; the budget is %d", paths, sum, budget)
		}
	}
}

// importable returns the paths of the packages that other modules can import, and that are no
// program.
func importable(t *testing.T) (paths []string) {
	for importPath := range listDeps(t) {
		path, ours := below(importPath)
		if !ours || path == "" || path == "firmware/console/browsertest" || strings.HasPrefix(path, "examples/") || slices.Contains(strings.Split(path, "/"), "internal") {
			continue
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// exportedAPI returns the lines of a package, sorted, and how many types, functions and methods
// they are.
func exportedAPI(t *testing.T, path string) (lines []string, count int) {
	t.Helper()
	system := build.Default
	system.GOOS, system.GOARCH = "linux", "amd64" // the files are the same wherever the test runs
	dir, err := system.ImportDir(filepath.FromSlash(path), 0)
	require.NoError(t, err)
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range dir.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(dir.Dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, module+"/"+path)
	require.NoError(t, err)
	a := api{set: set, name: dir.Name}
	a.values(p.Consts, p.Vars)
	a.funcs("", p.Funcs)
	for _, typ := range p.Types {
		a.values(typ.Consts, typ.Vars)
		a.funcs("", typ.Funcs)
		a.typ(typ.Decl.Specs[0].(*ast.TypeSpec))
		a.funcs(typ.Name, typ.Methods)
	}
	slices.Sort(a.lines)
	return a.lines, a.count
}

type api struct {
	set   *token.FileSet
	name  string
	lines []string
	count int
}

func (a *api) line(format string, args ...any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	a.lines = append(a.lines, text+"\n")
}

// source returns a node as it is written, without comments.
func (a *api) source(node any) string {
	var b bytes.Buffer
	_ = printer.Fprint(&b, a.set, node) // a node of a file that was parsed
	return b.String()
}

func (a *api) values(groups ...[]*doc.Value) {
	for _, v := range slices.Concat(groups...) {
		for _, spec := range v.Decl.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.IsExported() {
					a.line("%s %s", v.Decl.Tok, name.Name)
				}
			}
		}
	}
}

func (a *api) funcs(receiver string, funcs []*doc.Func) {
	for _, f := range funcs {
		if f.Level > 0 { // of a type that is embedded
			continue
		}
		a.count++
		signature := strings.TrimPrefix(a.source(f.Decl.Type), "func")
		if receiver == "" {
			a.line("func %s%s", f.Name, signature)
		} else {
			a.line("method (%s) %s%s", f.Recv, f.Name, signature)
		}
	}
}

func (a *api) parameters(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var params []string
	for _, p := range list.List {
		for _, name := range p.Names {
			params = append(params, name.Name+" "+a.source(p.Type))
		}
	}
	return "[" + strings.Join(params, ", ") + "]"
}

func (a *api) typ(spec *ast.TypeSpec) {
	a.count++
	name := spec.Name.Name + a.parameters(spec.TypeParams)
	switch underlying := spec.Type.(type) {
	case *ast.StructType:
		a.line("type %s struct", name)
		a.fields(name, "struct", underlying.Fields)
	case *ast.InterfaceType:
		a.line("type %s interface", name)
		a.fields(name, "interface", underlying.Methods)
	default:
		equals := ""
		if spec.Assign.IsValid() {
			equals = "= "
		}
		a.line("type %s %s%s", name, equals, a.source(spec.Type))
	}
}

func (a *api) fields(of, kind string, list *ast.FieldList) {
	for _, f := range list.List {
		f.Doc, f.Comment = nil, nil
		if len(f.Names) == 0 {
			a.line("type %s %s, %s", of, kind, a.source(f.Type))
		}
		for _, name := range f.Names {
			if name.IsExported() {
				typ := a.source(f.Type)
				if kind == "interface" {
					typ = strings.TrimPrefix(typ, "func")
				}
				a.line("type %s %s, %s %s", of, kind, name.Name, typ)
			}
		}
	}
}
