package otago_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme holds the README's server, device and rollout to the ones that compile.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	for _, name := range []string{"server", "sensor", "fleet"} {
		m := regexp.MustCompile(`(?s)\nfunc ` + name + `\(.*?\) error \{\n(.*?)\n\}\n`).FindSubmatch(source)
		require.NotNil(t, m, name)
		body := strings.ReplaceAll("\n"+string(m[1]), "\n\t", "\n")
		require.Contains(t, string(readme), "```go"+body+"\n```\n", "the README's %s is not the one of example_test.go", name)
	}
}

// TestReadmeNamesWhatThereIs holds the flags and the calls that the README names to those that
// there are.
func TestReadmeNamesWhatThereIs(t *testing.T) {
	workspace(t)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	options, err := os.ReadFile("examples/server/options.go")
	require.NoError(t, err)
	client, err := os.ReadFile("examples/client/options.go")
	require.NoError(t, err)
	known := string(options) + string(client)
	for _, line := range regexp.MustCompile(`(?m)^go run \./examples/(?:server|client) -.*$`).FindAllString(string(readme), -1) {
		for _, m := range regexp.MustCompile(` -([a-z][a-z0-9-]+)`).FindAllStringSubmatch(line, -1) {
			require.Contains(t, known, `"`+m[1]+`"`, "-%s of %q is no flag", m[1], line)
		}
	}
}

// TestGuides: each Go snippet of a guide in doc is part of a Go file, so that it compiles.
// Comments, empty lines and indentation do not count.
func TestGuides(t *testing.T) {
	workspace(t)
	flat := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "// ")
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	var code []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			var text []byte
			text, err = os.ReadFile(path)
			code = append(code, flat(string(text)))
		}
		return err
	}))
	guides, err := filepath.Glob("doc/*.md")
	require.NoError(t, err)
	snippets := 0
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			snippets++
			snippet := flat(m[1])
			if !slices.ContainsFunc(code, func(file string) bool { return strings.Contains(file, snippet) }) {
				t.Errorf("%s has a snippet that is in no Go file:\n%s", guide, m[1])
			}
		}
	}
	require.NotZero(t, snippets)
}

// TestGuidesName: a link of a guide whose text is code, as [`Start`](../firmware/manager.go), leads
// to a file. If that is a Go file, it declares a function, method, type or value of that name.
func TestGuidesName(t *testing.T) {
	workspace(t)
	guides, err := filepath.Glob("doc/*.md")
	require.NoError(t, err)
	links := 0
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("\\[`(\\w+)`\\]\\(([^):#]+)\\)").FindAllStringSubmatch(string(text), -1) {
			links++
			code, err := os.ReadFile(filepath.Join("doc", m[2]))
			if err != nil {
				t.Errorf("%s: %v", guide, err)
				continue
			}
			declared := regexp.MustCompile(`(?m)^((func (\([^)]*\) )?|type |var |const |\t)` + m[1] + `\b)`)
			if strings.HasSuffix(m[2], ".go") && !declared.Match(code) {
				t.Errorf("%s: %s does not declare %s", guide, m[2], m[1])
			}
		}
	}
	require.Greater(t, links, 40)
}
