package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCulprit parses test names from output.
func TestCulprit(t *testing.T) {
	for output, want := range map[string]string{
		"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n    --- FAIL: TestA/y (0.00s)\n--- FAIL: TestB (0.00s)\nFAIL\n": "TestA/x",
		"some log\npanic: no\n\ngoroutine 1 [running]:\n":                                                                        "panic: no",
		"FAIL\n": "its exit status",
	} {
		require.Equal(t, want, result{output: output}.culprit())
	}
}

// TestExcerpt extracts the culprit's part of a long output, and its end.
func TestExcerpt(t *testing.T) {
	output := "--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n" + strings.Repeat("\tlog\n", 99) + "\tthe error\n    --- FAIL: TestA/y (0.00s)\n\tmore\nFAIL\n"
	require.Equal(t, "    --- FAIL: TestA/x (0.00s)\n\t…\n"+strings.Repeat("\tlog\n", 19)+"\tthe error", strings.Trim(result{output: output}.excerpt(), "\n"))
	require.Equal(t, "panic: no", result{output: "panic: no\n"}.excerpt())
}

// TestRunLeavesNothing checks that a test ends at its time-out, even in a busy loop, and that its
// directory is removed.
func TestRunLeavesNothing(t *testing.T) {
	dir := tree(t, map[string]string{
		"p/p.go":      "package p\n",
		"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestEndless(t *testing.T) { t.TempDir(); for {} }\n",
	})
	tester, err := newTester(environment{dir: dir})
	require.NoError(t, err)
	b, err := tester.build(t.Context(), "./p", "")
	require.NoError(t, err)
	r, err := tester.run(t.Context(), b, dir, "", 200*time.Millisecond)
	require.NoError(t, err)
	require.True(t, r.failed)
	require.True(t, r.timedOut)
	require.Contains(t, r.output, "test timed out after 200ms")
	b.remove()
	left, err := os.ReadDir(tester.tmp)
	require.NoError(t, err)
	require.Empty(t, left)
	tester.close()
	require.NoDirExists(t, tester.tmp)
}
