package otago_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sourceOf parses the files that match the patterns, without tests.
func sourceOf(t *testing.T, patterns ...string) (files []*ast.File) {
	t.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, f)
		}
	}
	return files
}

// literal returns the value of a string literal, "" for another expression.
func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if text, err := strconv.Unquote(l.Value); err == nil {
			return text
		}
	}
	return ""
}

// constantsOf returns the string constants of a type, or with "" of any, whose names begin with
// prefix.
func constantsOf(t *testing.T, pattern, typ, prefix string) (found []string) {
	t.Helper()
	for _, f := range sourceOf(t, pattern) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
				return true
			}
			name, _ := spec.Type.(*ast.Ident)
			if text := literal(spec.Values[0]); text != "" && (typ == "" || name != nil && name.Name == typ) {
				found = append(found, text)
			}
			return true
		})
	}
	require.NotEmpty(t, found, pattern+typ+prefix)
	return found
}

// namesOf returns the texts of a variable: the keys of a map, or the elements of a list.
func namesOf(t *testing.T, pattern, variable string) (found []string) {
	t.Helper()
	for _, f := range sourceOf(t, pattern) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || spec.Names[0].Name != variable || len(spec.Values) != 1 {
				return true
			}
			for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok {
					e = pair.Key
				}
				found = append(found, literal(e))
			}
			return true
		})
	}
	require.NotEmpty(t, found, variable)
	return found
}

// sentencesOf returns the sentences in functions and variables of a file: literals with a blank.
func sentencesOf(t *testing.T, file string, names ...string) (found []string) {
	t.Helper()
	for _, f := range sourceOf(t, file) {
		for _, d := range f.Decls {
			name := ""
			switch d := d.(type) {
			case *ast.FuncDecl:
				name = d.Name.Name
			case *ast.GenDecl:
				if v, ok := d.Specs[0].(*ast.ValueSpec); ok {
					name = v.Names[0].Name
				}
			}
			if !slices.Contains(names, name) {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok && len(strings.Fields(literal(e))) > 2 {
					found = append(found, shown(literal(e)))
				}
				return true
			})
		}
	}
	require.NotEmpty(t, found, file)
	return found
}

// refusalsOf returns the texts of errors that wrap a category.
func refusalsOf(t *testing.T, patterns ...string) (found []string) {
	t.Helper()
	for _, f := range sourceOf(t, patterns...) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			if text, ok := strings.CutPrefix(literal(call.Args[0]), "%w: "); ok && text != "%w" {
				found = append(found, shown(strings.TrimSuffix(text, ": %w")))
			}
			return true
		})
	}
	require.NotEmpty(t, found)
	return found
}

// shown puts "..." in the place of what a sentence is completed with.
func shown(format string) string {
	text := regexp.MustCompile(`%[.0-9]*[a-z]`).ReplaceAllString(format, "...")
	if strings.HasSuffix(text, " ") {
		text += "..."
	}
	if strings.HasPrefix(text, " ") {
		text = "..." + text
	}
	return strings.TrimPrefix(strings.ReplaceAll(text, "%%", "%"), ", ")
}

// TestTroubleshooting compares the tables of doc/troubleshooting.md with the words of the code:
// each word that an operator can meet is explained, and none that there is not.
func TestTroubleshooting(t *testing.T) {
	data, err := os.ReadFile("doc/troubleshooting.md")
	require.NoError(t, err)
	page := string(data)
	waits := constantsOf(t, "firmware/fsm/waits.go", "", "wait")
	for i := range waits {
		waits[i] = shown(waits[i])
	}
	sentences := sentencesOf(t, "firmware/rollout/ask.go", "Describe", "ordered", "ends")
	sentences = append(sentences, sentencesOf(t, "firmware/rollout/fsm/promote.go", "tripText", "exhausted")...)
	sentences = append(sentences, sentencesOf(t, "firmware/rollout/fsm/step.go", "settle")...)
	for _, s := range sentencesOf(t, "firmware/rollout/create.go", "abandon") {
		if strings.HasPrefix(s, "its ") { // else it is for the log
			sentences = append(sentences, s)
		}
	}
	sentences = append(sentences, sentencesOf(t, "firmware/rollout/look.go", "draft")...)
	status, err := os.ReadFile("firmware/httpapi/status.go")
	require.NoError(t, err)
	var degraded []string
	for _, m := range regexp.MustCompile(`\b(?:add|stops)\("([a-z_]+)"`).FindAllStringSubmatch(string(status), -1) {
		degraded = append(degraded, m[1])
	}
	for heading, words := range map[string][]string{
		"What an update waits for":       waits,
		"Phases of an update":            constantsOf(t, "firmware/fsm/phase.go", "Phase", ""),
		"Reasons of updates":             constantsOf(t, "firmware/fsm/phase.go", "Reason", ""),
		"Results of devices":             namesOf(t, "firmware/fsm/state.go", "resultNames"),
		"What may still happen":          constantsOf(t, "firmware/fsm/update.go", "MayStill", ""),
		"Sentences of rollouts":          sentences,
		"Causes of rollouts":             constantsOf(t, "firmware/rollout/fsm/rollout.go", "Reason", ""),
		"Members that wait":              constantsOf(t, "firmware/rollout/fsm/member.go", "Waiting", ""),
		"Members that are skipped":       constantsOf(t, "firmware/rollout/fsm/member.go", "SkipReason", ""),
		"Registrations that are refused": refusalsOf(t, "lwm2m/server_register.go", "lwm2m/server_parameters.go", "lwm2m/server_identity.go", "lwm2m/server_claim.go", "lwm2m/server_room.go", "lwm2m/server_update.go", "lwm2m/registration_attributes.go"),
		"Problems of the API":            namesOf(t, "firmware/httpapi/problem.go", "titles"),
		"What is degraded":               degraded,
		"What is dropped":                constantsOf(t, "lwm2m/server_hooks.go", "", "Drop"),
	} {
		_, text, found := strings.Cut(page, "\n### "+heading+"\n")
		require.True(t, found, heading)
		text, _, _ = strings.Cut(text, "\n#")
		var explained []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
			explained = append(explained, m[1])
		}
		slices.Sort(words)
		require.ElementsMatch(t, slices.Compact(words), explained, "doc/troubleshooting.md, ### %s", heading)
	}
}
