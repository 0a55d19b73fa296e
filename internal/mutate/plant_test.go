package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPlanted plants a fault for each result.
func TestPlanted(t *testing.T) {
	t.Parallel()
	head := "# It doubles wrongly.\n#  Much.\ninvariant: 1\npackage: ./p\ntest: ^TestTwice$\n"
	dir := tree(t, map[string]string{
		"p/p.go": "package p\n\nfunc Twice(x int) int {\n\treturn x + x\n}\n\nfunc Zero() int {\n\treturn 0\n}\n",
		"p/p_test.go": `package p

import (
	"flag"
	"testing"
)

var with = flag.Int("with", 0, "")

func TestTwice(t *testing.T) {
	if Twice(*with) != 2**with {
		t.Error("twice is double")
	}
}

func TestBroken(t *testing.T) { t.Error("always") }
`,
		"faults/a-found.txt":     head + "flags: -v -with=3\nexpect: twice is double\nfile: p/p.go\nreplace:\n\treturn x + x\n}\nwith:\n\treturn x + 1\n}\n\n",
		"faults/b-lost.txt":      head + "expect: twice is double\nfile: p/p.go\nreplace:\nx + x\nwith:\nx + 0\n",
		"faults/c-absent.txt":    head + "expect: twice is double\nfile: p/p.go\nreplace:\nx - x\nwith:\nx\n",
		"faults/d-twice.txt":     head + "expect: twice is double\nfile: p/p.go\nreplace:\n\treturn\nwith:\n",
		"faults/e-malformed.txt": head + "expect: twice is double\nfile: p/p.go\nreplace:\nx + x\nwith:\n",
		"faults/f-elsewhere.txt": head + "flags: -with=3\nexpect: something else\nfile: p/p.go\nreplace:\nx + x\nwith:\nx\n",
		"faults/g-unsound.txt":   strings.Replace(head, "TestTwice", "TestBroken", 1) + "expect: always\nfile: p/p.go\nreplace:\nx + x\nwith:\nx\n",
		"faults/h-nameless.txt":  strings.Replace(head, "TestTwice", "TestNone", 1) + "expect: always\nfile: p/p.go\nreplace:\nx + x\nwith:\nx\n",
		"faults/i-hangs.txt":     head + "expect: twice is double\nfile: p/p.go\nreplace:\n\treturn x + x\nwith:\n\tfor {\n\t}\n",
		"good/one.txt":           head + "expect: index out of range\nfile: p/p.go\nreplace:\nx + x\nwith:\n[]int{}[x]\nfile: p/p.go\nreplace:\nreturn 0\nwith:\nreturn 1\n",
		"good/.hidden":           "not a fault",
	})
	out, err := mutate(t, dir, "-faults", "faults", "-invariants", "2", "-j", "2")
	require.ErrorIs(t, err, errFound)
	require.ErrorContains(t, err, "invariant 2 has no planted fault; 8 of 9 planted faults are not found as they should be")
	table, details, _ := strings.Cut(out, "\n\n")
	require.Equal(t, strings.TrimSpace(`
fault invariant test seconds verdict
a-found 1 ^TestTwice$ S found
b-lost 1 ^TestTwice$ S not found
c-absent 1 ^TestTwice$ S does not apply
d-twice 1 ^TestTwice$ S does not apply
e-malformed 1 ^TestTwice$ S does not compile
f-elsewhere 1 ^TestTwice$ S found by something else
g-unsound 1 ^TestBroken$ S the test does not pass without the fault
h-nameless 1 ^TestNone$ S the test does not pass without the fault
i-hangs 1 ^TestTwice$ S found by something else
`), regexp.MustCompile(` \d+\.\d `).ReplaceAllString(regexp.MustCompile(` +`).ReplaceAllString(table, " "), " S "))
	for _, want := range []string{
		"b-lost: not found\nIt doubles wrongly. Much.\nIt expects: twice is double\n",
		"p/p.go has no such text",
		"p/p.go has that text 2 times",
		"twice is double\nFAIL\n",
		"No test has that name.",
		"The time was up after ",
	} {
		require.Contains(t, details, want)
	}

	out, err = mutate(t, dir, "-faults", "good", "-invariants", "1")
	require.NoError(t, err)
	require.Contains(t, out, "all 1 planted faults are found\n")

	_, err = mutate(t, dir, "-faults", "none")
	require.ErrorContains(t, err, "planted faults: ")
	require.NotErrorIs(t, err, errFound)
	_, err = mutate(t, dir, "-faults", "p", "-invariants", "1")
	require.ErrorContains(t, err, "p.go:1: ")
}

func TestParseFault(t *testing.T) {
	good := "# Why.\npackage: ./p\ntest: TestX\nexpect: words\nfile: p/p.go\nreplace:\n\ta\n\n\tb\nwith:\n\tc\n"
	f, err := parseFault("one.txt", good)
	require.NoError(t, err)
	require.Equal(t, &fault{
		name: "one", why: "Why.", pkg: "./p", test: "TestX", expect: "words",
		changes: []change{{"p/p.go", "\ta\n\n\tb", "\tc", true}},
	}, f)
	f, err = parseFault("one.txt", strings.Replace(good, "expect:", "flags: -short -with 3 -test.v -count=2\ninvariant: 4\nexpect:", 1))
	require.NoError(t, err)
	require.Equal(t, []string{"-test.short", "-with", "3", "-test.v", "-test.count=2"}, f.flags)
	require.Equal(t, 4, f.invariant)

	for change, want := range map[[2]string]string{
		{"# Why.", ""}:                   "one.txt: a fault needs",
		{"TestX", "("}:                   "one.txt:3: error parsing regexp",
		{"expect", "expects"}:            `one.txt:4: there is no "expects"`,
		{"expect: words", "invariant:0"}: "one.txt:4: an invariant is a number from 1",
		{"file: p/p.go\n", ""}:           "one.txt:5: replace: follows file:",
		{"replace:\n\ta\n\n\tb\n", ""}:   "one.txt:6: with: follows the text of replace:",
		{"\tc", "\ta\n\n\tb"}:            "one.txt: a change lacks",
		{"with:\n\tc\n", ""}:             "one.txt: a change lacks",
	} {
		_, err := parseFault("one.txt", strings.Replace(good, change[0], change[1], 1))
		require.ErrorContains(t, err, want)
	}
}
