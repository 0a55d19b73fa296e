package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// repository makes a repository of three modules the working directory.
func repository(t *testing.T, change map[string]string) {
	t.Helper()
	files := map[string]string{
		"LICENSE":         "do as you like\n",
		"go.mod":          "module example.test/r\n\ngo 1.26\n",
		"internal/x/x.go": "package x\n\nconst Version = `of the tree`\n",
		"go.work":         "go 1.26\n\nuse (\n\t.\n\t./a\n\t./b/c\n)\n",
		"a/go.mod":        "module example.test/r/a\n\ngo 1.26\n\nrequire (\n\texample.test/r v0.3.0\n\texample.test/r/b/c v0.3.0\n)\n",
		"a/main.go":       "package main\n\nimport (\n\t\"example.test/r/b/c\"\n\t\"fmt\"\n)\n\nfunc main() { fmt.Println(c.Version) }\n",
		"b/c/go.mod":      "module example.test/r/b/c\n\ngo 1.26\n\nrequire example.test/r v0.3.0\n",
		"b/c/c.go":        "package c\n\nimport \"example.test/r/internal/x\"\n\nconst Version = x.Version\n",
	}
	for name, text := range change {
		files[name] = text
	}
	t.Chdir(t.TempDir())
	out, err := exec.Command("git", "init", "-q").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
}

func TestCommand(t *testing.T) {
	repository(t, nil)
	var stdout, stderr bytes.Buffer
	for _, command := range [][]string{
		{"go", "-C", "a", "run", "."},
		{"go", "run", "example.test/r/a@v0.3.0"},
	} {
		stdout.Reset()
		require.NoError(t, run(command, &stdout, &stderr), "%s", &stderr)
		require.Equal(t, "of the tree\n", stdout.String())
	}
	var exit *exec.ExitError
	require.ErrorAs(t, run([]string{"go", "no-such-command"}, &stdout, &stderr), &exit)
}

func TestTidy(t *testing.T) {
	repository(t, map[string]string{"b/c/c.go": "package c\n\nconst Version = `its own`\n"})
	var stdout, stderr bytes.Buffer
	require.NoError(t, run([]string{"-tidy"}, &stdout, &stderr), "%s", &stderr)
	text, err := os.ReadFile("b/c/go.mod")
	require.NoError(t, err)
	require.Equal(t, "module example.test/r/b/c\n\ngo 1.26\n", string(text))
	text, err = os.ReadFile("a/go.sum")
	require.NoError(t, err)
	require.Empty(t, string(text), "sums of the tree itself change with each commit")
}

func TestVersions(t *testing.T) {
	repository(t, map[string]string{"b/c/go.mod": "module example.test/r/b/c\n\ngo 1.26\n\nrequire example.test/r v0.2.0\n"})
	require.ErrorContains(t, run([]string{"true"}, nil, nil), "the modules of one release have one version")
	repository(t, map[string]string{"go.mod": "module example.test/r\n\ngo 1.26\n\nrequire example.test/r/a v0.3.0\n"})
	require.ErrorContains(t, run([]string{"true"}, nil, nil), "in a circle")
	require.ErrorContains(t, run(nil, nil, &bytes.Buffer{}), "either -tidy or a command")
}
