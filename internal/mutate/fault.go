package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A fault is a planted fault, with the test that must find it. Its file is like this one:
//
//	# The server forgets that it has executed the package.
//	invariant: 3
//	package: ./firmware/fsm
//	test: ^TestModel$
//	flags: -faults=1
//	expect: the outcome is one of
//	file: firmware/fsm/judge.go
//	replace:
//		case m.Memory.Executed:
//	with:
//		case m.Memory.Executed && false:
//
// The test is a regular expression for -run; package and file are relative to the working
// directory. The text after replace: must occur once in the file, and may begin and end within
// lines; the text after with: may be empty. Further lines file:, replace: and with: may follow for
// further changes. flags: may be missing, and so may invariant: if -invariants is not given. The
// flags are those of the package's test, and those of go test that do not concern the build.
type fault struct {
	name      string // of its file
	why       string
	invariant int
	pkg       string
	test      string
	flags     []string
	expect    string
	changes   []change
}

type change struct {
	file, replace, with string
	complete            bool // with: was read
}

// readFaults reads the faults in a directory, or one file.
func readFaults(path string) ([]*fault, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("planted faults: %w", err)
	}
	names := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		names = nil
		for _, entry := range entries {
			if entry.Type().IsRegular() && !strings.HasPrefix(entry.Name(), ".") {
				names = append(names, filepath.Join(path, entry.Name()))
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no planted faults", path)
	}
	var faults []*fault
	var problems []error
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := parseFault(filepath.Base(name), string(text))
		problems = append(problems, err)
		faults = append(faults, f)
	}
	return faults, errors.Join(problems...)
}

func parseFault(name, text string) (*fault, error) {
	f := &fault{name: strings.TrimSuffix(name, filepath.Ext(name))}
	var c *change    // begun by the last file:
	var into *string // destination of source lines, after replace: and with:
	number := 0
	for line := range strings.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		number++
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		bad := func(problem string) (*fault, error) { return nil, fmt.Errorf("%s:%d: %s", name, number, problem) }
		switch {
		case line == "replace:":
			if c == nil || c.replace != "" {
				return bad("replace: follows file:")
			}
			into = &c.replace
			continue
		case line == "with:":
			if c == nil || c.replace == "" || into != &c.replace {
				return bad("with: follows the text of replace:")
			}
			into, c.complete = &c.with, true
			continue
		case key == "file" && (into == nil || into == &c.with):
			f.changes = append(f.changes, change{file: value})
			c, into = &f.changes[len(f.changes)-1], nil
			continue
		case into != nil:
			*into += line + "\n"
			continue
		}
		switch {
		case strings.HasPrefix(line, "#"):
			f.why = strings.TrimSpace(f.why + " " + strings.TrimSpace(line[1:]))
		case line == "":
		case key == "invariant":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return bad("an invariant is a number from 1")
			}
			f.invariant = n
		case key == "package":
			f.pkg = value
		case key == "test":
			if _, err := regexp.Compile(value); err != nil {
				return bad(err.Error())
			}
			f.test = value
		case key == "flags":
			f.flags = append(f.flags, testFlags(strings.Fields(value))...)
		case key == "expect":
			f.expect = value
		default:
			return bad(fmt.Sprintf("there is no %q: a fault has invariant, package, test, flags, expect, file, replace and with", key))
		}
	}
	for i := range f.changes {
		c := &f.changes[i]
		c.replace, c.with = strings.Trim(c.replace, "\n"), strings.Trim(c.with, "\n")
		if c.file == "" || c.replace == "" || !c.complete || c.replace == c.with {
			return nil, fmt.Errorf("%s: a change lacks its file, the text to replace, or another text to replace it with", name)
		}
	}
	if f.why == "" || f.pkg == "" || f.test == "" || f.expect == "" || len(f.changes) == 0 {
		return nil, fmt.Errorf("%s: a fault needs a sentence (#), package, test, expect, file, replace and with", name)
	}
	return f, nil
}

// testFlags turns flags of go test into those of the test binary.
func testFlags(flags []string) []string {
	out := slices.Clone(flags)
	for i, flag := range flags {
		name, value, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		if strings.HasPrefix(flag, "-") && slices.Contains([]string{"count", "cpu", "failfast", "parallel", "short", "shuffle", "skip", "v"}, name) {
			out[i] = "-test." + name
			if value != "" {
				out[i] += "=" + value
			}
		}
	}
	return out
}

// apply returns the changed texts of the fault's files, or an error that says why the fault does
// not apply.
func (f *fault) apply(dir string) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, c := range f.changes {
		path := filepath.Join(dir, filepath.FromSlash(c.file))
		text, ok := texts[path]
		if !ok {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return nil, err
			}
		}
		switch n := bytes.Count(text, []byte(c.replace)); n {
		case 0:
			return nil, fmt.Errorf("%s has no such text", c.file)
		case 1:
			texts[path] = bytes.Replace(text, []byte(c.replace), []byte(c.with), 1)
		default:
			return nil, fmt.Errorf("%s has that text %d times", c.file, n)
		}
	}
	return texts, nil
}
