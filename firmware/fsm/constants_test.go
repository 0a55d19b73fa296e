package fsm_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// files parses the package without its tests.
func files(t testing.TB) map[string]*ast.File {
	t.Helper()
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	parsed := map[string]*ast.File{}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			parsed[name], err = parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
		}
	}
	return parsed
}

// inputKinds lists the kinds of inputs in the order of the source.
func inputKinds(t testing.TB) (kinds []fsm.InputKind) {
	for _, c := range constants(t, "InputKind") {
		kinds = append(kinds, fsm.InputKind(c.value))
	}
	return kinds
}

type constant struct{ name, value string }

// constants returns the string constants of a type, in the order of the source.
func constants(t testing.TB, typ string) (found []constant) {
	t.Helper()
	parsed := files(t)
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		f := parsed[name]
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || v.Type == nil || len(v.Values) != 1 {
				return true
			}
			name, ok := v.Type.(*ast.Ident)
			text, isText := v.Values[0].(*ast.BasicLit)
			if ok && isText && name.Name == typ {
				value, err := strconv.Unquote(text.Value)
				require.NoError(t, err)
				found = append(found, constant{v.Names[0].Name, value})
			}
			return true
		})
	}
	require.NotEmpty(t, found, typ)
	return found
}
