package otago_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// commentWidth is the widest line of a comment, in columns; a tab counts as four.
const commentWidth = 100

// wordsThatGo are words and phrases that a reader stumbles over, and that plain English has better
// ones for: again, no one, the one who, reported.
var wordsThatGo = regexp.MustCompile(`(?i)\b(anew|nobody|whoever|told|in vain|what is to be|let(s|ting)? go (of|what))\b`)

// TestStyle reads the comments of all Go files, and the documents.
func TestStyle(t *testing.T) {
	for _, path := range sources(t) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		if strings.HasSuffix(path, ".md") {
			for i, line := range strings.Split(string(src), "\n") {
				noWord(t, path, i+1, line)
			}
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, src, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		lines := strings.Split(string(src), "\n")
		for _, group := range f.Comments {
			for _, c := range group.List {
				if path == "style_test.go" || strings.HasPrefix(c.Text, "//go:") {
					continue
				}
				at := set.Position(c.Pos())
				noWord(t, path, at.Line, c.Text)
				line := strings.ReplaceAll(lines[at.Line-1], "\t", "    ")
				whole := strings.HasPrefix(strings.TrimSpace(line), "//")
				code := strings.HasPrefix(c.Text, "//\t") || strings.Contains(group.Text(), "Output:")
				if whole && !code && utf8.RuneCountInString(line) > commentWidth && strings.Count(c.Text, " ") > 1 {
					t.Errorf("%s:%d: the comment is wider than %d columns", path, at.Line, commentWidth)
				}
			}
		}
	}
}

func noWord(t *testing.T, path string, line int, text string) {
	if word := wordsThatGo.FindString(text); word != "" {
		t.Errorf("%s:%d: %q: say it in plainer words", path, line, word)
	}
}

// sources returns the Go files and documents of the module.
func sources(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go", filepath.Ext(path) == ".md":
			paths = append(paths, path)
		}
		return nil
	})
	require.NoError(t, err)
	return paths
}
