package otago_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An eventName is a constant that names a line of the journal.
type eventName struct{ constant, value, doc string }

// TestEventNames holds the names of the journal's lines together: the constants of firmware/fsm and
// firmware, the code that writes lines, the table in doc/events.md, and what documents show.
func TestEventNames(t *testing.T) {
	workspace(t)
	machine, manager := eventNames(t, "firmware/fsm/journal.go"), eventNames(t, "firmware/words.go")
	names := slices.Concat(manager, machine)
	values, constants := map[string]string{}, map[string]bool{}
	for _, n := range names {
		require.Regexp(t, "^[a-z]+(_[a-z]+)*$", n.value, n.constant)
		require.Empty(t, values[n.value], "%s and %s have one value", n.constant, values[n.value])
		require.NotEmpty(t, n.doc, n.constant)
		values[n.value], constants[n.constant] = n.constant, true
	}

	repeated := selectors(t, "firmware/words.go")
	for _, n := range machine {
		require.True(t, slices.Contains(repeated, n.constant), "firmware/words.go lacks %s", n.constant)
	}

	written := map[string]bool{}
	for _, dir := range []string{"firmware/fsm", "firmware"} {
		for _, name := range writtenEvents(t, dir) {
			require.True(t, constants[name], "%s writes a line %q, which is no Event constant", dir, name)
			written[name] = true
		}
	}
	for _, n := range names {
		require.True(t, written[n.constant], "no code writes %s", n.constant)
	}

	var table strings.Builder
	table.WriteString(`# Events

Each line of the journal of an update has one of these names: ` + "`Event.Name`" + ` in Go, ` + "`event`" + ` in the HTTP API. The
constants are in package ` + "`firmware`" + `. This table is made from their documentation by ` + "`go test -run TestEventNames -update .`" + `

| name | constant | meaning |
|---|---|---|
`)
	for _, n := range names {
		table.WriteString("| `" + n.value + "` | `" + n.constant + "` | " + n.doc + " |\n")
	}
	golden(t, "doc/events.md", table.String())

	shown := regexp.MustCompile(`(?:"event": ?|^event: ?|Event constants[\w ]*, such as )"([a-z_]+)"`)
	files, err := exec.Command("git", "ls-files", "*.md", "*doc.go", "firmware/*.go", "store/*.go").Output()
	require.NoError(t, err)
	found := 0
	for file := range strings.FieldsSeq(string(files)) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, word := range shown.FindAllStringSubmatch(string(text), -1) {
			require.NotEmpty(t, values[word[1]], "%s shows an event %q, which does not exist", file, word[1])
			found++
		}
	}
	require.GreaterOrEqual(t, found, 2, "documents show events")
}

// eventNames returns the Event constants that a file declares with a value of their own.
func eventNames(t *testing.T, path string) (names []eventName) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	require.NoError(t, err)
	shared := ""
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Event") {
			return true
		}
		name := eventName{constant: spec.Names[0].Name}
		switch value := spec.Values[0].(type) {
		case *ast.BasicLit:
			name.value, err = strconv.Unquote(value.Value)
			require.NoError(t, err)
		case *ast.CallExpr: // string(OutcomeFailed)
			outcome := value.Args[0].(*ast.Ident).Name
			name.value = outcomes[outcome]
		default:
			return true // one of another package
		}
		if spec.Doc != nil {
			shared = strings.Join(strings.Fields(spec.Doc.Text()), " ")
			var ok bool
			_, shared, ok = strings.Cut(shared, ": ")
			require.True(t, ok, "the documentation of %s is not NAME: MEANING", name.constant)
			shared = strings.ReplaceAll(strings.ReplaceAll(shared, "[", ""), "]", "")
		}
		name.doc = strings.ToUpper(shared[:1]) + shared[1:]
		names = append(names, name)
		return true
	})
	require.NotEmpty(t, names, path)
	return names
}

var outcomes = map[string]string{
	"OutcomeSucceeded": "succeeded", "OutcomeRolledBack": "rolled_back", "OutcomeFailed": "failed",
	"OutcomeCancelled": "cancelled", "OutcomeTimedOut": "timed_out",
}

// selectors lists the names of other packages that a file uses.
func selectors(t *testing.T, path string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			names = append(names, s.Sel.Name)
		}
		return true
	})
	return names
}

// writtenEvents lists what names the lines that the code of a directory writes: the first argument
// of log, the second of eventOf, the field Event of an Entry, and the values of endEvents.
func writtenEvents(t *testing.T, dir string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(dir + "/*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		require.NoError(t, err)
		add := func(e ast.Expr) {
			switch e := e.(type) {
			case *ast.Ident:
				names = append(names, e.Name)
			case *ast.IndexExpr: // endEvents[outcome]
			case *ast.SelectorExpr: // of an Entry that has its name already
				require.Equal(t, "Event", e.Sel.Name, fset.Position(e.Pos()))
			default:
				require.Fail(t, "a line of the journal has a name that is no constant", fset.Position(e.Pos()))
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return n.Name.Name != "log" && n.Name.Name != "line" && n.Name.Name != "eventOf" // which take any name
			case *ast.CallExpr:
				fun := ""
				switch f := n.Fun.(type) {
				case *ast.SelectorExpr:
					if x, ok := f.X.(*ast.Ident); ok && x.Name == "m" {
						fun = f.Sel.Name
					}
				case *ast.Ident:
					fun = f.Name
				}
				if (fun == "log" || fun == "line") && dir == "firmware/fsm" {
					add(n.Args[0])
				}
				if fun == "eventOf" {
					add(n.Args[1])
				}
			case *ast.CompositeLit:
				for _, element := range n.Elts {
					pair, ok := element.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					if key, ok := pair.Key.(*ast.Ident); ok && key.Name == "Event" && isEntry(n.Type) {
						add(pair.Value)
					}
				}
			case *ast.ValueSpec:
				if n.Names[0].Name == "endEvents" {
					for _, pair := range n.Values[0].(*ast.CompositeLit).Elts {
						add(pair.(*ast.KeyValueExpr).Value)
					}
				}
			}
			return true
		})
	}
	return names
}

// isEntry reports whether a literal is an fsm.Entry. In a slice of them the type is left out.
func isEntry(e ast.Expr) bool {
	switch e := e.(type) {
	case nil:
		return true
	case *ast.Ident:
		return e.Name == "Entry"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Entry"
	default:
		return false
	}
}

// TestJournalsInDocuments: a sample of a journal in a document, which is indented by four spaces,
// has only events that exist.
func TestJournalsInDocuments(t *testing.T) {
	list, err := os.ReadFile("doc/events.md")
	require.NoError(t, err)
	files, err := filepath.Glob("doc/*.md")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^    ([a-z_]+)  `)
	samples := 0
	for _, name := range append(files, "README.md", "ARCHITECTURE.md") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, found := range line.FindAllStringSubmatch(string(text), -1) {
			samples++
			require.Contains(t, string(list), "| `"+found[1]+"` |", name)
		}
	}
	require.NotZero(t, samples)
}
