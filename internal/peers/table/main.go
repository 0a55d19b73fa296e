// Command table makes a table of peers from the output of "go test -json", and prints what go test
// would print without -json:
//
//	go test -json work | go run ./internal/peers/table INTEROP.md
//
// It fails if a test failed, or if the table in the file differs; with -update it writes the file.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/otago-iot/otago/internal/peers"
)

func main() {
	update := flag.Bool("update", false, "write the file")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, flag.Arg(0), *update); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, path string, update bool) error {
	rows, failed, err := read(in, out)
	switch {
	case err != nil:
		return err
	case failed:
		return errors.New("tests failed")
	}
	table := render(rows)
	if update {
		return os.WriteFile(path, []byte(table), 0o644)
	}
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if text := strings.ReplaceAll(string(have), "\r\n", "\n"); text != table {
		return fmt.Errorf("%s does not say what ran:\n%swrite it with -update, and commit it", path, differences(text, table))
	}
	return nil
}

// An event is one line of go test -json; see "go doc test2json".
type event struct{ Action, Package, ImportPath, Test, Key, Value, Output string }

// Results of a row, the strongest last: one test that ran counts more than one that was skipped.
const (
	notRun = iota
	passed
	failed
)

var results = [...]string{notRun: "not run", passed: "passed", failed: "failed"}

// read collects the rows, and writes to out the lines of packages and the output of failed tests.
func read(in io.Reader, out io.Writer) (rows map[string]int, anyFailed bool, err error) {
	rows = map[string]int{}
	type test struct {
		output strings.Builder
		rows   []string
	}
	tests := map[string]*test{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return rows, anyFailed, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(out, "%s", line) // not from a test: output of the go command
			continue
		}
		if e.Test == "" {
			if e.Output != "PASS\n" {
				fmt.Fprint(out, e.Output)
			}
			anyFailed = anyFailed || e.Action == "fail" || e.Action == "build-fail"
			continue
		}
		name := e.Package + " " + e.Test
		t := tests[name]
		if t == nil {
			t = &test{}
			tests[name] = t
		}
		result := notRun
		switch e.Action {
		case "output":
			t.output.WriteString(e.Output)
			continue
		case "attr":
			if e.Key == peers.Attribute {
				t.rows = append(t.rows, e.Value)
			}
			continue
		case "pass":
			result = passed
		case "fail":
			anyFailed, result = true, failed
			fmt.Fprint(out, t.output.String())
		case "skip":
		default:
			continue
		}
		for _, row := range t.rows {
			rows[row] = max(rows[row], result)
		}
		delete(tests, name)
	}
}

const preamble = `# Interoperability

What ran against implementations of others, and how it ended: CI makes this table of the tests that ran (internal/peers), and fails
when the table differs from this one. Each line is one or more tests; the role is the peer's. "Recorded" messages are those that a
real client sent once.

`

func render(rows map[string]int) string {
	var b strings.Builder
	b.WriteString(preamble)
	b.WriteString("| peer | its role | transport | what | result |\n|---|---|---|---|---|\n")
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "| %s | %s |\n", row, results[rows[row]])
	}
	return b.String()
}

// differences returns the lines that only one of two texts has.
func differences(have, want string) string {
	var b strings.Builder
	one, other := strings.Split(have, "\n"), strings.Split(want, "\n")
	for _, line := range one {
		if !slices.Contains(other, line) {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	for _, line := range other {
		if !slices.Contains(one, line) {
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	return b.String()
}
