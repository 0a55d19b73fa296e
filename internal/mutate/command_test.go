//go:build unix

package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCommand runs the command itself: the memory limit ends a program that takes all memory, and
// the exit status distinguishes weak tests from a command that failed.
func TestCommand(t *testing.T) {
	t.Parallel()
	command := filepath.Join(t.TempDir(), "mutate")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", command, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	head := "# It grows.\npackage: ./p\ntest: TestGrow\nexpect: out of memory\nfile: p/p.go\nreplace:\nn > len(b)\nwith:\n"
	dir := tree(t, map[string]string{
		"p/p.go":       "package p\n\nfunc Grow(n int) (b []byte) {\n\tfor n > len(b) {\n\t\tb = append(b, 1)\n\t}\n\treturn b\n}\n",
		"p/p_test.go":  "package p\n\nimport \"testing\"\n\nfunc TestGrow(t *testing.T) { Grow(1) }\n",
		"endless.txt":  head + "true\n",
		"harmless.txt": head + "n+1 > len(b)\n",
	})
	status := func(args ...string) (int, string) {
		cmd := exec.CommandContext(t.Context(), command, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode(), string(out)
		}
		require.NoError(t, err)
		return 0, string(out)
	}
	got, text := status("-memory", "512", "-faults", "endless.txt")
	require.Equal(t, 0, got, text)
	got, text = status("-faults", "harmless.txt")
	require.Equal(t, 1, got, text)
	require.Contains(t, text, "not found")
	got, text = status("-faults", "none")
	require.Equal(t, 2, got, text)
	got, text = status()
	require.Equal(t, 2, got, text)
	require.Contains(t, text, "usage: mutate")
}
